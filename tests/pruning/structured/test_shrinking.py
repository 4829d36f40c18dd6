from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric import nn as pyg

import gnncompress
from gnncompress.errors import PruningError, UsageError
from gnncompress.models.convnet import GAT, GCN, GraphConvNet, GraphSAGE, SuperGAT
from gnncompress.models.gin import GIN
from gnncompress.models.gnnnet import GNNNet
from gnncompress.models.hgpsl import HGPSL
from gnncompress.models.ness import NESS
from gnncompress.models.spline import SplineNet
from gnncompress.pruning.structured.channels import find_channels
from gnncompress.pruning.structured.shrinking import _removal_order, shrink, unit_importance
from gnncompress.pruning.structured.surgery import (
    fit,
    kept_indices,
    parameters_left,
    replace_tensors,
    shrunk_tensors,
    zeroed,
)

Forward = Callable[[nn.Module], Tensor]
NODES, FEATURES, CLASSES = 12, 5, 3


def graph() -> tuple[Tensor, Tensor, Tensor]:
    """Return features, edges within two graphs, and the graph of every node."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(NODES, FEATURES, generator=generator)
    half = torch.randint(0, NODES // 2, (2, 14), generator=generator)
    edges = torch.cat([half, half.flip(0), half + NODES // 2, half.flip(0) + NODES // 2], dim=1)
    return x, edges, torch.arange(NODES) // (NODES // 2)


X, EDGES, BATCH = graph()
PSEUDO = torch.rand(EDGES.size(1), 1, generator=torch.Generator().manual_seed(4))


def nodes(model: nn.Module) -> Tensor:
    return model(X, EDGES)


def sparse(model: nn.Module) -> Tensor:
    return model(X.to_sparse_csr(), EDGES)


def graphs(model: nn.Module) -> Tensor:
    return model(X, EDGES, BATCH)


def spline(model: nn.Module) -> Tensor:
    return model(X, EDGES, PSEUDO)


def links(model: nn.Module) -> Tensor:
    z = model(X, EDGES, torch.arange(EDGES.size(1)))
    return (z[EDGES[0]] * z[EDGES[1]]).sum(-1)


class Own(nn.Module):
    """A user's model: a residual block, batch norm, a concatenation, attention with heads; its head comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.PReLU(8), nn.Linear(8, CLASSES))
        self.first = pyg.GCNConv(FEATURES, 8)
        self.norm = pyg.BatchNorm(8)
        self.second = pyg.GraphConv(8, 8)
        self.third = pyg.GATv2Conv(8, 4, heads=2)
        self.mix = nn.Linear(16, 8)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.norm(self.first(x, edge_index)).relu()
        x = x + self.second(x, edge_index).relu()
        return self.head(self.mix(torch.cat([x, self.third(x, edge_index)], dim=-1)))


MODELS: dict[str, tuple[Callable[[], nn.Module], Forward]] = {
    "gcn": (lambda: GCN(FEATURES, CLASSES, hidden=8, layers=3), nodes),
    "gcn on sparse features": (lambda: GCN(FEATURES, CLASSES, hidden=8), sparse),
    "graphconv": (lambda: GraphConvNet(FEATURES, CLASSES, hidden=8), nodes),
    "graphsage": (lambda: GraphSAGE(FEATURES, CLASSES, hidden=8, layers=3), nodes),
    "gat": (lambda: GAT(FEATURES, CLASSES, hidden=4, layers=3), nodes),
    "supergat": (lambda: SuperGAT(FEATURES, CLASSES, 4, 3), nodes),
    "spline": (lambda: SplineNet(FEATURES, CLASSES, hidden=8), spline),
    "gin": (lambda: GIN(FEATURES, CLASSES, hidden=8, layers=3), graphs),
    "gnnnet": (lambda: GNNNet(FEATURES, CLASSES, hidden=8), graphs),
    "hgpsl": (lambda: HGPSL(FEATURES, CLASSES, hidden=8), graphs),
    "pyg sage, jumping knowledge": (lambda: pyg.GraphSAGE(FEATURES, 8, 3, CLASSES, jk="cat", norm="graph_norm"), nodes),
    "pyg gin, maximum": (lambda: pyg.GIN(FEATURES, 8, 2, CLASSES, jk="max", norm="batch_norm"), nodes),
    "pyg gat, heads averaged": (lambda: nn_pair(pyg.GATConv(FEATURES, 6, heads=3, concat=False)), nodes),
    "batch norm without weights": (lambda: plain_norm(), nodes),
    "own": (Own, nodes),
}


