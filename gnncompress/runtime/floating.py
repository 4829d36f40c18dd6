"""Operations of the parts of a model that run in floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gnncompress.errors import ExecutionError
from gnncompress.runtime import float_kernels
from gnncompress.runtime.arrays import tensor_of
from gnncompress.runtime.coefficients import WeightedNeighbours
from gnncompress.runtime.graphs import insist_on_rows
from gnncompress.runtime.operations import insist_on_csr
from gnncompress.runtime.program import Operation

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

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> np.ndarray:
        """Return the rows; a few are copied to the place that they had before, which kernels are bound to."""
        x: Tensor = tensor_of(env[self.source], self.width)
        if x.layout != torch.strided:
            raise ExecutionError(f"{self.source}: features are added up before they are multiplied; give dense ones")
        if x.dim() != 2:
            raise ExecutionError(f"{self.out}: features [nodes, {self.width}] are expected, not {list(x.shape)}")
        if not workspace.is_small(4 * x.numel()):
            return x.float().contiguous().numpy()
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

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of floats."""
        return self.weight.shape[1], torch.float32

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        out = block.rows(self.out)
        x = block.env.get(self.source)
        if isinstance(x, Tensor):
            if x.layout not in (torch.strided, torch.sparse_csr):
                raise ExecutionError(f"{self.out}: sparse features must be CSR: x.to_sparse_csr()")
            if x.dim() != 2 or x.size(1) != len(self.weight):
                shape = list(x.shape)
                raise ExecutionError(f"{self.out}: features [nodes, {len(self.weight)}] are expected, not {shape}")
        if isinstance(x, Tensor) and x.layout == torch.sparse_csr:
            if not block.first:
                insist_on_csr(self.out, x)
            parts = x.crow_indices().numpy(), x.col_indices().numpy(), x.values().numpy()
            float_kernels.multiply_sparse_rows(*parts, self.weight, self.bias, block.first, block.last, out)
            return
        rows = block.rows(self.source)[:, : len(self.weight)]
        if self.sparse is not None:
            float_kernels.multiply_by_sparse(np.ascontiguousarray(rows), *self.sparse, self.bias, out)
        else:
            given = (torch.from_numpy(part) for part in (self.bias, rows, self.weight))
            torch.addmm(*given, out=torch.from_numpy(out))


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

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of floats."""
        return self.heads * self.columns or widths[self.source], torch.float32

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        edges, x, out = block.whole(self.edges), block.whole(self.source), block.rows(self.out)
        if isinstance(x, Tensor):
            if x.layout != torch.strided or x.dim() != 2:
                raise ExecutionError(f"{self.out}: features are added up before they are multiplied; give dense ones")
            x = x.detach().contiguous().numpy()
        insist_on_rows(self.out, edges, len(x))
        weights = edges.weights if isinstance(edges, WeightedNeighbours) else edges.ones
        bounds = self.mean, block.first, block.last, out
        if weights.ndim == 1 or (weights.shape[1] == 1 and self.heads == 1):
            float_kernels.add_up(edges.starts, edges.sources, weights.reshape(-1), x, *bounds)
        else:
            shape = self.heads, self.columns
            float_kernels.add_up_blocks(edges.starts, edges.sources, weights, *shape, x, *bounds)
