"""A lowered program against the model that it stands for, operation by operation, on the first calls.

Each operation is given what the model computed up to there, so that one rounding that falls the other way is not
carried on. What it makes is compared with what the model makes in the same place:

- codes: 99.9 % must be equal, and none more than one step away. Where a value lies exactly between two codes, both are
  right: sums are exact in the program and rounded in the model. Operations that round more than once inside may be a
  step further away for every such value.
- floats: their error against float64 may be four times that of the model's own float32, or of an input that is changed
  by one rounding if that is larger: a small tensor may be exact by luck.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch_geometric.data.data import BaseData

from gnncompress.errors import ExecutionError, GnncompressError
from gnncompress.global_state import random_state_kept
from gnncompress.quantization.lowering.values import stored
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.runtime.executor import step
from gnncompress.runtime.floating import Rows
from gnncompress.runtime.model import copied
from gnncompress.runtime.operations import Quantize
from gnncompress.runtime.program import Operation, Place, Program
from gnncompress.runtime.sparse import SparseCodes

# Calls of so many sizes are compared for each kind of call, if they tell something. Of those that tell nothing so many
# are: without edges or with one row, and with others whose results are the same everywhere.
CALLS, MOST_CALLS = 3, 10
EQUAL = 0.999  # of the codes
FACTOR = 4.0  # times the error of the model's float32
# How close to the middle between two codes a value of the simulation may be rounded either way.
TIE = 2.0**-10
# Without float64 to compare with, and where quantizers round in between: so much of the largest value.
RELATIVE = 1e-4
_EPSILON = 2.0**-23
# A sum of a thousand products that starts from a bias rounds so often near the largest value (Linear(1433, 3), 2 rows:
# 14 times; Linear(64, 64): 4).
ROUNDINGS = 8


@dataclass
class _Calls:
    """Which sizes of one kind of call were compared, and how many of them told something.

    ``bare`` are the sizes of calls without edges or with one row: however many come first, others are still compared.
    """

    sizes: set[tuple[Any, ...]] = field(default_factory=set)
    bare: set[tuple[Any, ...]] = field(default_factory=set)
    counted: int = 0

    def sizes_like(self, given: Mapping[str, Any]) -> set[tuple[Any, ...]]:
        """Return the sizes among which those of a call belong."""
        return self.bare if _is_bare(given) else self.sizes


class Verifier:
    """Compares the first calls of each kind with ``model``, which no one else may use or change.

    A kind of call is which inputs are given, their dtypes, layouts and numbers of dimensions, and torch's global hooks.
    The model is a copy, so that its tensors and its own hooks stay as they are. Of each kind, calls of three sizes are
    compared. One without edges or with one row, or whose result is the same everywhere, tells little and does not
    count.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._kinds: dict[tuple[Any, ...], _Calls] = {}
        self._lock = Lock()

    def __copy__(self) -> Verifier:
        return Verifier(self.model)

    def is_due(self, given: Mapping[str, Any]) -> bool:
        """Say whether a call is to be compared; once it is not, none of its kind and sizes is."""
        calls = self._kinds.get(self._kind(given))
        if calls is None:
            return True
        if calls.counted >= CALLS:
            return False
        compared = calls.sizes_like(given)
        return len(compared) < MOST_CALLS and _sizes(given) not in compared

    def verify(self, program: Program, given: Mapping[str, Any], random_state: Tensor) -> None:
        """Compare program and model on copies of a call's inputs.

        Raises:
            ExecutionError: naming the operation and both values, if they differ; if the model itself raises.
        """
        calls = self._kinds.setdefault(self._kind(given), _Calls())
        with self._lock, torch.no_grad(), torch.autocast("cpu", enabled=False), random_state_kept():
            result = _compare(self.model, program, given, random_state)
        calls.sizes_like(given).add(_sizes(given))
        calls.counted += not _is_bare(given) and _differs(result)

    def _kind(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        return _global_hooks(), *map(_kind_of, given.values())


def _global_hooks() -> int:
    return len(torch_module._global_forward_hooks) + len(torch_module._global_forward_pre_hooks)


def _kind_of(value: Any) -> Any:
    """Return what a branch may ask of an argument: a tensor's dtype, layout, dimensions; of others what they hold."""
    if isinstance(value, Tensor):
        return value.dtype, value.layout, value.dim()
    held = _held(value)
    return type(value) if held is None else (type(value), tuple((name, _kind_of(one)) for name, one in held))


def _held(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the values that an argument holds, each with its name; None if it is no container, or data."""
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    held = value if isinstance(value, Mapping) else value.to_dict() if isinstance(value, BaseData) else None
    return None if held is None else list(held.items())


def _sizes(given: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(map(_size, given.values()))


def _size(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape
    held = _held(value)
    if held is not None:
        return tuple(_size(one) for _, one in held)
    return value if isinstance(value, (bool, int, str)) else None


def _is_bare(given: Mapping[str, Any]) -> bool:
    """Say whether a call has no edges, or one row: a tensor of its inputs is empty, or the first has a single row."""
    tensors = _tensors_in(list(given.values()))
    rows = next((len(value) for value in tensors if value.dim()), 0)
    return rows < 2 or not all(value.numel() for value in tensors)


def _differs(result: Tensor) -> bool:
    """Say whether a result is not the same everywhere: in all rows, or in all columns of one row; one number tells."""
    if result.numel() < 2:
        return bool(result.numel())
    rows = result.reshape(len(result), -1)
    return bool((rows != (rows[:1] if len(rows) > 1 else rows[:, :1])).any())


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for _, one in _held(value) or () for tensor in _tensors_in(one)]


@dataclass
class _Rounded:
    """What a quantizer returned: the codes as they are stored, and where both neighbours of a value are right."""

    codes: np.ndarray
    tie: np.ndarray


@dataclass
class _Computed:
    """What a module of floats returned, and the same in float64 with the error that a program may have, if known."""

    value: Tensor
    exact: Tensor | None
    most: float


class _Recording:
    """What quantizers and modules return while the model runs, call by call."""

    def __init__(self, model: nn.Module, places: set[str]) -> None:
        self.rounded: dict[Place, _Rounded] = {}
        self.computed: dict[Place, _Computed] = {}
        self.ties = False
        self.calls: Counter[str] = Counter()
        self._paused = False  # while a copy of a module runs, whose own modules have these hooks, too
        self._handles = []
        for path, module in model.named_modules():
            if isinstance(module, Quantizer):
                self._handles.append(module.register_forward_hook(self._round))
            elif path in places:
                before, after = self._compute(path)
                self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                self._handles.append(module.register_forward_hook(after))

    def remove(self) -> None:
        """Take the hooks out of the model."""
        for handle in self._handles:
            handle.remove()

    def _round(self, quantizer: Any, args: tuple[Any, ...], output: Tensor) -> None:
        place = Place(quantizer.name, self.calls[quantizer.name])
        self.calls[quantizer.name] += 1
        x = args[0]
        before, after = (x.values(), output.values()) if x.layout == torch.sparse_csr else (x, output)
        if quantizer.observer.channel is not None or not before.numel():
            return  # of weights, whose codes are in the program
        grid = stored(quantizer)
        shape = len(before), -1
        at = before.float() / grid.scale + grid.zero
        tie = ((at - at.floor() - 0.5).abs() < TIE) & (at > grid.low - 1) & (at < grid.high + 1)
        codes = torch.from_numpy(grid.codes(quantizer, after).reshape(shape)).to(torch.int16)
        self.rounded[place] = _Rounded(codes.numpy(), tie.reshape(shape).numpy())
        self.ties |= bool(tie.any())

    def _compute(self, path: str) -> tuple[Any, Any]:
        given: list[Any] = []  # copies, for a forward may change what it is given, and the module itself

        def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self._paused:
                return
            exact = not any(isinstance(inner, Quantizer) for inner in module.modules())
            twin = copy.deepcopy(module) if exact else None
            given.append((_map(torch.clone, args), _map(torch.clone, kwargs), twin))

        def record(module: nn.Module, _: Any, output: Any) -> None:
            if self._paused:
                return
            args, kwargs, twin = given.pop()
            place = Place(path, self.calls[path])
            self.calls[path] += 1
            if isinstance(output, Tensor) and output.is_floating_point() and output.layout == torch.strided:
                value = output.clone()
                self._paused = True
                exact, most = _exactly(twin, _forwarded, args, kwargs, value=value)
                self._paused = False
                self.computed[place] = _Computed(value, exact, most)

        return keep, record


def _compare(model: nn.Module, program: Program, given: Mapping[str, Any], random_state: Tensor) -> Tensor:
    """Run the model, then the program on what the model computed; return the model's result."""
    quantized = any(isinstance(module, Quantizer) for module in model.modules())
    twin = None if quantized else copy.deepcopy(model)
    recording = _Recording(model, {place.module for place in program.stands_for.values()})
    inputs = _as_floats(program, {name: copied(value) for name, value in given.items()})
    torch.set_rng_state(random_state)
    try:
        with _without_caches(model):
            wanted = _called(model, inputs)
    except Exception as error:
        what = " ".join(str(error).split())[:300]
        raise ExecutionError(
            f"the model that the program was made of refuses this input ({type(error).__name__}: {what})"
        ) from error
    finally:
        recording.remove()
    if not isinstance(wanted, Tensor):
        raise ExecutionError(f"the model returns a {type(wanted).__name__}, its program a tensor; run the model itself")

    def observe(operation: Operation, env: dict[str, Any]) -> None:
        place = program.stands_for.get(operation.out)
        if place is None:
            return
        if place in recording.rounded:
            inner = program.stands_for.get(program.within.get(operation.out, ""))
            before = None if inner is None else recording.rounded.get(inner)
            _insist_on_codes(operation, env, recording.rounded[place], before, recording.ties)
        elif recording.calls[place.module] != program.calls[place.module] and not _is_quantizer(model, place):
            return  # a layer that others call, too: which call is which is not known, and what follows is compared
        elif place in recording.computed:
            _insist_on_floats(operation, env, recording.computed[place])
        elif _size_of(env[operation.out]) and _is_quantizer(model, place):
            raise ExecutionError(
                f"{operation.out}: the model does not come to {place.module} on this input, its program does: a branch "
                "of its forward was taken for another; run the model itself"
            )

    torch.set_rng_state(random_state)
    found = step(program, {name: copied(value) for name, value in given.items()}, observe)
    if isinstance(found, Tensor):
        exact, most = _exactly(twin, _called, dict(given), value=wanted)
        _insist_on_close(f"result {program.result}", found, _Computed(wanted, exact, most))
    return wanted


def _as_floats(program: Program, given: dict[str, Any]) -> dict[str, Any]:
    """Return a call's inputs, its features as the floats that the program takes them for: layers refuse other types."""
    for operation in program.operations:
        if isinstance(operation, (Quantize, Rows)) and isinstance(given.get(operation.source), Tensor):
            given[operation.source] = given[operation.source].float()
    return given


def _called(model: nn.Module, inputs: dict[str, Any]) -> Any:
    """Return what a whole model gives, without torch's global hooks, which are those of the programs' model, too.

    A ``__call__`` of its own is part of what it computes, though programs are made of ``forward``.
    """
    owners = type(model).__mro__[: type(model).__mro__.index(nn.Module)]
    return model(**inputs) if any("__call__" in vars(owner) for owner in owners) else model.forward(**inputs)


def _is_quantizer(model: nn.Module, place: Place) -> bool:
    return any(isinstance(module, Quantizer) and module.name == place.module for module in model.modules())


def _insist_on_codes(
    operation: Operation, env: dict[str, Any], wanted: _Rounded, before: _Rounded | None, ties: bool
) -> None:
    """Compare an operation's codes with the simulation's, and put those in their place."""
    found = env[operation.out]
    own = found.values[:, None] if isinstance(found, SparseCodes) else found
    codes = wanted.codes
    if isinstance(found, SparseCodes):
        codes = codes.reshape(-1, 1) - round(getattr(operation, "zero", 0.0))
    if len(own) != len(codes) or own.shape[1] < codes.shape[1]:
        raise ExecutionError(
            f"{operation.out}: the program makes {list(own.shape)} codes, the model {list(codes.shape)}; "
            "run it simulated"
        )
    mine = own[:, : codes.shape[1]].astype(np.int32)
    steps = np.abs(mine - codes)
    between = wanted.tie.reshape(codes.shape)
    if before is not None and before.tie.shape == between.shape:
        between = between | before.tie
    further = 2 if before is not None or ties else 1
    wrong = (steps > 0) & ~between
    if steps.max(initial=0) > further or wrong.sum() > max(1, math.ceil((1 - EQUAL) * steps.size)):
        row, column = np.unravel_index(int(steps.argmax()), steps.shape)
        raise ExecutionError(
            f"{operation.out}: {type(operation).__name__} gives code {mine[row, column]} at [{row}, {column}], the "
            f"model {codes[row, column]}; {int((steps > 0).sum()):,} of {steps.size:,} codes differ: the program is "
            "not what the model computes; run it simulated"
        )
    if isinstance(found, SparseCodes):
        env[operation.out] = SparseCodes(found.pattern, codes[:, 0].astype(np.int16))
    else:
        forced = found.copy()
        forced[:, : codes.shape[1]] = codes
        env[operation.out] = forced


def _insist_on_floats(operation: Operation, env: dict[str, Any], wanted: _Computed) -> None:
    """Compare an operation's floats with the model's, and put those in their place."""
    found, value = env[operation.out], wanted.value
    if not isinstance(found, (Tensor, np.ndarray)) or (isinstance(found, Tensor) and found.layout != torch.strided):
        return
    own = torch.from_numpy(found) if isinstance(found, np.ndarray) else found
    if isinstance(found, np.ndarray) and own.dim() == 2 and value.dim() == 2:
        own = own[:, : value.size(1)]
    _insist_on_close(f"{operation.out}: {type(operation).__name__}", own, wanted)
    if isinstance(found, np.ndarray):
        forced = found.copy()
        forced[:, : value.size(1)] = value.float().numpy()
        env[operation.out] = forced
    elif own.dtype == value.dtype and all(own.stride()):
        own.copy_(value)  # other registers may be views of the same memory
    else:
        env[operation.out] = value


def _insist_on_close(what: str, found: Tensor, wanted: _Computed) -> None:
    value = wanted.value
    if found.shape != value.shape:
        raise ExecutionError(f"{what} gives {list(found.shape)}, the model {list(value.shape)}; run the model itself")
    exact = value if wanted.exact is None else wanted.exact
    finite = torch.isfinite(exact) & torch.isfinite(value)
    error = torch.where(finite, (found.double() - exact.double()).abs(), torch.zeros_like(exact, dtype=torch.double))
    same = torch.where(finite, torch.isfinite(found), (found == value) | (found.isnan() & value.isnan()))
    error = torch.where(same, error, torch.full_like(error, math.inf))
    if error.numel() and float(error.max()) > wanted.most:
        worst = int(error.argmax())
        at = tuple(int(index) for index in np.unravel_index(worst, tuple(error.shape))) if error.dim() else ()
        raise ExecutionError(
            f"{what} gives {float(found.flatten()[worst]):.6g} at {list(at)}, the model "
            f"{float(value.flatten()[worst]):.6g}: the program is not what the model computes; run the model itself"
        )


def _forwarded(module: nn.Module, args: Any, kwargs: Any) -> Any:
    return module.forward(*args, **kwargs)


def _exactly(twin: nn.Module | None, call: Any, *given: Any, value: Tensor) -> tuple[Tensor | None, float]:
    """Return what ``call`` of a module gives in float64 for what was ``given``, and the largest error that is allowed.

    ``twin`` is a copy of the module as it was before the call. Where there is none, or it cannot run in float64,
    nothing is known but the module's own result.
    """
    if twin is None:
        return None, _relative(value)
    try:
        other = copy.deepcopy(twin).double()  # a forward may change what the module holds
        exact, moved = call(twin.double(), *_map(_double, given)), call(other, *_map(_moved, given))
    except GnncompressError:
        raise
    except Exception:  # whatever insists on float32 in a user's forward
        return None, _relative(value)
    if not isinstance(exact, Tensor) or exact.shape != value.shape or moved.shape != value.shape:
        return None, _relative(value)
    exact, moved = exact.double(), moved.double()  # of whole numbers and bools, too
    finite = torch.isfinite(exact) & torch.isfinite(value) & torch.isfinite(moved)
    errors = [_largest((value.double() - exact)[finite]), _largest((moved - exact)[finite])]
    return exact, FACTOR * max(*errors, ROUNDINGS * _EPSILON * _largest(exact[finite]))


def _relative(value: Tensor) -> float:
    return RELATIVE * _largest(value[torch.isfinite(value)])


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def _double(x: Tensor) -> Tensor:
    own = x.clone()  # which a forward may change
    return own.double() if x.is_floating_point() else own


def _moved(x: Tensor) -> Tensor:
    """Return floats in float64, each changed by one rounding of float32, up or down."""
    if not x.is_floating_point() or x.layout != torch.strided:
        return _double(x)
    signs = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).sub_(0.5).sign_().double()
    return x.double() * (1 + _EPSILON * signs)


def _map(function: Any, value: Any) -> Any:
    """Apply a function to the tensors of nested arguments."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_map(function, one) for one in value)
    return {name: _map(function, one) for name, one in value.items()} if isinstance(value, dict) else value


def _size_of(register: Any) -> int:
    return len(register) if hasattr(register, "__len__") else 1


@contextmanager
def _without_caches(model: nn.Module) -> Iterator[None]:
    """Let layers that keep the first call's edges work them out anew, as the program does."""
    cached: list[Any] = [module for module in model.modules() if getattr(module, "cached", False) is True]
    for module in cached:
        module.cached = False
    try:
        yield
    finally:
        for module in cached:
            module.cached = True
