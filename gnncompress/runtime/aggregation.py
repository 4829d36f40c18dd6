"""The operations of a program that look at a graph: neighbours added up, nodes pooled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gnncompress.errors import ExecutionError
from gnncompress.runtime import kernels
from gnncompress.runtime.coefficients import WeightedNeighbours
from gnncompress.runtime.graphs import Neighbours, check_degrees, edges_of, neighbours, nodes_of
from gnncompress.runtime.operations import NO_OTHER, added, codes_of, rounding
from gnncompress.runtime.program import Operation
from gnncompress.runtime.reads import Constant, Forms, Kind, Read
from gnncompress.runtime.rounding import NONE, fit
from gnncompress.runtime.sparse import Pattern
from gnncompress.runtime.vectors import padded

if TYPE_CHECKING:
    from gnncompress.runtime.executor import Block, Workspace


@dataclass(frozen=True, eq=False)
class Edges(Operation):
    """The neighbours of each node, from edge_index; ``like`` has a row a node."""

    edge_index: str
    like: str

    by_row: ClassVar[bool] = False
    COPIES: ClassVar[bool] = True
    WHOLE: ClassVar[tuple[str, ...]] = ("edge_index", "like")
    COUNTED: ClassVar[tuple[str, ...]] = ("like",)
    LIKE: ClassVar[str] = "like"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Edges, and what has a row for each node."""
        return edges_of(self.edge_index), nodes_of(self.like)

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> Neighbours:
        """Return the neighbours, sorted once for a tensor of edges."""
        edges: Tensor = env[self.edge_index]
        nodes = len(env[self.like])
        key = type(self), nodes
        known = workspace.memory.get(key, (edges,))
        return known or workspace.memory.keep(key, (edges,), neighbours(edges, nodes))

    def again(self, env: Mapping[str, Any], made: Any, workspace: Workspace) -> tuple[()]:
        """Return that the same edges have the same neighbours."""
        return ()


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
    second: int = NONE
    other: str = ""

    OWN: ClassVar[tuple[str, ...]] = ("other",)
    WHOLE: ClassVar[tuple[str, ...]] = ("edges", "source")
    LIKE: ClassVar[str] = "edges"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Neighbours and their codes, and what is added."""
        width = self.numbers.shape[1]
        return neighbours_of(self.edges), codes_of(self.source, width), *added(self.other, self.numbers)

    def constants(self) -> Sequence[Constant]:
        """Return the numbers."""
        return (rounding(self.out, self.numbers, None, self.second, self.other),)

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return self.numbers.shape[1], torch.int8

    @cached_property
    def _fits(self) -> bool:
        return fit(self.numbers, self.second, 2.0**31, self.scale, self.shift)

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        edges: Neighbours = block.whole(self.edges)
        other = block.rows(self.other) if self.other else NO_OTHER
        scalars = np.float32(self.zero), np.float32(self.scale), np.float32(self.shift), self.mean
        bounds = block.first, block.last
        x, out = block.whole(self.source), block.rows(self.out)
        how = self.numbers, self.second, self._fits and other.dtype == np.int8
        return partial(kernels.aggregate, edges.starts, edges.sources, x, *scalars, *how, other, *bounds, out)


@dataclass(frozen=True, eq=False)
class Largest(Operation):
    """The largest of the neighbours' codes, ``nothing`` for a node that has none."""

    edges: str
    source: str
    nothing: int
    width: int

    WHOLE: ClassVar[tuple[str, ...]] = ("edges", "source")
    LIKE: ClassVar[str] = "edges"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Neighbours and their codes."""
        return neighbours_of(self.edges), codes_of(self.source, padded(self.width))

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return padded(self.width), torch.int8

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        edges: Neighbours = block.whole(self.edges)
        x, out = block.whole(self.source), block.rows(self.out)
        bounds = block.first, block.last
        given = edges.starts, edges.sources, x, np.int8(self.nothing), self.width, *bounds, out
        return partial(kernels.aggregate_largest, *given)


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
    second: int = NONE
    other: str = ""

    OWN: ClassVar[tuple[str, ...]] = ("other",)
    WHOLE: ClassVar[tuple[str, ...]] = ("edges", "source")
    LIKE: ClassVar[str] = "edges"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Neighbours with weights and their codes, and what is added."""
        edges = Read(self.edges, "weights", {Kind.WEIGHTED: ("nodes", "weights")})
        source = Read(self.source, "features", {Kind.CODES: ("nodes", "columns")})
        return edges, source, *added(self.other, self.numbers)

    def constants(self) -> Sequence[Constant]:
        """Return the numbers."""
        return (rounding(self.out, self.numbers, self.heads * self.columns, self.second, self.other),)

    def fault(self, sizes: Mapping[str, int]) -> str:
        """Return what is wrong with as many weights for as many columns."""
        weights, columns = sizes["weights"], sizes["columns"]
        if weights % self.heads or columns != padded(weights * self.columns):
            return f"{weights} weights for {self.heads} heads of {self.columns} columns do not fit {columns} columns"
        return ""

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return self.numbers.shape[1], torch.int8

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        f = np.float32
        edges: WeightedNeighbours = block.whole(self.edges)
        return partial(
            kernels.aggregate_weighted, edges.starts, edges.sources, edges.weights, self.heads, self.columns,
            block.whole(self.source), f(self.source_zero), f(self.source_scale), f(1 / self.message_scale),
            f(self.zero), f(self.low), f(self.high), f(self.scale), f(self.shift), self.mean, self.numbers, self.second,
            block.rows(self.other) if self.other else NO_OTHER, block.first, block.last, block.rows(self.out),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pool(Operation):
    """Floats: sums or means over each graph's nodes of x scale + shift. Shapes: scale, shift [channels]."""

    source: str
    batch: str
    mean: bool
    scale: np.ndarray
    shift: np.ndarray

    by_row: ClassVar[bool] = False
    COPIES: ClassVar[bool] = True
    WHOLE: ClassVar[tuple[str, ...]] = ("source", "batch")

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Codes, and a number of a graph for each node."""
        return codes_of(self.source, padded(self.scale.size)), *graph_numbers(self.batch)

    def constants(self) -> Sequence[Constant]:
        """Return scale and shift."""
        return (
            Constant("scale", self.scale, np.float32, ("channels",)),
            Constant("shift", self.shift, np.float32, ("channels",)),
        )

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> np.ndarray:
        """Return a row for each graph."""
        graphs = graphs_of(env.get(self.batch), len(env[self.source]), workspace)
        out = workspace.room(self.out, (len(graphs.starts) - 1, len(self.scale)), torch.float32)
        (call,) = self.again(env, out, workspace)
        call()
        return out

    def again(self, env: Mapping[str, Any], made: np.ndarray, workspace: Workspace) -> Sequence[Callable[[], object]]:
        """Return what makes the rows."""
        x = env[self.source]
        graphs = graphs_of(env.get(self.batch), len(x), workspace)
        return (partial(kernels.pool, graphs.starts, graphs.columns, x, self.scale, self.shift, self.mean, made),)


@dataclass(frozen=True, eq=False)
class PoolLargest(Operation):
    """Floats: of each graph's nodes' largest code the value in a table that does not fall; 0 for an empty graph."""

    source: str
    batch: str
    table: np.ndarray
    width: int

    by_row: ClassVar[bool] = False
    COPIES: ClassVar[bool] = True
    WHOLE: ClassVar[tuple[str, ...]] = ("source", "batch")

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Codes, and a number of a graph for each node."""
        return codes_of(self.source, padded(self.width)), *graph_numbers(self.batch)

    def constants(self) -> Sequence[Constant]:
        """Return the table."""
        return (Constant("table", self.table, np.float32, (256, (self.width, padded(self.width), 1))),)

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> np.ndarray:
        """Return a row for each graph."""
        graphs = graphs_of(env.get(self.batch), len(env[self.source]), workspace)
        out = workspace.room(self.out, (len(graphs.starts) - 1, self.width), torch.float32)
        (call,) = self.again(env, out, workspace)
        call()
        return out

    def again(self, env: Mapping[str, Any], made: np.ndarray, workspace: Workspace) -> Sequence[Callable[[], object]]:
        """Return what makes the rows."""
        x = env[self.source]
        graphs = graphs_of(env.get(self.batch), len(x), workspace)
        return (partial(kernels.pool_largest, graphs.starts, graphs.columns, x, self.table, made),)


MOST_EMPTY_GRAPHS = 2**16

_NODES = "graph {} has {:,} nodes"
_NO_NUMBERS = "batch must hold the numbers of graphs: whole ones, from 0"
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def neighbours_of(register: str) -> Read:
    """Return that a register must hold neighbours without weights."""
    return Read(register, "neighbours", {Kind.NEIGHBOURS: ("nodes",)})


def graph_numbers(register: str) -> tuple[Read, ...]:
    """Return that there must be the number of a graph for each node, if there are any."""
    forms: Forms = {Kind.WHOLE_TENSOR: ("nodes",), Kind.NOTHING: ()}
    return (Read(register, "numbers of graphs", forms),) if register else ()


def graphs_in(batch: Tensor, nodes: int) -> int:
    """Return the number of graphs: one more than the largest number in ``batch``, whether it has nodes or not.

    Raises:
        ExecutionError: if there is not a whole number from 0 for each node, or more than ``MOST_EMPTY_GRAPHS`` graphs
            have no node: a row for each of them would have to be made.
    """
    if batch.dtype not in _WHOLE or batch.layout != torch.strided:
        raise ExecutionError(_NO_NUMBERS)
    low, high = (int(end) for end in torch.aminmax(batch)) if batch.numel() else (0, -1)
    if low < 0:
        raise ExecutionError(_NO_NUMBERS)
    if batch.dim() != 1 or len(batch) != nodes:
        raise ExecutionError(
            f"batch must have the number of a graph for each of {nodes} nodes, not {list(batch.shape)}"
        )
    if high >= nodes + MOST_EMPTY_GRAPHS:
        raise ExecutionError(
            f"batch has graph number {high:,} for {nodes:,} nodes: number the graphs 0, 1, ... without gaps, "
            "e.g. with batch.unique(return_inverse=True)[1]"
        )
    return high + 1


def graphs_of(batch: Tensor | None, nodes: int, workspace: Workspace) -> Pattern:
    """Return where each graph's nodes are, by graph; all are one graph without ``batch``.

    Raises:
        ExecutionError: if ``batch`` is not what ``graphs_in`` insists on.
    """
    if batch is None:
        check_degrees(np.array([0, nodes]), _NODES)
        return Pattern(np.array([0, nodes], np.int64), np.arange(nodes, dtype=np.int32), nodes)
    key = "graphs", nodes
    known: Pattern | None = workspace.memory.get(key, (batch,))
    if known is not None:
        return known
    graphs_in(batch, nodes)
    numbers = batch.long()
    starts = torch.cat([numbers.new_zeros(1), torch.bincount(numbers).cumsum(0)]).numpy()
    check_degrees(starts, _NODES)
    order = torch.argsort(numbers, stable=True).int().numpy()
    found: Pattern = workspace.memory.keep(key, (batch,), Pattern(starts, order, nodes))
    return found
