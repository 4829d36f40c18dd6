"""The operations of a program on codes: what each is made of, and which kernel runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gnncompress.errors import ExecutionError
from gnncompress.runtime import features, kernels, products
from gnncompress.runtime.arrays import codes
from gnncompress.runtime.program import Operation
from gnncompress.runtime.reads import TENSORS, Constant, Forms, Kind, Read, every
from gnncompress.runtime.rounding import ADD, AGAIN, HIGH, LOW, MINUS_ZERO, NONE, NUMBERS, SCALE, SHIFT, fit
from gnncompress.runtime.sparse import SparseCodes, array_of, floats_of
from gnncompress.runtime.vectors import LANES, padded

if TYPE_CHECKING:
    from gnncompress.runtime.executor import Block, Workspace

# What is added where nothing is.
NO_OTHER = np.zeros((1, 0), np.int8)


# A number for each channel of rows of codes.
CHANNELS = range(0, 2**31, LANES)


def codes_of(register: str, width: int) -> Read:
    """Return that a register must be rows of codes."""
    return Read(register, "features", {Kind.CODES: ("nodes", width)})


def added(register: str, numbers: np.ndarray) -> tuple[Read, ...]:
    """Return what rows that are added must be, if any are: codes, or floats, which need not be padded."""
    width = numbers.shape[1]
    channels = int(np.flatnonzero(numbers[[LOW, HIGH]].any(0)).max(initial=-1)) + 1  # what pads is clamped to 0
    forms: Forms = {Kind.CODES: ("nodes", width), Kind.FLOATS: ("nodes", range(channels, width + 1))}
    return (Read(register, "features", forms),) if register else ()


def rounding(out: str, numbers: np.ndarray, width: int | None = None, second: int = NONE, other: str = "") -> Constant:
    """Return what the numbers that rounding takes must be, for ``width`` channels.

    Raises:
        ExecutionError: if rows are to be added and there are none, or the other way round.
    """
    if second not in (NONE, AGAIN, ADD) or (second == ADD) != bool(other):
        raise ExecutionError(f"{out}: rows are added if and only if there are any, not {second} with {other!r}")
    return Constant("numbers", numbers, np.float32, (NUMBERS, CHANNELS if width is None else padded(width)))


@dataclass(frozen=True, eq=False)
class Quantize(Operation):
    """Codes of floats, dense or CSR: clamp(round(x / scale + zero)); ``width`` columns are expected."""

    source: str
    scale: float
    zero: float
    low: float
    high: float
    width: int

    by_row: ClassVar[bool] = False
    COPIES: ClassVar[bool] = True  # but for the rows and columns of sparse tensors, which have no places
    WHOLE: ClassVar[tuple[str, ...]] = ("source",)
    LIKE: ClassVar[str] = "source"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Features of any numbers."""
        kinds = Kind.FLOATS, *TENSORS, Kind.CSR, Kind.CSR_OF_OTHERS
        return (Read(self.source, "features", every(kinds, "nodes", self.width)),)

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> Any:
        """Return the codes; values beyond the range are counted.

        Raises:
            ExecutionError: if sparse features are damaged, or a value is NaN or infinite.
        """
        x: Tensor | np.ndarray = env[self.source]
        if isinstance(x, np.ndarray):
            return self._dense(x, workspace)
        if x.layout == torch.sparse_csr:
            return self._sparse(x, workspace)
        return self._dense(array_of(x), workspace)

    def again(self, env: Mapping[str, Any], made: Any, workspace: Workspace) -> Sequence[Callable[[], object]] | None:
        """Return what makes the codes of a register of floats; those of a tensor, which may change, are made anew."""
        x = env[self.source]
        return (partial(self._quantize, x, made, workspace),) if isinstance(x, np.ndarray) else None

    def _dense(self, x: np.ndarray, workspace: Workspace) -> np.ndarray:
        made = workspace.room(self.out, (len(x), padded(self.width)), torch.int8)
        self._quantize(x, made, workspace)
        return made

    def _sparse(self, x: Tensor, workspace: Workspace) -> SparseCodes:
        given = floats_of(self.out, x)
        values = given.values[np.newaxis]
        made = codes(*values.shape)
        self._quantize(values, made, workspace)
        centred = np.empty(values.shape[1], np.int16)
        features.centred(made[0], np.int16(self.zero), centred)
        return SparseCodes(given.pattern, centred)

    def _quantize(self, values: np.ndarray, made: np.ndarray, workspace: Workspace) -> None:
        clamped = features.quantize(values, *self._limits, made)
        if clamped < 0:
            raise ExecutionError(f"{self.out}: a value is NaN or infinite")
        workspace.count(self.out, clamped, values.size)

    @cached_property
    def _limits(self) -> tuple[np.float32, ...]:
        return tuple(np.float32(limit) for limit in (1 / self.scale, self.zero, self.low, self.high))


