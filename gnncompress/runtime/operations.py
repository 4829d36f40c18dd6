"""The operations of a program on codes: what each is made of, and which kernel runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gnncompress.errors import ExecutionError
from gnncompress.runtime import kernels, products
from gnncompress.runtime.arrays import codes
from gnncompress.runtime.coefficients import WeightedNeighbours
from gnncompress.runtime.graphs import Neighbours, check_degrees, neighbours
from gnncompress.runtime.program import Operation
from gnncompress.runtime.rounding import MINUS_ZERO, SCALE, SHIFT
from gnncompress.runtime.vectors import padded

if TYPE_CHECKING:
    from gnncompress.runtime.executor import Block, Context

_NO_OTHER = np.zeros((1, 0), np.int8)


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
    WHOLE: ClassVar[tuple[str, ...]] = ("source",)
    LIKE: ClassVar[str] = "source"

    def run(self, env: Mapping[str, Any], context: Context) -> Any:
        """Return the codes; values beyond the range are counted.

        Raises:
            ExecutionError: if the features are not as wide as the model's, or a value is NaN or infinite.
        """
        x: Tensor = env[self.source].detach()
        if x.layout not in (torch.strided, torch.sparse_csr):
            raise ExecutionError(f"{self.out}: sparse features must be CSR: x.to_sparse_csr()")
        if x.dim() != 2 or x.size(1) != self.width:
            raise ExecutionError(f"{self.out}: features [nodes, {self.width}] are expected, not {list(x.shape)}")
        sparse = x.layout == torch.sparse_csr
        values = (x.values().unsqueeze(0) if sparse else x).float().contiguous()
        made = codes(*values.shape)
        limits = (np.float32(limit) for limit in (1 / self.scale, self.zero, self.low, self.high))
        clamped = kernels.quantize(values.numpy(), *limits, made)
        if clamped < 0:
            raise ExecutionError(f"{self.out}: a value is NaN or infinite")
        context.count(self.out, clamped, values.numel())
        if not sparse:
            return made
        centred = made[0, : values.size(1)].astype(np.int16) - np.int16(self.zero)
        return SparseCodes(x.crow_indices().long().numpy(), x.col_indices().long().numpy(), centred, self.width)


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

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        kernels.rescale(block.rows(self.source), self.numbers, block.rows(self.out))


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

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        kernels.look_up(block.rows(self.source), self.table, self.width, block.rows(self.out))


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

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        kernels.add(block.rows(self.source), block.rows(self.other), self.numbers, block.rows(self.out))


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
    second: int = kernels.NONE
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

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        source, out = block.rows(self.source), block.rows(self.out)
        other = block.rows(self.other) if self.other else _NO_OTHER
        totals = block.scratch("totals", (len(out),), torch.float32)

        def sums() -> np.ndarray:
            return block.scratch("sums", (len(out), self.weight.shape[1]), torch.int32)

        if isinstance(source, SparseCodes):
            self._multiply_sparse(source, block, sums(), totals)
        if self.floats:
            if not isinstance(source, SparseCodes):
                products.multiply(source, self._weight, sums(), totals)
            numbers = self.numbers
            kernels.finish_values(sums(), totals, -numbers[MINUS_ZERO], numbers[SCALE], numbers[SHIFT], out)
        elif isinstance(source, SparseCodes):
            kernels.finish(sums(), totals, self.numbers, self.second, other, out)
        else:
            products.multiply_and_round(source, self._weight, totals, self.numbers, self.second, other, out, sums)

    def _multiply_sparse(self, source: SparseCodes, block: Block, sums: np.ndarray, totals: np.ndarray) -> None:
        bounds = block.first, block.last
        kernels.multiply_sparse(source.starts, source.columns, source.values, self.weight, *bounds, sums, totals)


@dataclass(frozen=True, eq=False)
class Edges(Operation):
    """The neighbours of each node, from edge_index; ``like`` has a row a node."""

    edge_index: str
    like: str

    by_row: ClassVar[bool] = False
    WHOLE: ClassVar[tuple[str, ...]] = ("edge_index", "like")
    LIKE: ClassVar[str] = "like"

    def run(self, env: Mapping[str, Any], context: Context) -> Neighbours:
        """Return the neighbours, sorted once for a tensor of edges."""
        edges: Tensor = env[self.edge_index]
        nodes = len(env[self.like])
        key = type(self), nodes
        known = context.memory.get(key, (edges,))
        return known or context.memory.keep(key, (edges,), neighbours(edges, nodes))


@dataclass(frozen=True, eq=False)
class Aggregate(Operation):
    """Codes of the sums, or means, of neighbours' codes; rounded once, or again, or with rows of the nodes' own added.

    sum of (x - zero) scale + shift. ``numbers`` hold the bounds and what follows.
    """

    edges: str
    source: str
    zero: float
    scale: float
    shift: float
    mean: bool
    numbers: np.ndarray
    second: int = kernels.NONE
    other: str = ""

    OWN: ClassVar[tuple[str, ...]] = ("other",)
    WHOLE: ClassVar[tuple[str, ...]] = ("edges", "source")
    LIKE: ClassVar[str] = "edges"

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return self.numbers.shape[1], torch.int8

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        edges: Neighbours = block.whole(self.edges)
        other = block.rows(self.other) if self.other else _NO_OTHER
        scalars = np.float32(self.zero), np.float32(self.scale), np.float32(self.shift), self.mean
        bounds = block.first, block.last
        x, out = block.whole(self.source), block.rows(self.out)
        if isinstance(x, SparseCodes):
            raise ExecutionError(f"{self.out}: it adds features up before it multiplies them; give it dense ones")
        kernels.aggregate(edges.starts, edges.sources, x, *scalars, self.numbers, self.second, other, *bounds, out)


@dataclass(frozen=True, eq=False)
class Largest(Operation):
    """The largest of the neighbours' codes, ``nothing`` for a node that has none."""

    edges: str
    source: str
    nothing: int
    width: int

    WHOLE: ClassVar[tuple[str, ...]] = ("edges", "source")
    LIKE: ClassVar[str] = "edges"

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return widths[self.source], torch.int8

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        edges: Neighbours = block.whole(self.edges)
        x, out = block.whole(self.source), block.rows(self.out)
        bounds = block.first, block.last
        kernels.aggregate_largest(edges.starts, edges.sources, x, np.int8(self.nothing), self.width, *bounds, out)


