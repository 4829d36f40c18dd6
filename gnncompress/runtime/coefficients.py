"""Operations that make the weights of messages, in floats, once an edge: normalization, attention, splines."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import add_self_loops, remove_self_loops, softmax

from gnncompress.errors import ExecutionError
from gnncompress.runtime.graphs import Neighbours, edges_of, neighbours, nodes_of, outside
from gnncompress.runtime.program import Operation
from gnncompress.runtime.reads import TENSORS, Constant, Forms, Kind, Read, describe, every, shown
from gnncompress.runtime.vectors import padded
from gnncompress.splines import kernel_coefficients

if TYPE_CHECKING:
    from gnncompress.runtime.executor import Workspace


@dataclass(frozen=True)
class WeightedNeighbours(Neighbours):
    """Neighbours with K weights an edge, in their order. Shapes: weights [edges, K] float32.

    Raises:
        ExecutionError: as ``Neighbours`` does, or if there are not as many weights for each edge.
    """

    weights: np.ndarray

    KIND = Kind.WEIGHTED

    def __post_init__(self) -> None:
        super().__post_init__()
        kind, size = describe(self.weights)
        if kind is not Kind.FLOATS or len(size) != 2 or size[0] != len(self.sources):
            raise ExecutionError(f"{len(self.sources):,} edges must have rows of weights, not {shown(self.weights)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The nodes, and the weights of an edge."""
        return len(self), self.weights.shape[1]


def weighted(edges: Tensor, weights: Tensor, nodes: int) -> WeightedNeighbours:
    """Sort edges and their weights [E] or [E, K] by target; see ``neighbours``.

    Raises:
        ExecutionError: as ``neighbours`` does, or if a weight is NaN or infinite.
    """
    found = neighbours(edges, nodes)
    weights = weights.detach().float()
    if not bool(weights.isfinite().all()):
        raise ExecutionError("a weight of an edge is NaN or infinite")
    by_edge = (weights.unsqueeze(1) if weights.dim() == 1 else weights)[torch.from_numpy(found.order).long()]
    return WeightedNeighbours(found.starts, found.sources, found.order, by_edge.contiguous().numpy())


@dataclass(frozen=True)
class Scale:
    """Codes of floats and the values that they stand for: scale (code - zero)."""

    scale: float
    zero: float
    low: float
    high: float

    def rounded(self, x: Tensor) -> Tensor:
        """Return ``x`` on the grid."""
        codes = (x * (1 / self.scale)).add_(self.zero).round_().clamp_(self.low, self.high)
        return codes.sub_(self.zero).mul_(self.scale)


