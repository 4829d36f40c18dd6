from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch_geometric.nn as pyg
from torch import nn
from torch.nn.utils import prune

import gnncompress
from gnncompress.masks import effective_weights, held, hold, make_permanent, prunable_parameters

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])


class Net(nn.Module):
    """Layers of PyG and of torch, with and without a bias."""

    def __init__(self, inputs: int = 4) -> None:
        super().__init__()
        self.gcn = pyg.GCNConv(inputs, 6)
        self.sage = pyg.SAGEConv(6 if inputs > 0 else -1, 6)
        self.gat = pyg.GATConv(6, 3, heads=2)
        self.out = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        for layer in (self.gcn, self.sage, self.gat):
            x = layer(x, edge_index).relu()
        return self.out(x)


def made(seed: int = 0, inputs: int = 4) -> Net:
    torch.manual_seed(seed)
    return Net(inputs).eval()


def pruned(seed: int = 0, sparsity: float = 0.5) -> Net:
    model = made(seed)
    gnncompress.prune(model, "global", sparsity)
    return model


def trained(model: nn.Module) -> nn.Module:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(X, EDGES).square().sum().backward()
    optimizer.step()
    return model


def same(one: nn.Module, other: nn.Module) -> bool:
    return torch.equal(one(X, EDGES), other(X, EDGES))


