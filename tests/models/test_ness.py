from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from gnncompress.datasets import load_dataset
from gnncompress.datasets.transforms import edge_order
from gnncompress.models.ness import NESS
from tests.models.graphs import dense_adjacency, normalised, numpy_state, random_data


def subgraph(edge_index: torch.Tensor, order: torch.Tensor, number: int, count: int = 4) -> torch.Tensor:
    return edge_index[:, order % count == number]


def test_published_parameter_counts() -> None:
    for contrastive, count in ((0.0, 45_888), (0.5, 48_000)):
        model = NESS(1433, 64, contrastive=contrastive)
        assert sum(parameter.numel() for parameter in model.parameters()) == count


@given(seed=st.integers(0, 50), parts=st.integers(1, 6))
def test_subgraphs_partition_the_edges(seed: int, parts: int) -> None:
    data = edge_order(random_data(15, 2, seed))
    sizes = []
    seen: list[tuple[int, int]] = []
    for number in range(parts):
        edges = subgraph(data.edge_index, data.edge_order, number, parts)
        pairs = set(map(tuple, edges.t().tolist()))
        assert {(j, i) for i, j in pairs} == pairs, "both directions are in one subgraph"
        seen += sorted(pairs)
        sizes.append(len(pairs) // 2)
    assert sorted(seen) == sorted(map(tuple, data.edge_index.t().tolist()))
    assert max(sizes) - min(sizes) <= 1


def test_subgraphs_of_cora(data_root: Path) -> None:
    data = edge_order(load_dataset("cora", data_root).as_list()[0])
    sizes = torch.bincount(data.edge_order % 4).tolist()
    assert sum(sizes) == 10_556
    assert max(sizes) - min(sizes) <= 2
    assert torch.equal(edge_order(data).edge_order, data.edge_order), "static: the same every time"


def test_mean_over_subgraphs_by_a_dense_version() -> None:
    torch.manual_seed(0)
    data = edge_order(random_data(11, 5, 0))
    model = NESS(5, 64, hidden=3).eval()
    torch.nn.init.normal_(model.lin.bias)
    state = numpy_state(model)
    h = data.x.numpy().astype(float) @ state["lin.weight"].T + state["lin.bias"]
    h = 1.8 * h / np.linalg.norm(h, axis=1, keepdims=True)
    views = []
    for number in range(4):
        edges = subgraph(data.edge_index, data.edge_order, number)
        views.append(normalised(dense_adjacency(edges, 11) + np.eye(11)) @ h)
    with torch.no_grad():
        np.testing.assert_allclose(model(data.x, data.edge_index, data.edge_order), np.mean(views, 0), atol=1e-5)
        no_dropout = NESS(5, 64, hidden=3, dropout=0.0, edge_dropout=0.0).train()
        no_dropout.load_state_dict(model.state_dict())
        got = no_dropout(data.x, data.edge_index, data.edge_order)
    np.testing.assert_allclose(got, np.stack(views), atol=1e-5)


def test_sparse_features_are_as_dense_ones() -> None:
    data = edge_order(random_data(11, 5, 0))
    model = NESS(5, 64).eval()
    dense = model(data.x, data.edge_index, data.edge_order)
    torch.testing.assert_close(model(data.x.to_sparse_csr(), data.edge_index, data.edge_order), dense)


def test_dropped_edges_come_back_and_go_in_both_directions() -> None:
    data = edge_order(random_data(30, 4, 1, share=0.5))
    model = NESS(4, 64, dropout=0.0, edge_dropout=0.5).train()
    seen: list[torch.Tensor] = []
    model.propagation.forward = lambda hidden, edges, part: seen.append(edges) or torch.zeros(4, 30, 32)  # type: ignore[assignment, func-returns-value, method-assign]
    for _ in range(20):
        model(data.x, data.edge_index, data.edge_order)
    for edges in seen:
        pairs = set(map(tuple, edges.t().tolist()))
        assert {(j, i) for i, j in pairs} == pairs
    shares = [edges.size(1) / data.num_edges for edges in seen]
    assert abs(float(np.mean(shares)) - 0.5) < 0.05
    assert min(shares[10:]) > 0.3, "the published code drops from what is left, until nothing is"


def test_contrastive_loss_by_a_slow_version() -> None:
    data = edge_order(random_data(12, 5, 2))
    torch.manual_seed(0)
    model = NESS(5, 64, hidden=4, dropout=0.0, edge_dropout=0.0, contrastive=0.3).train()
    views = model(data.x, data.edge_index, data.edge_order)
    projected = F.normalize(model.projection(views), dim=2).detach().numpy().astype(float)
    losses = []
    for number in range(4):
        similar = projected[number] @ projected[(number + 1) % 4].T / 0.1
        losses += [np.log(np.exp(row).sum()) - row[node] for node, row in enumerate(similar)]
    loss = model.auxiliary_loss()
    assert isinstance(loss, torch.Tensor)
    assert loss.item() == pytest.approx(0.3 * np.mean(losses), rel=1e-4)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.projection.parameters())


def test_a_graph_without_edges_is_embedded() -> None:
    data = random_data(5, 4, 0)
    data.edge_index = torch.empty(2, 0, dtype=torch.long)
    data = edge_order(data)
    model = NESS(4, 64)
    for mode in (True, False):
        assert torch.isfinite(model.train(mode)(data.x, data.edge_index, data.edge_order)).all()
