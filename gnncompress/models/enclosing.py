"""Enclosing subgraphs of candidate links, extracted once and remembered.

Subgraph methods for link prediction read a small graph around every candidate pair. Extraction depends on the graph
alone, not on any weight, so it is done once a pair, in numpy, outside of autograd; later epochs only look it up.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Enclosure:
    """The enclosing subgraph of a pair, the target link left out.

    Shapes: nodes [n], the pair itself first; edges [2, E] in local numbers, both directions; labels [n].
    """

    nodes: NDArray[np.int32]
    edges: NDArray[np.int32]
    labels: NDArray[np.int32]


class Neighbourhoods:
    """Sorted neighbour lists of an undirected graph, without self loops and repeated edges.

    Shapes: edge_index [2, E] in one or both directions.
    """

    def __init__(self, edge_index: Ids, nodes: int) -> None:
        source, target = edge_index[:, edge_index[0] != edge_index[1]]
        flat = np.unique(np.concatenate([source * nodes + target, target * nodes + source]))
        self._ends = flat % nodes
        self._starts = np.searchsorted(flat // nodes, np.arange(nodes + 1))

    def of(self, nodes: Ids) -> tuple[Ids, Ids]:
        """Return the neighbours of all ``nodes`` in one array, and how many each has."""
        lists = [self._ends[self._starts[node] : self._starts[node + 1]] for node in nodes]
        return np.concatenate(lists), np.array([len(found) for found in lists])

    def rings(self, start: int, hops: int, avoid: int) -> dict[int, int]:
        """Return the distance of every node within ``hops`` of ``start``, the link to ``avoid`` left out."""
        distance = {start: 0}
        frontier = np.array([start])
        for hop in range(1, hops + 1):
            reached = self.of(frontier)[0].tolist()
            fresh = {node for node in reached if node not in distance}
            if hop == 1:
                fresh.discard(avoid)
            if not fresh:
                break
            distance.update(dict.fromkeys(fresh, hop))
            frontier = np.fromiter(fresh, np.int64, len(fresh))
        return distance


def enclosing_subgraph(graph: Neighbourhoods, pair: tuple[int, int], hops: int, max_nodes: int) -> Enclosure:
    """Return the subgraph induced by the nodes within ``hops`` of either end of ``pair``, without the pair's own link.

    Beyond ``max_nodes`` the farthest nodes are left out: sorted by distance to the nearer end, then to the other
    end (more than ``hops`` counts as hops + 1), then by number. The order does not depend on the pair's direction.

    Source: Zhang and Chen, Link Prediction Based on Graph Neural Networks, NeurIPS 2018, section 3; the cap is ours.

    Raises:
        ValueError: if both ends are the same node.
    """
    first, second = pair
    if first == second:
        raise ValueError(f"a candidate link needs two different nodes, not {first} twice")
    ends = [graph.rings(first, hops, second), graph.rings(second, hops, first)]

    def rank(node: int) -> tuple[int, int, int]:
        distances = sorted(reached.get(node, hops + 1) for reached in ends)
        return distances[0], distances[1], node

    others = sorted((ends[0].keys() | ends[1].keys()) - {first, second}, key=rank)
    nodes = np.array([first, second, *others[: max(max_nodes - 2, 0)]])
    order = np.argsort(nodes)
    targets, counts = graph.of(nodes)
    sources = np.repeat(np.arange(len(nodes)), counts)
    positions = np.searchsorted(nodes, targets, sorter=order).clip(max=len(nodes) - 1)
    local = order[positions]
    inside = (nodes[local] == targets) & ~((sources < 2) & (local < 2))
    edges = np.stack([sources[inside], local[inside]])
    labels = double_radius_labels(edges, len(nodes), largest=largest_label(hops))
    return Enclosure(nodes.astype(np.int32), edges.astype(np.int32), labels.astype(np.int32))


def largest_label(hops: int) -> int:
    """Return the label of a node 2 hops * hops away from both ends: 4 hops^2 + 1; farther nodes share it."""
    return 4 * hops**2 + 1


def double_radius_labels(edges: Ids, nodes: int, largest: int) -> Ids:
    """Return the double-radius node labels of a subgraph whose nodes 0 and 1 are the pair.

    label = 1 + min(a, b) + (d // 2) (d // 2 + d % 2 - 1) with d = a + b, where a is the distance to node 0 without
    node 1 and b the reverse; the pair has 1, a node that misses an end 0. Values above ``largest`` are cut to it.

    Shapes: edges [2, E] local, both directions -> [nodes].

    Source: Zhang and Chen, NeurIPS 2018, section 3.1.
    """
    adjacent = np.zeros((nodes, nodes), dtype=bool)
    adjacent[edges[0], edges[1]] = True
    near, far = (_distances(adjacent, start, blocked=1 - start) for start in (0, 1))
    total = near + far
    half, odd = total // 2, total % 2
    labels = np.minimum(1 + np.minimum(near, far) + half * (half + odd - 1), largest)
    labels[(near < 0) | (far < 0)] = 0
    labels[:2] = 1
    return labels


def _distances(adjacent: NDArray[np.bool_], start: int, blocked: int) -> Ids:
    """Return all distances [n] from ``start`` on paths that avoid ``blocked``; -1 where there is none."""
    distances = np.full(len(adjacent), -1)
    distances[start] = 0
    frontier = np.array([start])
    step = 0
    while len(frontier):
        step += 1
        reached = adjacent[frontier].any(axis=0) & (distances < 0)
        reached[blocked] = False
        frontier = np.flatnonzero(reached)
        distances[frontier] = step
    return distances


class EnclosureCache:
    """The enclosing subgraphs of the pairs asked for most recently, for the graphs used most recently.

    A pair and its reverse are one. A graph is known by the content of its edge_index: changing one in place gives
    what a fresh extraction gives, and an equal copy is recognized. Copies and pickles of the cache are empty.
    """

    def __init__(self, hops: int, max_nodes: int, pairs: int = 20_000, graphs: int = 4) -> None:
        self.hops, self.max_nodes, self.pairs, self.graphs = hops, max_nodes, pairs, graphs
        self._forget()

    def __getstate__(self) -> dict[str, int]:
        return {"hops": self.hops, "max_nodes": self.max_nodes, "pairs": self.pairs, "graphs": self.graphs}

    def __setstate__(self, state: dict[str, int]) -> None:
        vars(self).update(state)
        self._forget()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, edge_index: Tensor, nodes: int, pairs: Tensor) -> list[Enclosure]:
        """Return the enclosing subgraph of each pair; pairs [2, P]."""
        number, graph = self._graph(edge_index, nodes)
        enclosures = []
        for pair in pairs.sort(dim=0).values.t().tolist():
            key = (number, *pair)
            enclosure = self._found.pop(key, None)
            if enclosure is None:
                enclosure = enclosing_subgraph(graph, (pair[0], pair[1]), self.hops, self.max_nodes)
            self._found[key] = enclosure
            if len(self._found) > self.pairs:
                self._found.popitem(last=False)
            enclosures.append(enclosure)
        return enclosures

    def _forget(self) -> None:
        self._found: OrderedDict[tuple[int, ...], Enclosure] = OrderedDict()
        self._known: list[tuple[int, int, Tensor, Neighbourhoods]] = []
        self._number = 0

    def _graph(self, edge_index: Tensor, nodes: int) -> tuple[int, Neighbourhoods]:
        """Return the number and the neighbour lists of a graph, forgetting the one unused longest."""
        edges = edge_index.detach().cpu()
        for position, (number, size, known, graph) in enumerate(self._known):
            if size == nodes and torch.equal(known, edges):
                self._known.append(self._known.pop(position))
                return number, graph
        self._number += 1
        graph = Neighbourhoods(edges.numpy(), nodes)
        self._known.append((self._number, nodes, edges.clone(), graph))
        if len(self._known) > self.graphs:
            gone = self._known.pop(0)[0]
            self._found = OrderedDict((key, found) for key, found in self._found.items() if key[0] != gone)
        return self._number, graph
