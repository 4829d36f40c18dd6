"""What of the data a model for links sees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from gnncompress.measurements import LINKS
from gnncompress.tasks.link_prediction import LinkPrediction
from gnncompress.tasks.making import make_task
from gnncompress.tasks.splits import SplitSpec


def pairs_of(edges: Tensor) -> set[tuple[int, int]]:
    return {(min(i, j), max(i, j)) for i, j in edges.t().tolist()}


def undirected(nodes: int, seed: int, **fields: Tensor) -> Data:
    """Return a simple graph with both directions of each edge, in an order of their own."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.combinations(torch.arange(nodes)).t()
    pairs = pairs[:, torch.randperm(pairs.size(1), generator=generator)[: 3 * nodes]]
    edges = torch.cat([pairs, pairs.flip(0)], dim=1)
    order = torch.randperm(edges.size(1), generator=generator)
    return Data(x=torch.eye(nodes), edge_index=edges[:, order], **fields)


def links(data: Data, seed: int = 3) -> LinkPrediction:
    made = make_task(LINKS, [data], SplitSpec("random", seed, 0.1, 0.2))
    assert isinstance(made, LinkPrediction)
    return made


def named(data: Data, field: str) -> list[tuple[int, int, float]]:
    """Return each edge with its value."""
    return [(int(i), int(j), float(v)) for (i, j), v in zip(data.edge_index.t(), data[field].flatten(), strict=True)]


@pytest.mark.parametrize("field", ["edge_weight", "edge_attr", "edge_type"])
def test_messages_pass_over_training_edges_with_their_fields(field: str) -> None:
    data = undirected(20, 0)
    shape = (data.num_edges, 1) if field == "edge_attr" else (data.num_edges,)
    data[field] = torch.arange(data.num_edges).float().view(shape)  # another value for each direction
    made = links(data)
    train = pairs_of(made.train_edges)
    expected = sorted((i, j, v) for i, j, v in named(data, field) if (min(i, j), max(i, j)) in train)
    assert named(made.data, field) == expected, "by source, then by target"
    assert made.data[field].dim() == len(shape)
    assert made.notes == ()


def test_fields_of_edges_reach_the_model() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[int] = []
            self.lin = nn.Linear(20, 4)

        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
            assert edge_weight is not None
            self.seen.append(edge_weight.numel())
            return self.lin(x)

    data = undirected(20, 0, edge_weight=torch.rand(120))
    made, model = links(data), Weighted()
    made.check(model)
    (batch,) = made.batches(0)
    made.loss(model, batch)
    made.evaluate(model)
    made.inference(model)()
    assert set(model.seen) == {made.data.num_edges} == {2 * made.train_edges.size(1)}


def test_a_graph_without_fields_is_what_it_was() -> None:
    data = undirected(20, 0)
    made = links(data)
    assert torch.equal(made.data.edge_index, to_undirected(made.train_edges))
    assert set(made.data.keys()) == {"x", "edge_index", "num_nodes"}
    assert made.notes == ()


def test_edges_of_one_direction_pass_messages_both_ways_and_say_so() -> None:
    # 0 -> 1 and 1 -> 0 have weights of their own, all others one direction only; 2 -> 2 is a self loop.
    generator = torch.Generator().manual_seed(0)
    pairs = torch.combinations(torch.arange(2, 20)).t()
    pairs = pairs[:, torch.randperm(pairs.size(1), generator=generator)[:40]].flip(0)
    edges = torch.cat([torch.tensor([[0, 1, 2], [1, 0, 2]]), pairs], dim=1)
    data = Data(x=torch.eye(20), edge_index=edges, edge_weight=torch.arange(43).float() + 1)
    split = next(seed for seed in range(20) if (0, 1) in pairs_of(links(data, seed).train_edges))
    made = links(data, split)
    assert made.data.is_undirected()
    weight = {(i, j): v for i, j, v in named(made.data, "edge_weight")}
    given = {(i, j): v for i, j, v in named(data, "edge_weight")}
    assert (weight[0, 1], weight[1, 0]) == (1, 2)
    for (i, j), value in weight.items():
        assert value == given.get((i, j), given.get((j, i)))
    assert len(weight) == made.data.num_edges == 2 * made.train_edges.size(1)
    assert made.notes == (
        "40 of 43 edges have none back: links are predicted without direction, and messages pass both ways",
        "1 of 43 edges are self loops, which are no links, and are left out",
    )


def test_parallel_edges_with_fields_are_edges_of_their_own() -> None:
    data = undirected(20, 0)
    twice = torch.cat([data.edge_index, data.edge_index], dim=1)
    plain = links(Data(x=data.x, edge_index=twice))
    assert torch.equal(plain.data.edge_index, links(data).data.edge_index), "without fields they say nothing"
    kinds = torch.arange(2).repeat_interleave(data.num_edges)
    typed = links(Data(x=data.x, edge_index=twice, edge_type=kinds))
    assert typed.data.num_edges == 2 * plain.data.num_edges
    assert typed.data.edge_type.sum() == plain.data.num_edges


def test_fields_that_cannot_follow_the_training_edges_are_left_out_and_named() -> None:
    data = undirected(20, 0, pos=torch.rand(20, 2), edge_label=torch.ones(120), y=torch.zeros(20))
    data.edge_label_index = data.edge_index
    data.train_mask = torch.ones(20, dtype=torch.bool)
    data.edge_table = torch.rand(7)
    made = links(data)
    assert set(made.data.keys()) == {"x", "edge_index", "num_nodes"}
    assert made.notes == ("not given to the model, which may not see the edges held back: edge_table, pos",)
