from __future__ import annotations

import numpy as np
import torch

from gnncompress.models.gnnnet import GNNNet
from tests.models.graphs import dense_adjacency, normalised, numpy_state, random_batch, shake


def test_published_parameter_count() -> None:
    assert sum(parameter.numel() for parameter in GNNNet(9, 2).parameters()) == 34_562


def test_by_a_dense_version() -> None:
    torch.manual_seed(0)
    batch = random_batch(5)
    model = GNNNet(5, 2, hidden=6).eval()
    shake(model)
    state = numpy_state(model)
    spread = normalised(dense_adjacency(batch.edge_index, batch.num_nodes) + np.eye(batch.num_nodes))
    h = batch.x.numpy().astype(float)
    for layer in range(3):
        h = np.maximum(spread @ h @ state[f"convs.{layer}.lin.weight"].T + state[f"convs.{layer}.bias"], 0)
    pooled = np.stack([h[(batch.batch == graph).numpy()].max(0) for graph in range(4)])
    expected = pooled @ state["lin.weight"].T + state["lin.bias"]
    got = model(batch.x, batch.edge_index, batch.batch).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)
    alone = [model(graph.x, graph.edge_index).detach().numpy() for graph in batch.to_data_list()]
    np.testing.assert_allclose(np.concatenate(alone), expected, atol=1e-5)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    batch = random_batch(5)
    model = GNNNet(5, 2)
    model(batch.x, batch.edge_index, batch.batch).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