@dataclass(frozen=True, eq=False)
class Normalized(Operation):
    """Neighbours with the weights of a GCN: D^-1/2 (A + I) D^-1/2, rounded."""

    edge_index: str
    edge_weight: str
    like: str
    improved: bool
    loops: bool
    grid: Scale | None

    by_row: ClassVar[bool] = False
    COPIES: ClassVar[bool] = True
    WHOLE: ClassVar[tuple[str, ...]] = ("edge_index", "edge_weight", "like")
    COUNTED: ClassVar[tuple[str, ...]] = ("like",)
    LIKE: ClassVar[str] = "like"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Edges, a weight for each if there are any, and what has a row for each node."""
        weights = every(TENSORS, "edges", ...) | {Kind.NOTHING: ()}
        given = (Read(self.edge_weight, "weights", weights),) if self.edge_weight else ()
        return edges_of(self.edge_index), *given, nodes_of(self.like)

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> WeightedNeighbours:
        """Return the neighbours, worked out once for a tensor of edges."""
        edges: Tensor = env[self.edge_index]
        weight: Tensor | None = env.get(self.edge_weight)
        nodes = len(env[self.like])
        key = type(self), self.out, nodes
        known = workspace.memory.get(key, (edges, weight))
        if known is not None:
            return known
        numbers = None if weight is None else weight.float().flatten()
        whole = checked(edges, nodes)
        index, norm = gcn_norm(whole, numbers, nodes, self.improved, self.loops, dtype=torch.float32)
        return workspace.memory.keep(key, (edges, weight), weighted(index, rounded(norm, self.grid), nodes))

    def again(self, env: Mapping[str, Any], made: Any, workspace: Workspace) -> tuple[()]:
        """Return that the same edges have the same neighbours."""
        return ()


@dataclass(frozen=True, eq=False)
class Attention(Operation):
    """Neighbours with the attention of a GAT: softmax of LeakyReLU of rounded logits, in floats.

    Shapes: source [nodes, heads * columns] codes, or values of scale 1; attention [2, heads, columns] for sources and
    targets.
    """

    edge_index: str
    source: str
    source_scale: float
    source_zero: float
    attention: np.ndarray
    slope: float
    loops: bool
    grid: Scale | None

    by_row: ClassVar[bool] = False
    COPIES: ClassVar[bool] = True
    WHOLE: ClassVar[tuple[str, ...]] = ("edge_index", "source")
    LIKE: ClassVar[str] = "source"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Edges, and codes or floats."""
        width = self.attention.shape[1] * self.attention.shape[2]
        forms: Forms = {Kind.CODES: ("nodes", padded(width)), Kind.FLOATS: ("nodes", (width, padded(width)))}
        return edges_of(self.edge_index), Read(self.source, "features", forms)

    def constants(self) -> Sequence[Constant]:
        """Return the attention."""
        return (Constant("attention", self.attention, np.float32, (2, None, None)),)

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> WeightedNeighbours:
        """Return the neighbours with a weight for each head."""
        nodes = len(env[self.source])
        edges = checked(env[self.edge_index], nodes)
        _, heads, columns = self.attention.shape
        x = torch.from_numpy(env[self.source][:, : heads * columns]).float()
        x = x.sub(self.source_zero).mul_(self.source_scale).view(nodes, heads, columns)
        of_source, of_target = ((x * torch.from_numpy(half)).sum(-1) for half in self.attention)
        if self.loops:
            edges = add_self_loops(remove_self_loops(edges)[0], num_nodes=nodes)[0]
        logits = rounded(of_source[edges[0]] + of_target[edges[1]], self.grid)
        weights = softmax(F.leaky_relu(logits, self.slope), edges[1], num_nodes=nodes)
        return weighted(edges, weights, nodes)


@dataclass(frozen=True, eq=False)
class Splines(Operation):
    """Neighbours with the rounded B-spline weights of their pseudo-coordinates."""

    edge_index: str
    pseudo: str
    like: str
    kernel_size: tuple[int, ...]
    is_open: tuple[bool, ...]
    degree: int
    grid: Scale | None

    by_row: ClassVar[bool] = False
    COPIES: ClassVar[bool] = True
    WHOLE: ClassVar[tuple[str, ...]] = ("edge_index", "pseudo", "like")
    COUNTED: ClassVar[tuple[str, ...]] = ("like",)
    LIKE: ClassVar[str] = "like"

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """Edges, coordinates of each, of which those behind the last dimension are not looked at, and nodes."""
        coordinates = every(TENSORS, "edges", range(len(self.kernel_size), sys.maxsize))
        return edges_of(self.edge_index), Read(self.pseudo, "coordinates", coordinates), nodes_of(self.like)

    def run(self, env: Mapping[str, Any], workspace: Workspace) -> WeightedNeighbours:
        """Return the neighbours, worked out once for a tensor of edges and one of coordinates."""
        edges: Tensor = env[self.edge_index]
        pseudo: Tensor = env[self.pseudo]
        nodes = len(env[self.like])
        key = type(self), self.out, nodes
        known = workspace.memory.get(key, (edges, pseudo))
        if known is not None:
            return known
        weights = kernel_coefficients(pseudo.float(), self.kernel_size, self.is_open, self.degree)
        return workspace.memory.keep(key, (edges, pseudo), weighted(edges, rounded(weights, self.grid), nodes))

    def again(self, env: Mapping[str, Any], made: Any, workspace: Workspace) -> tuple[()]:
        """Return that the same edges have the same neighbours."""
        return ()


def rounded(x: Tensor, grid: Scale | None) -> Tensor:
    """Return ``x`` on the grid, or as it is in a model of floats."""
    return x if grid is None else grid.rounded(x)


def checked(edges: Tensor, nodes: int) -> Tensor:
    """Return edges as torch takes them, of node numbers in [0, nodes).

    Raises:
        ExecutionError: naming one that is not.
    """
    edges = edges.long()
    if edges.numel() and (int(edges.min()) < 0 or int(edges.max()) >= nodes):
        raise outside(edges, nodes)
    return edges
