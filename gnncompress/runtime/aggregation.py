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
from gnncompress.runtime.graphs import Neighbours, check_degrees, insist_on_rows, neighbours
from gnncompress.runtime.operations import NO_OTHER, SparseCodes
from gnncompress.runtime.program import Operation
from gnncompress.runtime.rounding import NONE, fit

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
    LIKE: ClassVar[str] = "like"

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
        insist_on_dense(self.out, x)
        insist_on_rows(self.out, edges, len(x))
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

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return widths[self.source], torch.int8

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        edges: Neighbours = block.whole(self.edges)
        x, out = block.whole(self.source), block.rows(self.out)
        insist_on_dense(self.out, x)
        insist_on_rows(self.out, edges, len(x))
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

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the shape of rows of codes."""
        return self.numbers.shape[1], torch.int8

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block."""
        f = np.float32
        edges: WeightedNeighbours = block.whole(self.edges)
        insist_on_rows(self.out, edges, len(block.whole(self.source)))
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

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> np.ndarray:
        """Return a row for each graph."""
        graphs = graphs_of(env.get(self.batch), len(env[self.source]), workspace)
        out = workspace.room(self.out, (len(graphs[0]) - 1, len(self.scale)), torch.float32)
        (call,) = self.again(env, out, workspace)
        call()
        return out

    def again(self, env: Mapping[str, Any], made: np.ndarray, workspace: Workspace) -> Sequence[Callable[[], object]]:
        """Return what makes the rows."""
        x = env[self.source]
        graphs = graphs_of(env.get(self.batch), len(x), workspace)
        return (partial(kernels.pool, *graphs, x, self.scale, self.shift, self.mean, made),)


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

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> np.ndarray:
        """Return a row for each graph."""
        graphs = graphs_of(env.get(self.batch), len(env[self.source]), workspace)
        out = workspace.room(self.out, (len(graphs[0]) - 1, self.width), torch.float32)
        (call,) = self.again(env, out, workspace)
        call()
        return out

    def again(self, env: Mapping[str, Any], made: np.ndarray, workspace: Workspace) -> Sequence[Callable[[], object]]:
        """Return what makes the rows."""
        x = env[self.source]
        graphs = graphs_of(env.get(self.batch), len(x), workspace)
        return (partial(kernels.pool_largest, *graphs, x, self.table, made),)


MOST_EMPTY_GRAPHS = 2**16

_NODES = "graph {} has {:,} nodes"
_NO_NUMBERS = "batch must hold the numbers of graphs: whole ones, from 0"
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def insist_on_dense(name: str, x: object) -> None:
    """Insist on dense features where they are added up before they are multiplied.

    Raises:
        ExecutionError: naming the register that was to be made.
    """
    if isinstance(x, SparseCodes):
        raise ExecutionError(f"{name}: features are added up before they are multiplied; give dense ones")


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


def graphs_of(batch: Tensor | None, nodes: int, workspace: Workspace) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes in the order of their graphs, and where each graph's begin; all are one graph without ``batch``.

    Raises:
        ExecutionError: if ``batch`` is not what ``graphs_in`` insists on.
    """
    if batch is None:
        check_degrees(np.array([0, nodes]), _NODES)
        return np.array([0, nodes], np.int64), np.arange(nodes, dtype=np.int32)
    key = "graphs", nodes
    known = workspace.memory.get(key, (batch,))
    if known is not None:
        return known
    graphs_in(batch, nodes)
    starts = torch.cat([batch.new_zeros(1), torch.bincount(batch).cumsum(0)]).numpy()
    check_degrees(starts, _NODES)
    order = torch.argsort(batch, stable=True).int().numpy()
    return workspace.memory.keep(key, (batch,), (starts, order))
