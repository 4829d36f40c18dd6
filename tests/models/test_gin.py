from __future__ import annotations

import numpy as np
import pytest
import torch

from gnncompress.models.gin import GIN
from tests.models.graphs import dense_adjacency, numpy_state, random_batch, shake


@pytest.mark.parametrize(("features", "count"), [(3, 43_271), (9, 43_655)])
def test_published_parameter_counts(features: int, count: int) -> None:
    assert sum(parameter.numel() for parameter in GIN(features, 2).parameters()) == count


@pytest.mark.parametrize("readout", ["sum", "mean"])
def test_by_a_dense_version(readout: str) -> None:
    torch.manual_seed(0)
    batch = random_batch(3)
    model = GIN(3, 2, hidden=4, layers=2, readout=readout).eval()
    shake(model)
    s = numpy_state(model)

    def normalise(h: np.ndarray, name: str) -> np.ndarray:
        scaled = (h - s[f"{name}.running_mean"]) / np.sqrt(s[f"{name}.running_var"] + 1e-5)
        return scaled * s[f"{name}.weight"] + s[f"{name}.bias"]

    adjacency = dense_adjacency(batch.edge_index, batch.num_nodes)
    h = batch.x.numpy().astype(float)
    for layer in range(2):
        name = f"convs.{layer}"
        h = (1 + s[f"{name}.eps"]) * h + adjacency @ h
        h = np.maximum(h @ s[f"{name}.nn.0.weight"].T + s[f"{name}.nn.0.bias"], 0)
        h = np.maximum(h @ s[f"{name}.nn.2.weight"].T + s[f"{name}.nn.2.bias"], 0)
        h = normalise(normalise(h, f"{name}.nn.4"), f"norms.{layer}")
    members = [h[(batch.batch == graph).numpy()] for graph in range(4)]
    pooled = np.stack([part.sum(0) if readout == "sum" else part.mean(0) for part in members])
    hidden = np.maximum(pooled @ s["lin1.weight"].T + s["lin1.bias"], 0)
    expected = hidden @ s["lin2.weight"].T + s["lin2.bias"]
    got = model(batch.x, batch.edge_index, batch.batch).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=1e-4)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    batch = random_batch(3)
    model = GIN(3, 2, dropout=0.0).train()
    model(batch.x, batch.edge_index, batch.batch).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    assert model.convs[0].eps.grad.abs() > 0


def test_one_graph_needs_no_batch() -> None:
    graph = random_batch(3).get_example(0)
    model = GIN(3, 2).eval()
    torch.testing.assert_close(
        model(graph.x, graph.edge_index),
        model(graph.x, graph.edge_index, torch.zeros(graph.num_nodes, dtype=torch.long)),
    )