# Layers of PyG that hold weights in a Linear of PyG, in one of several types, or of their own.
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: pyg.Linear(8, 8),
    "HeteroLinear": lambda: pyg.HeteroLinear(8, 8, 3),
    "HeteroDictLinear": lambda: pyg.HeteroDictLinear({"a": 8, "b": 8}, 8),
    "MLP": lambda: pyg.MLP([8, 8, 8]),
    **{
        layer.__name__: lambda layer=layer: layer(8, 8)
        for layer in (
            *(pyg.GCNConv, pyg.SAGEConv, pyg.GraphConv, pyg.GATConv, pyg.GATv2Conv, pyg.TransformerConv, pyg.TAGConv),
            *(pyg.ARMAConv, pyg.SGConv, pyg.LEConv, pyg.ClusterGCNConv, pyg.FeaStConv, pyg.HypergraphConv, pyg.MFConv),
            *(pyg.FiLMConv, pyg.SuperGATConv, pyg.GeneralConv, pyg.ResGatedGraphConv),
        )
    },
    "RGCNConv": lambda: pyg.RGCNConv(8, 8, 3, num_bases=2),
    "FastRGCNConv": lambda: pyg.FastRGCNConv(8, 8, 3),
    "GMMConv": lambda: pyg.GMMConv(8, 8, 2, 3),
    "ChebConv": lambda: pyg.ChebConv(8, 8, 3),
    "GINConv": lambda: pyg.GINConv(pyg.MLP([8, 8])),
    "GatedGraphConv": lambda: pyg.GatedGraphConv(8, 2),
    "PNAConv": lambda: pyg.PNAConv(8, 8, ["mean", "max"], ["identity"], torch.ones(4, dtype=torch.long)),
    "HeteroConv": lambda: pyg.HeteroConv({("a", "to", "b"): pyg.SAGEConv((8, 8), 8)}),
    "HGTConv": lambda: pyg.HGTConv(8, 8, (["a", "b"], [("a", "to", "b")]), heads=2),
    "HANConv": lambda: pyg.HANConv(8, 8, (["a", "b"], [("a", "to", "b")]), heads=2),
    "Set2Set": lambda: pyg.aggr.Set2Set(8, 2),
    "GraphMultisetTransformer": lambda: pyg.aggr.GraphMultisetTransformer(8, 4, heads=2),
    "GAT": lambda: pyg.GAT(8, 8, 2, 3, v2=True, jk="lstm"),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_the_best_state_is_loaded_back_under_masks(layer: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = layer()
    gnncompress.prune(model, "global", 0.5)
    best, weights = copy.deepcopy(model.state_dict()), effective_weights(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model.load_state_dict(best)
    for name, weight in effective_weights(model).items():
        assert torch.equal(weight, weights[name])
    other = layer()
    gnncompress.prune(other, "fine-grained", 0.3)
    other.load_state_dict(best)
    assert all(torch.equal(keep, held(other)[name]) for name, keep in held(model).items())
    copy.deepcopy(model).load_state_dict(best)
    make_permanent(model)
    layer().load_state_dict(model.state_dict())
    model.load_state_dict(copy.deepcopy(model.state_dict()))


def test_a_state_says_each_weight_once() -> None:
    names = list(pruned().state_dict())
    assert "gcn.lin.parametrizations.weight.original" in names
    assert "gcn.lin.parametrizations.weight.0.keep" in names
    assert "gcn.lin.weight" not in names
    assert len(names) == len(made().state_dict()) + len(prunable_parameters(made()))


def test_early_stopping_in_a_loop_of_ones_own() -> None:
    model = pruned()
    best, expected = copy.deepcopy(model.state_dict()), model(X, EDGES)
    trained(model)
    assert not torch.equal(model(X, EDGES), expected)
    model.load_state_dict(best)
    assert torch.equal(model(X, EDGES), expected)
    trained(model)
    assert all((weight == 0).sum() >= (~held(model)[name]).sum() for name, weight in effective_weights(model).items())


def test_a_fresh_model_takes_masks_and_weights() -> None:
    model = trained(pruned())
    fresh = pruned(1, 0.9)
    fresh.load_state_dict(model.state_dict())
    assert same(fresh, model)
    assert all(torch.equal(keep, held(model)[name]) for name, keep in held(fresh).items())


@pytest.mark.parametrize("assign", [False, True])
def test_a_dense_state_goes_behind_the_masks(assign: bool) -> None:
    model, dense = pruned(), made(1)
    masks = held(model)
    state = copy.deepcopy(dense.state_dict())
    model.load_state_dict(state, assign=assign)
    assert state.keys() == dense.state_dict().keys(), "the caller's own stays as it is"
    assert held(model).keys() == masks.keys()
    hold(dense, masks)
    assert same(model, dense)


def test_a_masked_state_does_not_fit_a_model_without_masks() -> None:
    with pytest.raises(RuntimeError, match=r"Unexpected key.*gcn\.lin\.parametrizations\.weight\.original"):
        made().load_state_dict(pruned().state_dict())


def test_states_of_versions_that_saved_the_weight_twice() -> None:
    model = pruned()
    expected, state = model(X, EDGES), copy.deepcopy(model.state_dict())
    state["gcn.lin.weight"] = torch.full_like(model.gcn.lin.weight, 7)
    model.load_state_dict(state)
    assert torch.equal(model(X, EDGES), expected)


def test_missing_and_unexpected_names_are_still_refused() -> None:
    model, state = pruned(), pruned().state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key.*out\.bias"):
        model.load_state_dict({name: tensor for name, tensor in state.items() if name != "out.bias"})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*gcn\.lin\.extra"):
        model.load_state_dict({**state, "gcn.lin.extra": torch.ones(1)})
    with pytest.raises(RuntimeError, match=r"Missing key.*0\.keep"):
        model.load_state_dict({name: tensor for name, tensor in state.items() if not name.endswith("weight.0.keep")})


def test_a_rising_sparsity_has_one_mask_and_one_form_of_state() -> None:
    model = pruned(sparsity=0.3)
    before, names = copy.deepcopy(model.state_dict()), list(model.state_dict())
    gnncompress.prune(model, "global", 0.6)
    assert list(model.state_dict()) == names
    assert gnncompress.prune(model, "global", 0.6).sparsity == pytest.approx(0.6, abs=0.01)
    model.load_state_dict(before)
    assert same(model, pruned(sparsity=0.3)), "a state restores the masks that it was saved with"


def test_permanent_models_load_what_plain_ones_do() -> None:
    model = make_permanent(pruned())
    assert not model.gcn.lin._state_dict_hooks
    assert not model.gcn.lin._load_state_dict_pre_hooks
    fresh = made(1)
    fresh.load_state_dict(model.state_dict())
    assert same(fresh, model)
    model.load_state_dict(made(2).state_dict())
    assert same(model, made(2))
    gnncompress.prune(model, "global", 0.5)
    model.load_state_dict(copy.deepcopy(model.state_dict()))


def test_a_copy_is_on_its_own() -> None:
    model = pruned()
    expected, state = model(X, EDGES), copy.deepcopy(model.state_dict())
    again = make_permanent(copy.deepcopy(trained(copy.deepcopy(model))))
    assert not again.gcn.lin._state_dict_hooks
    assert torch.equal(model(X, EDGES), expected)
    model.load_state_dict(state)


def test_after_structured_pruning() -> None:
    model = made()
    gnncompress.prune(model, "structured", 0.3, forward=lambda network: network(X, EDGES))
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    gnncompress.prune(model, "global", 0.5)
    expected = model(X, EDGES)
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(model(X, EDGES), expected)


def test_lazy_layers_once_they_have_a_shape() -> None:
    model = made(inputs=-1)
    model(X, EDGES)
    gnncompress.prune(model, "global", 0.5)
    expected, state = model(X, EDGES), copy.deepcopy(model.state_dict())
    model.load_state_dict(state)
    fresh = made(1, inputs=-1)
    fresh(X, EDGES)
    gnncompress.prune(fresh, "global", 0.2)
    fresh.load_state_dict(state)
    assert torch.equal(fresh(X, EDGES), expected)
    dense = made(2, inputs=-1)
    dense.load_state_dict(make_permanent(model).state_dict())
    assert torch.equal(dense(X, EDGES), expected)


@pytest.mark.parametrize("scheme", ["ptq-int8", "qat-int4", "a2q"])
def test_masks_below_quantizers(scheme: str) -> None:
    model = gnncompress.prepare(pruned(), scheme)
    gnncompress.calibrate(model.eval(), lambda: model(X, EDGES))
    expected, state = model(X, EDGES), copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    model.load_state_dict(state)
    assert torch.equal(model(X, EDGES), expected)
    assert "gcn.lin.parametrizations.weight.0.keep" in state
    gnncompress.freeze(model)
    assert torch.equal(model(X, EDGES), expected)
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(model(X, EDGES), expected)
    assert not model.gcn.lin._state_dict_hooks


def test_masks_of_torch_below_quantizers() -> None:
    model = made()
    prune.random_unstructured(model.gcn.lin, "weight", 0.75)
    prune.random_unstructured(model.out, "weight", 0.75)
    zeros = {name: weight == 0 for name, weight in effective_weights(model).items()}
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.calibrate(model, lambda: model(X, EDGES))
    for name, weight in effective_weights(model).items():
        assert (weight[zeros[name]] == 0).all()
    model.load_state_dict(copy.deepcopy(model.state_dict()))
