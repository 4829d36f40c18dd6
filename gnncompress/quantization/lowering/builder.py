"""Writes a program while a model is walked through: quantizers become roundings, layers products and sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gnncompress.errors import QuantizationError
from gnncompress.quantization.lowering.known import UnloweredError
from gnncompress.quantization.lowering.values import STORED, Codes, Floats, Sum, fit_codes, fit_values, stored
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.quantization.weights import QuantizedWeight
from gnncompress.runtime.aggregation import Edges, Pool, PoolLargest
from gnncompress.runtime.arrays import numbers
from gnncompress.runtime.floating import Call, Rows
from gnncompress.runtime.operations import Add, Linear, LookUp, Quantize, Rescale, Values
from gnncompress.runtime.program import Operation, Place
from gnncompress.runtime.rounding import (
    HIGH,
    HIGH_2,
    LOW,
    LOW_2,
    MINUS_ZERO,
    OTHER,
    SCALE,
    SCALE_2,
    SHIFT,
    SHIFT_2,
)
from gnncompress.runtime.vectors import padded

Value = Codes | Floats | Sum
Mark = tuple[int, dict[str, str], dict[str, Place], Counter[str]]
# A product of so many codes fits into 32 bits: 128 x 255 each, their own zero points counted.
MOST_INPUTS = (2**31 - 1) // (128 * 256)


def _no_networks(builder: Builder, module: nn.Module, name: str, value: Value) -> Value:
    raise UnloweredError("it has a network of its own")


class Builder:
    """The program so far. Registers are called after the quantizers that make them."""

    def __init__(self, model: nn.Module) -> None:
        self.operations: list[Operation] = []
        self.floats: dict[str, str] = {}
        # Adds what a network within a layer does: (builder, network, name, value) -> value.
        self.follow: Callable[[Builder, nn.Module, str, Value], Value] = _no_networks
        self._names: Counter[str] = Counter()
        self._edges: dict[tuple[str, str], str] = {}
        self._alike: dict[str, str] = {}  # registers of one name are known to have the same number of rows
        # Which value of the model a register holds: that of the n-th call of a quantizer or a module.
        self.stands_for: dict[str, Place] = {}
        self.calls: Counter[str] = Counter()
        self._paths = {id(module): path for path, module in model.named_modules()}

    def name(self, wanted: str) -> str:
        """Return ``wanted`` as the name of a register that there is not yet."""
        self._names[wanted] += 1
        return wanted if self._names[wanted] == 1 else f"{wanted}#{self._names[wanted]}"

    def add(self, operation: Operation) -> str:
        """Append an operation and return its register."""
        self.operations.append(operation)
        like = getattr(operation, operation.LIKE) if operation.LIKE else operation.out
        self._alike[operation.out] = self._alike.get(like, like)
        return operation.out

    def mark(self) -> Mark:
        """Return what ``forget`` goes back to."""
        return len(self.operations), dict(self.floats), dict(self.stands_for), Counter(self.calls)

    def forget(self, mark: Mark) -> None:
        """Take back all that was added since."""
        count, self.floats, self.stands_for = mark[0], dict(mark[1]), dict(mark[2])
        self.calls = Counter(mark[3])
        del self.operations[count:]
        made = {operation.out for operation in self.operations}
        self._edges = {key: register for key, register in self._edges.items() if register in made}

    def reached(self, quantizer: Quantizer, register: str) -> str:
        """Note that a register holds what the next call of a quantizer returns; return the register."""
        self.stands_for.setdefault(register, Place(quantizer.name, self.calls[quantizer.name]))
        self.calls[quantizer.name] += 1
        return register

    def passed_by(self, module: nn.Module) -> None:
        """Note that the quantizers within a module are called by the module itself."""
        self.calls.update(inner.name for inner in module.modules() if isinstance(inner, Quantizer))

    def reached_module(self, module: nn.Module, value: Value) -> Value:
        """Note that a value in floats is what the next call of a module returns; return the value."""
        path = self._paths[id(module)]
        if isinstance(value, Floats):
            self.stands_for.setdefault(value.register, Place(path, self.calls[path]))
        self.calls[path] += 1
        return value

    def edges(self, edge_index: str, like: str, name: str) -> str:
        """Return the register of the neighbours that an input tells of; layers with as many rows share it."""
        key = edge_index, self._alike.get(like, like)
        if key not in self._edges:
            self._edges[key] = self.add(Edges(self.name(f"{name}.edges"), edge_index, like))
        return self._edges[key]

    def quantized(self, value: Value, quantizer: Quantizer, width: int = 0) -> Codes:
        """Return the codes of a value; ``width`` is that of floats of unknown width."""
        grid = stored(quantizer)
        if isinstance(value, Sum):
            return self._added(value, quantizer)
        if isinstance(value, Floats):
            width = value.width or width
            limits = float(grid.scale), float(grid.zero), float(grid.low), float(grid.high)
            out = self.add(Quantize(self.name(quantizer.name), value.register, *limits, width))
            self.reached(quantizer, out)
            return Codes(out, grid.table(quantizer, width), grid.low, grid.high)
        codes = grid.codes(quantizer, value.table)
        table = grid.table(quantizer, value.width)
        used = slice(value.low + 128, value.high + 129)
        if (codes[used] == STORED[used, None]).all():
            self.reached(quantizer, value.register)
            return Codes(value.register, table, value.low, value.high)
        exact = value.table.double().numpy() / grid.scale + grid.zero
        line = fit_codes(codes, exact, value.low, value.high)
        out = self.name(quantizer.name)
        if line is None:
            alike = (codes == codes[:, :1]).all()
            found = np.clip(codes[:, :1] if alike else codes, -128, 127).astype(np.int8)
            self.add(LookUp(out, value.register, found, value.width))
        else:
            scale, shift, low, high = line
            given = {SCALE: scale, SHIFT: shift, LOW: low, HIGH: high}
            self.add(Rescale(out, value.register, numbers(value.width, given)))
        self.reached(quantizer, out)
        return Codes(out, table, grid.low, grid.high)

    def _added(self, value: Sum, quantizer: Quantizer) -> Codes:
        grid = stored(quantizer)
        first, second = value.first, value.second
        line = fit_values(first.table, first.low, first.high)
        if line is None or (line[0] > first.low).any() or (line[1] < first.high).any():
            return self.quantized(self.in_floats(value), quantizer)
        _, _, scale, shift = line
        register, factor, constant = self._addend(second, first.width)
        given: dict[int, Any] = {
            SCALE: 1.0,
            SCALE_2: scale / grid.scale,
            SHIFT_2: (shift + value.factor * constant) / grid.scale + grid.zero,
            OTHER: value.factor * factor / grid.scale,
            LOW_2: grid.low,
            HIGH_2: grid.high,
        }
        out = self.add(Add(self.name(quantizer.name), first.register, register, numbers(first.width, given)))
        self.reached(quantizer, out)
        return Codes(out, grid.table(quantizer, first.width), grid.low, grid.high)

    def _addend(self, value: Codes | Floats, width: int) -> tuple[str, Any, Any]:
        """Return a register to add with the scale and the shift, a number or one a channel, that make values of it."""
        if isinstance(value, Codes):
            line = fit_values(value.table, value.low, value.high)
            if line is not None and (line[0] <= value.low).all() and (line[1] >= value.high).all():
                return value.register, line[2], line[3]
            value = self.values(value)
        return self.rows(value, width).register, 1.0, 0.0

    def rows(self, value: Floats, width: int = 0) -> Floats:
        """Return floats in rows that kernels can read; ``width`` is that of floats of unknown width."""
        if value.rows:
            return value
        width = value.width or width
        return Floats(self.add(Rows(self.name(f"{value.register}.rows"), value.register, width)), width, True)

    def pooled(self, value: Codes, batch: str, kind: str, name: str) -> Floats | None:
        """Return the sum, mean or max over each graph's nodes, or None if codes cannot tell it."""
        if kind == "max":
            if bool((value.table[value.low + 128 : value.high + 129].diff(dim=0) < 0).any()):
                return None
            table = value.table.contiguous().numpy()
            out = self.add(PoolLargest(self.name(name), value.register, batch, table, value.width))
            return Floats(out, value.width)
        line = fit_values(value.table, value.low, value.high)
        if line is None:
            return None
        low, high, scale, shift = line
        register = value.register
        if (low > value.low).any() or (high < value.high).any():
            given: dict[int, Any] = {SCALE: 1.0, LOW: low, HIGH: high}
            register = self.add(Rescale(self.name(f"{register}.clamped"), register, numbers(value.width, given)))
        scale, shift = scale.astype(np.float32), shift.astype(np.float32)
        return Floats(self.add(Pool(self.name(name), register, batch, kind == "mean", scale, shift)), value.width)

    def values(self, value: Codes) -> Floats:
        """Return the values that codes stand for."""
        table = value.table.contiguous()
        same = bool((table == table[:, :1]).all())
        short = table[:, :1] if same else torch.nn.functional.pad(table, (0, padded(value.width) - value.width))
        out = self.name(f"{value.register}.values")
        self.add(Values(out, value.register, short.contiguous().numpy(), value.width))
        return Floats(out, value.width, True)

    def in_floats(self, value: Value) -> Floats:
        """Return any value in floats."""
        if isinstance(value, Codes):
            return self.values(value)
        if isinstance(value, Sum):
            parts = self.values(value.first), self.in_floats(value.second)
            return self.call(lambda a, b: a + value.factor * b, parts, "add", value.first.width)
        return value

    def shared(self, value: Value) -> Floats:
        """Return a value as a tensor of floats, whose memory is that of all its views."""
        floats = self.in_floats(value)
        own = any(one.out == floats.register and not isinstance(one, Call) for one in self.operations)
        # Kernels' rows are padded: what is a view of the model's rows must not be a copy of these.
        function = Tensor.contiguous if own else _same
        return self.call(function, [floats], f"{floats.register}.shared", floats.width)

    def call(
        self, function: Callable[..., Any], given: Sequence[Value | str], what: str, width: int = 0, name: str = ""
    ) -> Floats:
        """Let a function of torch make a register of floats of others, floats or inputs."""
        sources = [one if isinstance(one, str) else self.in_floats(one) for one in given]
        registers = tuple(one if isinstance(one, str) else one.register for one in sources)
        widths = tuple(0 if isinstance(one, str) else one.width for one in sources)
        return Floats(self.add(Call(self.name(name or what), registers, widths, function, what)), width)

    def each(self, value: Value, function: Callable[[Tensor], Tensor], what: str) -> Value:
        """Apply to a value what looks at one channel of one row at a time."""
        if isinstance(value, Codes):
            with torch.no_grad():
                table = function(value.table.contiguous().clone())
            return Codes(value.register, table, value.low, value.high)
        floats = self.in_floats(value)
        return self.call(function, [floats], what, floats.width)

    def linear(
        self,
        value: Codes,
        entering: Quantizer,
        weight: tuple[np.ndarray, Any, Any],
        bias: Tensor | None,
        quantizer: Quantizer | None,
        name: str,
    ) -> Codes | Floats:
        """Multiply codes, made by ``entering``, by a weight of codes, and round the product if that follows.

        ``weight`` is codes [inputs, outputs], scales and zero points, numbers or one a column.

        Raises:
            QuantizationError: naming the layer, if it has so many inputs that a sum may not fit into 32 bits.
        """
        codes, scales, zeros = weight
        inputs, outputs = codes.shape
        if inputs > MOST_INPUTS:
            raise QuantizationError(f"{name}: sums of {inputs:,} products may not fit into 32 bits; leave it in floats")
        source = stored(entering)
        source_zero = round(source.zero)
        scale = source.scale * np.broadcast_to(np.asarray(scales, np.float64), (outputs,))
        zeros = np.broadcast_to(np.asarray(zeros, np.float64), (outputs,))
        shift = np.zeros(outputs) if bias is None else bias.detach().double().numpy()
        padded_codes = np.zeros((padded(inputs), padded(outputs)), np.int8)
        padded_codes[:inputs, :outputs] = codes
        if quantizer is None:
            out = self.name(f"{name}.product")
            table = numbers(outputs, {MINUS_ZERO: -zeros, SCALE: scale, SHIFT: shift})[: SHIFT + 1]
            self.add(Linear(out, value.register, padded_codes, inputs, source_zero, table, outputs, floats=True))
            return Floats(out, outputs, True)
        grid = stored(quantizer)
        given: dict[int, Any] = {
            MINUS_ZERO: -zeros,
            SCALE: scale / grid.scale,
            SHIFT: shift / grid.scale + grid.zero,
            LOW: grid.low,
            HIGH: grid.high,
        }
        out = self.name(quantizer.name)
        self.add(Linear(out, value.register, padded_codes, inputs, source_zero, numbers(outputs, given), outputs))
        self.reached(quantizer, out)
        return Codes(out, grid.table(quantizer, outputs), grid.low, grid.high)


def _same(value: Any) -> Any:
    return value


def weight_codes(module: nn.Module, name: str = "weight") -> tuple[np.ndarray, Any, Any]:
    """Return the codes of a frozen weight with their scales and zero points, numbers or shaped as the weight."""
    chain: Any = module.parametrizations[name]  # type: ignore[index]
    (step,) = chain
    assert isinstance(step, QuantizedWeight)
    assert isinstance(step.quantizer, Quantizer)
    grid = step.quantizer.grid(chain.original.dim())
    scale, zero = (part.numpy() if isinstance(part, Tensor) else part for part in (grid.scale, grid.zero_point))
    return chain.original.numpy(), scale, zero


def has_codes(module: nn.Module, name: str = "weight") -> bool:
    """Say whether a module's weight is codes, and nothing else."""
    if not parametrize.is_parametrized(module, name):
        return False
    chain: Any = module.parametrizations[name]  # type: ignore[index]
    return len(chain) == 1 and isinstance(chain[0], QuantizedWeight)
