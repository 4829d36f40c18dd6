from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Batch
from torch_geometric.nn import SuperGATConv

from gnncompress.models.convnet import GAT, GCN, READOUTS, ConvNet, GraphConvNet, GraphSAGE, SuperGAT
from tests.models.graphs import dense_adjacency, normalised, numpy_state, random_batch, random_data, shake

NETWORKS = [GCN, GraphConvNet, GraphSAGE, GAT, SuperGAT]


def test_gcn_by_a_dense_version() -> None:
    data = random_data(9, 5, 0)
    model = GCN(5, 3, hidden=4).eval()
    shake(model)
    state = numpy_state(model)
    spread = normalised(dense_adjacency(data.edge_index, 9) + np.eye(9))
    x = data.x.numpy().astype(float)
    hidden = np.maximum(spread @ x @ state["convs.0.lin.weight"].T + state["convs.0.bias"], 0)
    expected = spread @ hidden @ state["convs.1.lin.weight"].T + state["convs.1.bias"]
    np.testing.assert_allclose(model(data.x, data.edge_index).detach().numpy(), expected, atol=1e-5)


def test_graphconv_has_no_self_loops() -> None:
    data = random_data(9, 5, 1)
    model = GraphConvNet(5, 3, hidden=4).eval()
    shake(model)
    state = numpy_state(model)
    spread = normalised(dense_adjacency(data.edge_index, 9))
    x = data.x.numpy().astype(float)
    hidden = np.maximum(spread @ x @ state["convs.0.lin.weight"].T + state["convs.0.bias"], 0)
    expected = spread @ hidden @ state["convs.1.lin.weight"].T + state["convs.1.bias"]
    out = model(data.x, data.edge_index).detach().numpy()
    np.testing.assert_allclose(out, expected, atol=1e-5)
    np.testing.assert_allclose(out[-1], state["convs.1.bias"], atol=1e-6)


def test_graphsage_by_a_dense_version() -> None:
    data = random_data(9, 5, 2)
    model = GraphSAGE(5, 3, hidden=4).eval()
    shake(model)
    state = numpy_state(model)
    adjacency = dense_adjacency(data.edge_index, 9)
    mean = adjacency / np.maximum(adjacency.sum(1, keepdims=True), 1)
    h = data.x.numpy().astype(float)
    for layer in (0, 1):
        left, right = state[f"convs.{layer}.lin_l.weight"], state[f"convs.{layer}.lin_r.weight"]
        h = mean @ h @ left.T + state[f"convs.{layer}.lin_l.bias"] + h @ right.T
        h = np.maximum(h, 0) if layer == 0 else h
    np.testing.assert_allclose(model(data.x, data.edge_index).detach().numpy(), h, atol=1e-5)


def test_gat_by_a_dense_version() -> None:
    data = random_data(7, 4, 3)
    model = GAT(4, 3, hidden=2).eval()
    shake(model)
    state = numpy_state(model)
    reach = dense_adjacency(data.edge_index, 7) + np.eye(7)

    def attend(h: np.ndarray, layer: int, heads: int) -> np.ndarray:
        z = (h @ state[f"convs.{layer}.lin.weight"].T).reshape(7, heads, -1)
        source = (z * state[f"convs.{layer}.att_src"]).sum(2)
        target = (z * state[f"convs.{layer}.att_dst"]).sum(2)
        logits = source[None] + target[:, None]
        weights = np.exp(np.where(logits > 0, logits, 0.2 * logits)) * reach[:, :, None]
        weights /= weights.sum(1, keepdims=True)
        out = np.einsum("ijh,jhc->ihc", weights, z).reshape(7, -1)
        return out + state[f"convs.{layer}.bias"]

    hidden = attend(data.x.numpy().astype(float), 0, 8)
    hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))
    np.testing.assert_allclose(model(data.x, data.edge_index).detach().numpy(), attend(hidden, 1, 1), atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_graphs_in_a_batch_are_as_alone(network: type[ConvNet]) -> None:
    torch.manual_seed(0)
    batch = random_batch(5)
    for readout in READOUTS:
        model = network(5, 2, hidden=4, layers=3, readout=readout).eval()
        together = model(batch.x, batch.edge_index, batch.batch)
        alone = torch.cat([model(graph.x, graph.edge_index) for graph in batch.to_data_list()])
        assert together.shape == (4, 2)
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("readout", ["", "mean"])
def test_every_parameter_learns(network: type[ConvNet], readout: str) -> None:
    torch.manual_seed(0)
    batch = random_batch(5)
    model = network(5, 3, hidden=4, dropout=0.0, readout=readout).train()
    out = model(batch.x, batch.edge_index, batch.batch)
    assert out.shape == ((4, 3) if readout else (batch.num_nodes, 3))
    loss = out.square().sum()
    if isinstance(model, SuperGAT):
        loss = loss + model.auxiliary_loss()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_sparse_features_are_as_dense_ones() -> None:
    data = random_data(9, 5, 4)
    data.x = data.x * (data.x > 0.5)
    for network in (GCN, GraphConvNet):
        model = network(5, 3).eval()
        dense = model(data.x, data.edge_index)
        torch.testing.assert_close(model(data.x.to_sparse_csr(), data.edge_index), dense)


def test_attention_loss_is_weighted_and_seeded() -> None:
    data = random_data(12, 5, 5)
    losses = []
    for weight in (1.0, 4.0):
        seed_everything(0)
        model = SuperGAT(5, 3, hidden=2, attention_weight=weight).train()
        model(data.x, data.edge_index)
        losses.append(model.auxiliary_loss().item())
    assert losses[1] == pytest.approx(4 * losses[0])
    assert losses[0] > 0
    with_batch = random_batch(5)
    model(with_batch.x, with_batch.edge_index, with_batch.batch)
    assert torch.isfinite(model.auxiliary_loss())


def test_attention_is_trained_on_non_edges_of_the_batchs_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch.from_data_list([random_data(30, 5, seed, share=0.2) for seed in range(8)])
    model = SuperGAT(5, 2, hidden=2, readout="mean").train()
    given: list[Tensor] = []
    forward = SuperGATConv.forward

    def spy(conv: SuperGATConv, x: Tensor, edge_index: Tensor, neg_edge_index: Tensor) -> Tensor:
        given.append(neg_edge_index)
        return forward(conv, x, edge_index, neg_edge_index)

    monkeypatch.setattr(SuperGATConv, "forward", spy)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)  # Python's and numpy's generators have no part in it
        model(batch.x, batch.edge_index, batch.batch)
        losses.append(model.auxiliary_loss().item())
    assert losses[0] == losses[1]
    edges = set(map(tuple, batch.edge_index.t().tolist()))
    for drawn in given:
        # Half of the 0.8 of edges and loops that are trained on.
        assert drawn.size(1) == pytest.approx(0.4 * (batch.num_edges + batch.num_nodes), abs=8)
        assert not edges & set(map(tuple, drawn.t().tolist()))
        assert torch.equal(batch.batch[drawn[0]], batch.batch[drawn[1]])


def test_dropout_works_on_every_layer_in_training_only() -> None:
    data = random_data(9, 5, 6)
    model: nn.Module = GCN(5, 3, dropout=0.5)
    assert not torch.equal(model(data.x, data.edge_index), model(data.x, data.edge_index))
    model.eval()
    assert torch.equal(model(data.x, data.edge_index), model(data.x, data.edge_index))
