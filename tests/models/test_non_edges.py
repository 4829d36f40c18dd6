from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnncompress.models.non_edges import draw_non_edges
from tests.models.graphs import random_batch


def complete(nodes: int) -> Data:
    return Data(edge_index=(1 - torch.eye(nodes)).nonzero().t(), num_nodes=nodes)


def pairs_of(edges: Tensor) -> list[tuple[int, int]]:
    return list(map(tuple, edges.t().tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_no_edge_no_loop_and_no_other_graph(seed: int) -> None:
    torch.manual_seed(seed)
    batch = random_batch(5, seed)
    one_way = batch.edge_index[:, torch.rand(batch.num_edges) < 0.7]  # some edges are there in one direction only
    drawn = draw_non_edges(one_way, batch.batch, 3.0)
    assert drawn.numel()
    assert torch.equal(batch.batch[drawn[0]], batch.batch[drawn[1]])
    assert not set(pairs_of(drawn)) & {*pairs_of(one_way), *pairs_of(one_way.flip(0))}
    assert bool((drawn[0] != drawn[1]).all())


def test_as_many_as_a_graph_has_edges_and_non_edges() -> None:
    ring = torch.stack([torch.arange(20), torch.arange(20).roll(1)])
    double = Data(edge_index=torch.cat([ring, ring.flip(0)], dim=1), num_nodes=20)
    path = Data(edge_index=torch.tensor([[0, 1, 1, 2, 0], [1, 0, 2, 1, 0]]), num_nodes=3)
    alone = Data(edge_index=torch.empty(2, 0, dtype=torch.long), num_nodes=1)
    batch = Batch.from_data_list([double, complete(5), path, alone, double])
    drawn = draw_non_edges(batch.edge_index, batch.batch, 0.4)
    # Two rings of 40 edges and 20 loops; 0.4 x (4 + 3) of the path would be 3, it has 2 non-edges.
    assert torch.bincount(batch.batch[drawn[0]], minlength=5).tolist() == [24, 0, 2, 0, 24]


def test_a_complete_graph_has_none() -> None:
    for nodes in (1, 2, 7):
        graph = complete(nodes)
        drawn = draw_non_edges(graph.edge_index, torch.zeros(nodes, dtype=torch.long), 5.0)
        assert drawn.shape == (2, 0)


def test_every_non_edge_is_as_likely_as_another() -> None:
    torch.manual_seed(0)
    batch = random_batch(5)
    counts: Counter[tuple[int, int]] = Counter()
    for _ in range(3000):
        counts.update(pairs_of(draw_non_edges(batch.edge_index, batch.batch, 1.0)))
    edges = set(pairs_of(batch.edge_index))
    for first, last in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        inside = range(first, last)
        free = [(i, j) for i in inside for j in inside if i != j and (i, j) not in edges]
        total = sum(counts[pair] for pair in free)
        for pair in free:
            assert counts[pair] == pytest.approx(total / len(free), rel=0.25)


def test_drawn_from_torchs_seed() -> None:
    batch = random_batch(5)

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return draw_non_edges(batch.edge_index, batch.batch, 1.0)

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