@dataclass(frozen=True, eq=False)
class Rescale(Operation):
    """Codes of codes: clamp(round(x scale + shift)), channel by channel."""

    source: str
    numbers: np.ndarray

    OWN: ClassVar[tuple[str, ...]] = ("source",)
    LIKE: ClassVar[str] = "source"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Codes."""
        return (codes_of(self.source, self.numbers.shape[1]),)

    def constants(self) -> Sequence[Constant]:
        """Return the numbers."""
        return (rounding(self.out, self.numbers),)

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return self.numbers.shape[1], torch.int8

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        return partial(kernels.rescale, block.rows(self.source), self.numbers, block.rows(self.out))


@dataclass(frozen=True, eq=False)
class LookUp(Operation):
    """Codes of codes by a table, where no scale and shift give the same.

    Shapes: table [256, width], or [256, 1] for all channels.
    """

    source: str
    table: np.ndarray
    width: int

    OWN: ClassVar[tuple[str, ...]] = ("source",)
    LIKE: ClassVar[str] = "source"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Codes."""
        return (codes_of(self.source, padded(self.width)),)

    def constants(self) -> Sequence[Constant]:
        """Return the table."""
        return (Constant("table", self.table, np.int8, (256, (self.width, padded(self.width), 1))),)

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return padded(self.width), torch.int8

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        return partial(kernels.look_up, block.rows(self.source), self.table, self.width, block.rows(self.out))


@dataclass(frozen=True, eq=False)
class Add(Operation):
    """Codes of the sum of two registers of codes."""

    source: str
    other: str
    numbers: np.ndarray

    OWN: ClassVar[tuple[str, ...]] = ("source", "other")
    LIKE: ClassVar[str] = "source"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Codes, and codes or floats."""
        width = self.numbers.shape[1]
        return codes_of(self.source, width), *added(self.other, self.numbers)

    def constants(self) -> Sequence[Constant]:
        """Return the numbers."""
        return (rounding(self.out, self.numbers, None, ADD, self.other),)

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return self.numbers.shape[1], torch.int8

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        return partial(kernels.add, block.rows(self.source), block.rows(self.other), self.numbers, block.rows(self.out))


@dataclass(frozen=True, eq=False)
class Linear(Operation):
    """Codes of a product of codes with a weight of codes, int32 sums, rounded once, or again, or with rows added.

    sums are those of (x - input_zero) w; ``numbers`` turn them into codes, or, where no quantizer follows, their first
    three rows into ``floats``.

    Shapes: weight [inputs, width], both padded to whole vectors, int8.
    """

    source: str
    weight: np.ndarray
    inputs: int
    input_zero: int
    numbers: np.ndarray
    width: int
    second: int = NONE
    other: str = ""
    floats: bool = False

    OWN: ClassVar[tuple[str, ...]] = ("source", "other")
    LIKE: ClassVar[str] = "source"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Codes, dense or sparse, and what is added."""
        forms: Forms = {Kind.CODES: ("nodes", padded(self.inputs)), Kind.SPARSE_CODES: ("nodes", self.inputs)}
        return Read(self.source, "features", forms), *(() if self.floats else added(self.other, self.numbers))

    def constants(self) -> Sequence[Constant]:
        """Return the weight and the numbers."""
        shape = padded(self.inputs), padded(self.width)
        numbers = rounding(self.out, self.numbers, self.width, NONE if self.floats else self.second, self.other)
        if self.floats:
            numbers = Constant("numbers", self.numbers, np.float32, (range(SHIFT + 1, NUMBERS + 1), shape[1]))
        return Constant("weight", self.weight, np.int8, shape), numbers

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes, or of values."""
        return padded(self.width), torch.float32 if self.floats else torch.int8

    @cached_property
    def _weight(self) -> products.Weight:
        return products.weight(self.weight, self.inputs, self.input_zero, bool(self.numbers[MINUS_ZERO].any()))

    @cached_property
    def _fits(self) -> bool:
        # A sum, and what the zero points of the weight add to it, are of 32 bits each.
        return fit(self.numbers, self.second, 2.0**32, self.numbers[SCALE], self.numbers[SHIFT])

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        source, out = block.rows(self.source), block.rows(self.out)
        other = block.rows(self.other) if self.other else NO_OTHER

        def rooms() -> tuple[np.ndarray, np.ndarray]:
            sums = block.scratch("sums", (len(out), self.weight.shape[1]), torch.int32)
            return sums, block.scratch("totals", (len(out),), torch.float32)

        if not self.floats and not isinstance(source, SparseCodes):
            fits = self._fits and other.dtype == np.int8
            return products.bound(source, self._weight, self.numbers, fits, self.second, other, out, rooms)
        return partial(self._multiply_and_finish, source, block.first, block.last, *rooms(), other, out)

    def _multiply_and_finish(
        self, source: Any, first: int, last: int, sums: np.ndarray, totals: np.ndarray, other: np.ndarray,
        out: np.ndarray,
    ) -> None:  # fmt: skip
        if isinstance(source, SparseCodes):
            parts = source.pattern.starts, source.pattern.columns, source.values
            kernels.multiply_sparse(*parts, self.weight, first, last, sums, totals)
        else:
            products.multiply(source, self._weight, sums, totals)
        if self.floats:
            numbers = self.numbers
            kernels.finish_values(sums, totals, -numbers[MINUS_ZERO], numbers[SCALE], numbers[SHIFT], out)
        else:
            kernels.finish(sums, totals, self.numbers, self.second, other, out)


@dataclass(frozen=True, eq=False)
class Values(Operation):
    """Floats of codes, by a table. Shapes: table [256, channels or 1]; ``width`` channels."""

    source: str
    table: np.ndarray
    width: int

    OWN: ClassVar[tuple[str, ...]] = ("source",)
    LIKE: ClassVar[str] = "source"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Codes."""
        return (codes_of(self.source, padded(self.width)),)

    def constants(self) -> Sequence[Constant]:
        """Return the table."""
        return (Constant("table", self.table, np.float32, (256, (padded(self.width), 1))),)

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of values."""
        return padded(self.width), torch.float32

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        return partial(kernels.values_of, block.rows(self.source), self.table, block.rows(self.out))