def plain_norm() -> nn.Module:
    layers = [(pyg.GCNConv(FEATURES, 6), "x, edge_index -> x"), nn.BatchNorm1d(6, affine=False), nn.ReLU()]
    return pyg.Sequential("x, edge_index", [*layers, pyg.Linear(6, CLASSES)])


def nn_pair(first: nn.Module) -> nn.Module:
    return pyg.Sequential("x, edge_index", [(first, "x, edge_index -> x"), nn.ReLU(), pyg.Linear(6, CLASSES)])


def unsettled(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return a model whose normalizations and biases are not at their neutral first values."""
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.dim() == 1 and tensor.numel() > 1:
                tensor.uniform_(0.5, 1.5) if "var" in name else tensor.normal_()
    return model.eval()


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_the_smaller_model_is_the_masked_dense_one(name: str) -> None:
    make, forward = MODELS[name]
    for seed in range(3):
        model = unsettled(make, seed)
        before = size(model)
        channels = find_channels(model, forward)
        removed = np.random.default_rng(seed).random(len(channels.group)) < 0.5
        for group in np.unique(channels.group):
            removed[np.flatnonzero(channels.group == group)[0]] = False
        with torch.no_grad(), zeroed(model, channels, removed):
            masked = forward(model)
        expected = parameters_left(model, channels, removed)
        with torch.no_grad():
            dense = forward(model)
        replace_tensors(model, shrunk_tensors(model, channels, removed))
        assert size(model) == expected < before
        with torch.no_grad():
            pruned = forward(model)
        torch.testing.assert_close(pruned, masked, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(dense, masked, atol=1e-3)  # something did change


@pytest.mark.parametrize("name", MODELS)
def test_the_pruned_model_trains_and_loads_into_a_fresh_one(name: str) -> None:
    make, forward = MODELS[name]
    model = unsettled(make)
    result = gnncompress.prune(model, "structured", 0.5, forward=forward)
    assert 0.3 < result.parameters_removed < 0.7
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01)
    forward(model).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.numel() > 1)
    optimizer.step()
    fresh = fit(make(), model.state_dict())
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(forward(fresh.eval()), forward(model.eval()))


def test_an_embedding_may_get_narrower_where_it_is_free() -> None:
    model = unsettled(lambda: NESS(FEATURES, 16, hidden=8))
    with pytest.raises(PruningError, match="lin: its channels are the model's output"):
        find_channels(model, links)
    _, removed = shrink(model, links, 0.5, "l2", free_outputs=True)
    assert removed.sum() == 4
    assert model.lin.out_features == 4


def test_sizes_that_layers_remember_are_mended() -> None:
    model = unsettled(lambda: GAT(FEATURES, CLASSES, hidden=4, layers=3))
    gnncompress.prune(model, "structured", 0.6, forward=nodes)
    first, second = model.convs[0], model.convs[1]
    assert first.out_channels == first.att_src.shape[2] < 4
    assert second.in_channels == first.lin.weight.shape[0] == 8 * first.out_channels
    assert first.lin.out_channels == first.lin.weight.shape[0]


def test_the_importance_of_a_channel_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [0.5, 0.5]]))
        model[0].bias.copy_(torch.tensor([3.0, 0.0]))
        model[1].weight.copy_(torch.tensor([[-4.0, 1.0]]))
    channels = find_channels(model, lambda m: m(torch.ones(1, 2)))
    assert unit_importance(model, channels, "l1").tolist() == [1 + 2 + 3 + 4, 0.5 + 0.5 + 0 + 1]
    assert unit_importance(model, channels, "l2").tolist() == pytest.approx([30**0.5, 1.5**0.5])
    x = torch.tensor([[1.0, 2.0]])
    found = unit_importance(model, channels, "taylor", lambda m: [m(x).sum()])
    # d/dw of y = v (W x + b) + c: dW = v' x, db = v', dv = W x + b; each times its own weight, without a sign.
    first = abs(1 * -4 * 1) + abs(-2 * -4 * 2) + abs(3 * -4) + abs(-4 * (1 - 4 + 3))
    second = abs(0.5 * 1 * 1) + abs(0.5 * 1 * 2) + 0 + abs(1 * (0.5 + 1))
    assert found.tolist() == pytest.approx([first, second])


def test_order_of_removal_by_hand() -> None:
    group = np.array([0, 0, 0, 0, 1, 1])
    importance = np.array([4.0, 1.0, 3.0, 2.0, 9.0, 0.5])
    # Of set 0 stay 3/4, 2/4, 1/4 without units 1, 3, 2; of set 1 stays 1/2 without unit 5; the last of each set stays.
    assert _removal_order(group, importance, [1, 1]).tolist() == [1, 3, 5, 2]
    # Of set 1 stays k^2 where k stays of set 0: 1/2 counts as 0.71.
    assert _removal_order(group, importance, [1, 2]).tolist() == [1, 5, 3, 2]


def test_channels_go_in_blocks_of_eight() -> None:
    group = np.repeat([0, 1], [20, 6])
    order = _removal_order(group, np.arange(26.0), [1, 1])
    # What stays: 5/6, then 16/20, 4/6, 3/6, 8/20, and one by one 7/20, 2/6, 6/20, ...
    assert order[:7].tolist() == [20, 0, 1, 2, 3, 21, 22]
    assert order[7:18].tolist() == [*range(4, 12), 12, 23, 13]
    assert len(order) == 24


@settings(deadline=None, max_examples=25)
@given(sparsity=st.floats(0, 0.9), seed=st.integers(0, 9))
def test_as_near_to_the_parameters_asked_for_as_channels_allow(sparsity: float, seed: int) -> None:
    model = unsettled(lambda: GraphSAGE(FEATURES, CLASSES, hidden=16, layers=3), seed)
    total = size(model)
    largest = (2 * 16 + 1) + 2 * 16  # what one channel between two hidden layers can be
    gnncompress.prune(model, "structured", sparsity, forward=nodes, seed=seed)
    assert abs(size(model) - (1 - sparsity) * total) <= largest + 1


def test_random_is_a_control_by_seed() -> None:
    kept = []
    for seed in (0, 0, 1):
        model = unsettled(lambda: GCN(FEATURES, CLASSES, hidden=16))
        dense = copy.deepcopy(model)
        gnncompress.prune(model, "structured", 0.5, forward=nodes, importance="random", seed=seed)
        kept.append([row for row in dense.convs[0].lin.weight.tolist() if row in model.convs[0].lin.weight.tolist()])
    assert kept[0] == kept[1] != kept[2]


class Opaque(nn.Module):
    """Between two layers with rules lies one without."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first = pyg.SAGEConv(FEATURES, 8)
        self.inner = pyg.SAGEConv(8, 8)
        self.middle = middle
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.inner(self.first(x, edge_index).relu(), edge_index).relu()
        if isinstance(self.middle, pyg.MessagePassing):
            return self.last(self.middle(x, edge_index).relu())
        return self.last(self.middle(x))


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        (lambda: nn.LayerNorm(8), "no rule for LayerNorm"),
        (lambda: pyg.TransformerConv(8, 4, heads=2), "no rule for TransformerConv"),
        (lambda: pyg.GATConv(8, 8, residual=True), "no rule for the res.weight of this GATConv"),
        (lambda: pyg.SAGEConv(8, 8, project=True), "no rule for the lin.bias, lin.weight of this SAGEConv"),
    ],
)
def test_layers_without_a_rule_stay_whole_and_are_named(middle: Callable[[], nn.Module], reason: str) -> None:
    model = unsettled(lambda: Opaque(middle()))
    channels = find_channels(model, nodes)
    assert channels.layers == (("first",),)
    assert channels.whole["middle"] == reason
    assert channels.whole["inner"] == f"shares channels with middle, {reason}"
    before = {name: tensor.shape for name, tensor in model.middle.state_dict().items()}
    gnncompress.prune(model, "structured", 0.2, forward=nodes)
    assert {name: tensor.shape for name, tensor in model.middle.state_dict().items()} == before
    assert model.first.out_channels < 8
    with pytest.raises(PruningError, match=r"by removing channels: at most 0\.\d+ can go; kept whole: "):
        gnncompress.prune(model, "structured", 0.95, forward=nodes)