@dataclass(frozen=True, eq=False)
class Weighted(Operation):
    """Codes of the sums, or means, of neighbours' messages: weighted features, rounded to codes of their own.

    With K weights an edge and head, a message adds up K blocks of its source's ``columns`` features.
    """

    edges: str
    source: str
    heads: int
    columns: int
    source_zero: float
    source_scale: float
    message_scale: float
    zero: float
    low: float
    high: float
    scale: float
    shift: float
    mean: bool
    numbers: np.ndarray
    second: int = kernels.NONE
    other: str = ""

    OWN: ClassVar[tuple[str, ...]] = ("other",)
    WHOLE: ClassVar[tuple[str, ...]] = ("edges", "source")
    LIKE: ClassVar[str] = "edges"

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return self.numbers.shape[1], torch.int8

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        f = np.float32
        edges: WeightedNeighbours = block.whole(self.edges)
        kernels.aggregate_weighted(
            edges.starts, edges.sources, edges.weights, self.heads, self.columns, block.whole(self.source),
            f(self.source_zero), f(self.source_scale), f(1 / self.message_scale), f(self.zero), f(self.low),
            f(self.high), f(self.scale), f(self.shift), self.mean, self.numbers, self.second,
            block.rows(self.other) if self.other else _NO_OTHER, block.first, block.last, block.rows(self.out),
        )  # fmt: skip


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

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        kernels.values_of(block.rows(self.source), self.table, block.rows(self.out))


@dataclass(frozen=True, eq=False)
class Pool(Operation):
    """Floats: sums or means over each graph's nodes of x scale + shift. Shapes: scale, shift [channels]."""

    source: str
    batch: str
    mean: bool
    scale: np.ndarray
    shift: np.ndarray

    by_row: ClassVar[bool] = False
    WHOLE: ClassVar[tuple[str, ...]] = ("source", "batch")

    def run(self, env: Mapping[str, Any], context: Context) -> Tensor:
        """Return a row for each graph."""
        x = env[self.source]
        starts, nodes = graphs_of(env.get(self.batch), len(x), context)
        out = torch.empty(len(starts) - 1, len(self.scale))
        kernels.pool(starts, nodes, x, self.scale, self.shift, self.mean, out.numpy())
        return out


@dataclass(frozen=True, eq=False)
class PoolLargest(Operation):
    """Floats: of each graph's nodes' largest code the value in a table that does not fall; 0 for an empty graph."""

    source: str
    batch: str
    table: np.ndarray
    width: int

    by_row: ClassVar[bool] = False
    WHOLE: ClassVar[tuple[str, ...]] = ("source", "batch")

    def run(self, env: Mapping[str, Any], context: Context) -> Tensor:
        """Return a row for each graph."""
        x = env[self.source]
        starts, nodes = graphs_of(env.get(self.batch), len(x), context)
        out = torch.empty(len(starts) - 1, self.width)
        kernels.pool_largest(starts, nodes, x, self.table, out.numpy())
        return out


def graphs_of(batch: Tensor | None, nodes: int, context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes in the order of their graphs, and where each graph's begin; all are one graph without ``batch``.

    Raises:
        ExecutionError: if there is not a number for each node.
    """
    if batch is None:
        return np.array([0, nodes], np.int64), np.arange(nodes, dtype=np.int32)
    whole = not batch.is_floating_point() and batch.dim() == 1
    if not whole or len(batch) != nodes or (nodes and int(batch.min()) < 0):
        raise ExecutionError(
            f"batch must have the number of a graph for each of {nodes} nodes, not {list(batch.shape)}"
        )
    key = "graphs", nodes
    known = context.memory.get(key, (batch,))
    if known is not None:
        return known
    starts = torch.cat([batch.new_zeros(1), torch.bincount(batch).cumsum(0)]).numpy()
    check_degrees(starts)
    order = torch.argsort(batch, stable=True).int().numpy()
    return context.memory.keep(key, (batch,), (starts, order))
