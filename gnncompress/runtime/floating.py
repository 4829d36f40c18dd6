"""Operations of the parts of a model that run in floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gnncompress.errors import ExecutionError
from gnncompress.runtime import float_kernels
from gnncompress.runtime.arrays import tensor_of
from gnncompress.runtime.coefficients import WeightedNeighbours
from gnncompress.runtime.program import Operation
from gnncompress.runtime.reads import TENSORS, Constant, Forms, Kind, Read, every
from gnncompress.runtime.sparse import Pattern, SparseFloats, array_of
from gnncompress.runtime.vectors import padded

if TYPE_CHECKING:
    from gnncompress.runtime.executor import Block, Workspace


@dataclass(frozen=True, eq=False)
class Call(Operation):
    """What ``function`` makes of the registers ``sources``; floats are tensors for it, ``widths`` columns wide.

    ``what`` is its name in print. A program with such an operation is no file.
    """

    sources: tuple[str, ...]
    widths: tuple[int, ...]
    function: Callable[..., Any]
    what: str

    by_row: ClassVar[bool] = False
    WHOLE: ClassVar[tuple[str, ...]] = ("sources",)

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> Any:
        """Return what the function returns."""
        given = [tensor_of(env.get(name), width) for name, width in zip(self.sources, self.widths, strict=True)]
        return self.function(*given)

    def __str__(self) -> str:
        return f"{self.out} = call {self.what}({', '.join(self.sources)}) in floats"


@dataclass(frozen=True, eq=False)
class Rows(Operation):
    """Floats as rows that kernels can read."""

    source: str
    width: int

    by_row: ClassVar[bool] = False
    WHOLE: ClassVar[tuple[str, ...]] = ("source",)
    LIKE: ClassVar[str] = "source"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Any numbers."""
        width = self.width or None
        forms = every(TENSORS, "nodes", width) | every([Kind.FLOATS], "nodes", width and (width, padded(width)))
        return (Read(self.source, "features", forms),)

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> np.ndarray:
        """Return the rows; a few are copied to the place that they had before, which kernels are bound to."""
        x: Tensor = tensor_of(env[self.source], self.width)
        if not workspace.is_small(4 * x.numel()):
            return array_of(x)
        made = workspace.room(self.out, x.shape, torch.float32)
        workspace.places.tensor(self.out, made).copy_(x)
        return made


@dataclass(frozen=True, eq=False)
class FloatLinear(Operation):
    """Rows, dense or CSR, times a weight [inputs, outputs], plus bias; the weight may be sparse, CSR by output."""

    source: str
    weight: np.ndarray
    bias: np.ndarray
    sparse: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    OWN: ClassVar[tuple[str, ...]] = ("source",)
    LIKE: ClassVar[str] = "source"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Floats, dense or sparse."""
        inputs = len(self.weight)
        forms = every((Kind.FLOAT_TENSOR, Kind.CSR), "nodes", inputs)
        forms[Kind.FLOATS] = "nodes", (inputs, padded(inputs))
        return (Read(self.source, "features", forms),)

    def constants(self) -> Iterator[Constant]:
        """Return the weight, dense and sparse, and the bias."""
        yield Constant("weight", self.weight, np.float32, (None, "outputs"))
        yield Constant("bias", self.bias, np.float32, ("outputs",))
        if self._rows is not None and self._rows.shape != self.weight.shape[::-1]:
            raise ExecutionError(f"{self.out}: the sparse weight is {self._rows.shape}, the dense {self.weight.shape}")

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        """The weight and the bias for torch."""
        return torch.from_numpy(self.weight), torch.from_numpy(self.bias)

    @cached_property
    def _rows(self) -> SparseFloats | None:
        if self.sparse is None:
            return None
        starts, columns, values = self.sparse
        return SparseFloats(Pattern(starts, columns, len(self.weight)), values)

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of floats."""
        return self.weight.shape[1], torch.float32

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        x, out = block.rows(self.source), block.rows(self.out)
        if isinstance(x, SparseFloats):
            parts = x.pattern.starts, x.pattern.columns, x.values
            float_kernels.multiply_sparse_rows(*parts, self.weight, self.bias, block.first, block.last, out)
            return
        rows = x[:, : len(self.weight)]
        if self._rows is not None:
            parts = self._rows.pattern.starts, self._rows.pattern.columns, self._rows.values
            float_kernels.multiply_by_sparse(np.ascontiguousarray(rows), *parts, self.bias, out)
        else:
            weight, bias = self._tensors
            torch.addmm(bias, torch.from_numpy(rows), weight, out=torch.from_numpy(out))


@dataclass(frozen=True, eq=False)
class FloatAggregate(Operation):
    """Sums, or means, of neighbours' rows of floats, with K weights an edge and head where the edges have any."""

    edges: str
    source: str
    mean: bool
    heads: int = 1
    columns: int = 0

    WHOLE: ClassVar[tuple[str, ...]] = ("edges", "source")
    LIKE: ClassVar[str] = "edges"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Neighbours, with or without weights, and their rows; torch takes sums of bools for bools."""
        edges: Forms = {Kind.NEIGHBOURS: ("nodes",), Kind.WEIGHTED: ("nodes", "weights")}
        kinds = Kind.FLOATS, Kind.FLOAT_TENSOR, Kind.WHOLE_TENSOR
        return Read(self.edges, "neighbours", edges), Read(self.source, "features", every(kinds, "nodes", "columns"))

    def fault(self, sizes: Mapping[str, int]) -> str:
        """Return what is wrong with as many weights for as many columns."""
        weights, columns = sizes.get("weights", 1), sizes["columns"]
        wanted = weights * self.columns if self.columns else columns
        if weights % self.heads or columns < wanted or (weights > 1 and not self.columns):
            return f"{weights} weights for {self.heads} heads of {self.columns} columns do not fit {columns} columns"
        return ""

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of floats."""
        return self.heads * self.columns or widths[self.source], torch.float32

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        edges, x, out = block.whole(self.edges), block.whole(self.source), block.rows(self.out)
        weights = edges.weights if isinstance(edges, WeightedNeighbours) else edges.ones
        bounds = self.mean, block.first, block.last, out
        if weights.ndim == 1 or (weights.shape[1] == 1 and self.heads == 1):
            float_kernels.add_up(edges.starts, edges.sources, weights.reshape(-1), x, *bounds)
        else:
            shape = self.heads, self.columns
            float_kernels.add_up_blocks(edges.starts, edges.sources, weights, *shape, x, *bounds)
