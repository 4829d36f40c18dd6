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
from gnncompress.runtime.rounding import MINUS_ZERO, NONE, SCALE, SHIFT, fit
from gnncompress.runtime.vectors import padded

if TYPE_CHECKING:
    from gnncompress.runtime.executor import Block, Workspace

# What is added where nothing is.
NO_OTHER = np.zeros((1, 0), np.int8)


@dataclass(frozen=True)
class SparseCodes:
    """Sparse rows: of each stored value its code less the zero point. Shapes: as CSR's; values int16."""

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1


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

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> Any:
        """Return the codes; values beyond the range are counted.

        Raises:
            ExecutionError: if the features are not as wide as the model's, or a value is NaN or infinite.
        """
        x: Tensor | np.ndarray = env[self.source]
        if isinstance(x, np.ndarray):
            return self._dense(x, workspace)
        if x.layout == torch.sparse_csr:
            return self._sparse(x, workspace)
        if x.layout != torch.strided:
            raise ExecutionError(f"{self.out}: sparse features must be CSR: x.to_sparse_csr()")
        return self._dense(x.float().contiguous().numpy(), workspace)

    def again(self, env: Mapping[str, Any], made: Any, workspace: Workspace) -> Sequence[Callable[[], object]] | None:
        """Return what makes the codes of a register of floats; those of a tensor, which may change, are made anew."""
        x = env[self.source]
        return (partial(self._quantize, x, made, workspace),) if isinstance(x, np.ndarray) else None

    def _dense(self, x: np.ndarray, workspace: Workspace) -> np.ndarray:
        self._insist_on_width(x)
        made = workspace.room(self.out, (len(x), padded(self.width)), torch.int8)
        self._quantize(x, made, workspace)
        return made

    def _sparse(self, x: Tensor, workspace: Workspace) -> SparseCodes:
        self._insist_on_width(x)
        insist_on_csr(self.out, x)
        values = x.values().unsqueeze(0).float().contiguous().numpy()
        made = codes(1, values.shape[1])
        self._quantize(values, made, workspace)
        centred = np.empty(values.shape[1], np.int16)
        features.centred(made[0], np.int16(self.zero), centred)
        return SparseCodes(x.crow_indices().long().numpy(), x.col_indices().long().numpy(), centred, self.width)

    def _insist_on_width(self, x: Tensor | np.ndarray) -> None:
        if x.ndim != 2 or x.shape[1] != self.width:
            raise ExecutionError(f"{self.out}: features [nodes, {self.width}] are expected, not {list(x.shape)}")

    def _quantize(self, values: np.ndarray, made: np.ndarray, workspace: Workspace) -> None:
        clamped = features.quantize(values, *self._limits, made)
        if clamped < 0:
            raise ExecutionError(f"{self.out}: a value is NaN or infinite")
        workspace.count(self.out, clamped, values.size)

    @cached_property
    def _limits(self) -> tuple[np.float32, ...]:
        return tuple(np.float32(limit) for limit in (1 / self.scale, self.zero, self.low, self.high))


def insist_on_csr(name: str, x: Tensor) -> None:
    """Insist on rows and columns that a CSR tensor may have, which torch does not.

    Raises:
        ExecutionError: naming the register that was to be made.
    """
    if not features.is_csr(x.crow_indices().numpy(), x.col_indices().numpy(), x.size(1)):
        raise ExecutionError(f"{name}: the sparse features are damaged: a row or a column is outside {list(x.shape)}")


@dataclass(frozen=True, eq=False)
class Rescale(Operation):
    """Codes of codes: clamp(round(x scale + shift)), channel by channel."""

    source: str
    numbers: np.ndarray

    OWN: ClassVar[tuple[str, ...]] = ("source",)
    LIKE: ClassVar[str] = "source"

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

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return widths[self.source], torch.int8

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
            parts = source.starts, source.columns, source.values
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

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of values."""
        return padded(self.width), torch.float32

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        return partial(kernels.values_of, block.rows(self.source), self.table, block.rows(self.out))