class Mixing(nn.Module):
    """Sums neighbouring channels, which no graph of dependencies shows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, 8)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).softmax(-1))


def test_a_model_that_mixes_channels_is_refused_and_left_as_it_was() -> None:
    model = unsettled(Mixing)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PruningError, match=r"smaller and of the masked model differ by .* between the layers first"):
        gnncompress.prune(model, "structured", 0.5, forward=lambda m: m(X))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    ("model", "keywords", "error", "message"),
    [
        (lambda: nn.Linear(5, 3), {}, PruningError, "Linear has no channels that could be removed"),
        (lambda: pyg.PNAConv(5, 5, ["sum"], ["identity"], torch.ones(4).long()), {}, PruningError, "no rule|cannot be"),
        (lambda: nn.Linear(4, 3), {}, PruningError, "cannot be traced for structured pruning: RuntimeError: mat1"),
        (lambda: Mixing(), {"sparsity": 1.0}, UsageError, "must be a finite number, at least 0 and below 1"),
        (lambda: Mixing(), {"importance": "taylor"}, UsageError, "this importance needs gradients: give loss="),
        (lambda: Mixing(), {"importance": "magnitude"}, UsageError, "unknown importance 'magnitude'; there is: l1"),
        (lambda: Mixing(), {"forward": None}, UsageError, "method structured needs forward="),
        (lambda: Mixing(), {"min_keep": 0.1}, UsageError, "min_keep: method structured has no such option"),
    ],
)
def test_bad_input(
    model: Callable[[], nn.Module], keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments = {"sparsity": 0.5, "forward": lambda m: m(X), **keywords}
    with pytest.raises(error, match=message):
        gnncompress.prune(model(), "structured", **arguments)


def test_kept_indices_of_coupled_halves() -> None:
    model = unsettled(lambda: HGPSL(FEATURES, CLASSES, hidden=4))
    channels = find_channels(model, graphs)
    unit = channels.owner["conv1.lin.weight", 0][1]
    removed = np.arange(len(channels.group)) == unit
    kept = kept_indices(channels, removed)
    assert kept["conv1.lin.weight", 0].tolist() == [0, 2, 3]
    assert kept["pool1.att", 1].tolist() == [0, 2, 3, 4, 6, 7]
    assert kept["lin1.weight", 1].tolist() == [0, 2, 3, 4, 6, 7]


@pytest.mark.parametrize("name", MODELS)
def test_the_order_in_which_layers_are_registered_does_not_matter(name: str) -> None:
    make, forward = MODELS[name]
    model = unsettled(make)
    found = find_channels(model, forward)
    model._modules = dict(reversed(model._modules.items()))
    turned = find_channels(model, forward)
    assert {frozenset(layers) for layers in turned.layers} == {frozenset(layers) for layers in found.layers}
    assert turned.whole == found.whole


class Trained(nn.Module):
    """Has a layer that only training calls."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(FEATURES, 8)
        self.decoder = nn.Linear(8, FEATURES)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(x).relu()
        return self.head(h) + self.decoder(h).mean() if self.training else self.head(h)


def test_a_layer_that_inference_does_not_call_is_refused_by_name() -> None:
    model = Trained()
    with pytest.raises(PruningError, match="layer decoder is not called in inference"):
        gnncompress.prune(model, "structured", 0.5, forward=lambda m: m(X))
    assert model.training


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(FEATURES, 16)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(nn.functional.glu(self.first(x)))


def test_channels_that_cannot_be_followed_are_one_line_and_the_model_stays() -> None:
    model = Gated()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PruningError, match=r"cannot be (called|traced|followed)"):
        gnncompress.prune(model, "structured", 0.5, forward=lambda m: m(X))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_model_that_draws_in_evaluation_may_be_pruned() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).relu()) + torch.rand(1)

    assert gnncompress.prune(Noisy(), "structured", 0.5, forward=lambda m: m(X)).parameters_removed > 0.4


def test_any_sparsity_removes_something() -> None:
    model = unsettled(lambda: GCN(FEATURES, CLASSES, hidden=4))
    assert gnncompress.prune(model, "structured", 0.01, forward=nodes).parameters_removed > 0
