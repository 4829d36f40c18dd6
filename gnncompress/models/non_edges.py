"""Pairs of nodes that are no edges, drawn within each graph of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_non_edges(edge_index: Tensor, batch: Tensor, share: float) -> Tensor:
    """Draw ordered pairs of one graph that are an edge in neither direction and no self loop, uniformly in a graph.

    A graph gets ``share`` times as many as it has edges, its nodes' self loops counted once each, and never more than
    it has non-edges; a pair may be drawn twice. The draws come from torch's generator.

    Shapes: edge_index [2, E], batch [N] of graph numbers in ascending order -> [2, P].
    """
    sizes = torch.bincount(batch)
    first_node, pairs = _before(sizes), sizes.square()
    # All pairs of all graphs on one line: the ones not to be drawn are points of it, the free ones are counted off.
    first_pair = _before(pairs)
    loops = torch.arange(batch.numel(), device=batch.device)
    source, target = torch.cat([edge_index, edge_index.flip(0), loops.expand(2, -1)], dim=1)
    graph = batch[source]
    taken = (first_pair[graph] + (source - first_node[graph]) * sizes[graph] + target - first_node[graph]).unique()
    free = pairs - torch.bincount(torch.searchsorted(first_pair, taken, right=True) - 1, minlength=sizes.numel())
    proper = edge_index[0, edge_index[0] != edge_index[1]]
    edges = sizes + torch.bincount(batch[proper], minlength=sizes.numel())
    owner = torch.repeat_interleave((share * edges).round().long().minimum(free))
    drawn = torch.randint(2**62, owner.shape, device=batch.device) % free[owner]
    rank = _before(free)[owner] + drawn
    free_before = taken - torch.arange(taken.numel(), device=batch.device)
    pair = rank + torch.searchsorted(free_before, rank, right=True) - first_pair[owner]
    return first_node[owner] + torch.stack([pair // sizes[owner], pair % sizes[owner]])


def _before(counts: Tensor) -> Tensor:
    """Return how many come before each of ``counts``."""
    return counts.cumsum(0) - counts
