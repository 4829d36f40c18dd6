from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, remove_weight_norm, spectral_norm, weight_norm
from torch_geometric.nn import GCNConv

import gnncompress
from gnncompress.errors import PruningError
from gnncompress.masks import sparsity_measurements
from gnncompress.pruning.plan import weight_plan


class Symmetric(nn.Module):
    """A parametrization of the user's own."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)


class Bar(nn.Module):
    """A layer that computes its weight before each call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_bar = nn.Parameter(torch.randn(4, 4))
        self.register_forward_pre_hook(lambda layer, _: setattr(layer, "weight", layer.weight_bar / 2))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.randn(4, 4))


def bar() -> nn.Module:
    layer = Bar()
    layer(torch.ones(1, 4))
    return layer


def own() -> nn.Module:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


def old(function: Callable[..., nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return function(nn.Linear(4, 4))


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(nn.Linear(4, 4))


REFUSED = {
    "weight_norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), "1.weight", "parametrization _WeightNorm"),
    "spectral_norm": (lambda: parametrizations.spectral_norm(nn.Linear(4, 4)), "1.weight", "remove_parametrizations"),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(4, 4)), "1.weight", "parametrization _Orthogonal"),
    "own": (own, "1.weight", "parametrization Symmetric"),
    "old weight_norm": (
        lambda: old(weight_norm),
        "1.weight",
        r"remove_weight_norm\(model.get_submodule\('1'\)",
    ),
    "old spectral_norm": (lambda: old(spectral_norm), "1.weight", "remove_spectral_norm"),
    "computed in a hook": (bar, "1.weight_bar", "the layer computes weight from it and uses that"),
    "scripted": (scripted, "1.weight", "compiled by TorchScript"),
    "a name of torch": (Named, "1.values", "torch cannot put a mask on a parameter of the name values"),
}


@pytest.mark.parametrize(("layer", "name", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_weights_that_no_mask_can_hold(layer: Callable[[], nn.Module], name: str, why: str) -> None:
    model = nn.Sequential(GCNConv(4, 4), layer())
    before = copy.deepcopy(model.state_dict())
    for call in (
        lambda: gnncompress.prune(model, "global", 0.9),
        lambda: gnncompress.prune(model, "fine-grained", 0.9, allocation="erk"),
        lambda: gnncompress.prune(model, "fine-grained", 0.9, importance="random"),
        lambda: gnncompress.sensitivity(model, lambda network: 0.0),
        lambda: weight_plan(model),
    ):
        with pytest.raises(PruningError, match=rf"layer {name}: .*{why}"):
            call()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[key]) for key, tensor in before.items())


def test_what_the_message_says_helps() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)), old(weight_norm), nn.Linear(4, 4))
    with pytest.raises(PruningError, match=r"layer 0\.weight: .*; layer 1\.weight: ") as caught:
        gnncompress.prune(model, "global", 0.9)
    assert len(str(caught.value).splitlines()) == 1
    parametrize.remove_parametrizations(model.get_submodule("0"), "weight")
    remove_weight_norm(model.get_submodule("1"), "weight")
    result = gnncompress.prune(model, "global", 0.9)
    zeros = sum(int((layer.weight == 0).sum()) for layer in model)
    assert result.sparsity == zeros / 96 == round(0.9 * 96) / 96


def test_normalized_weights_are_counted() -> None:
    layer = parametrizations.weight_norm(nn.Linear(4, 4))
    with torch.no_grad():
        layer.parametrizations.weight.original1[0, :3] = 0
    rows = {(row.metric, row.layer): row.value for row in sparsity_measurements(layer)}
    assert rows["sparsity", "weight"] == rows["sparsity", ""] == 3 / 16
    assert rows["nonzero_parameters", ""] == rows["parameters", ""] - 3


def test_counting_changes_nothing() -> None:
    model = parametrizations.spectral_norm(nn.Linear(4, 4)).train()
    before = copy.deepcopy(model.state_dict())
    sparsity_measurements(model)
    assert model.training
    assert model.parametrizations.weight[0].training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("method", ["global", "fine-grained", "structured"])
def test_weights_that_are_not_finite(value: float, method: str) -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    with torch.no_grad():
        model[2].weight[0, :2] = value
    with pytest.raises(PruningError, match=r"layer 2\.weight: 2 of 32 weights are NaN or infinite"):
        gnncompress.prune(model, method, 0.5, forward=lambda network: network(torch.ones(3, 4)))


def test_masks_hide_what_is_not_finite_behind_them() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    gnncompress.prune(model, "global", 0.5)
    with torch.no_grad():
        original = model[0].parametrizations.weight.original
        original[model[0].weight == 0] = float("inf")
    assert gnncompress.prune(model, "global", 0.75).sparsity == 0.75


@pytest.mark.parametrize("masked_by", ["torch", "us"])
def test_structured_pruning_takes_plain_weights(masked_by: str) -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    if masked_by == "us":
        gnncompress.prune(model, "global", 0.5)
    else:
        prune.l1_unstructured(model[0], "weight", 0.5)
    with pytest.raises(PruningError, match=r"layer 0\.weight has a mask, .*make_permanent\(model\) first"):
        gnncompress.prune(model, "structured", 0.3, forward=lambda network: network(torch.ones(3, 4)))
    gnncompress.make_permanent(model)
    result = gnncompress.prune(model, "structured", 0.3, forward=lambda network: network(torch.ones(3, 4)))
    weights = torch.cat([model[0].weight.flatten(), model[2].weight.flatten()])
    assert result.sparsity == int((weights == 0).sum()) / weights.numel()


def test_one_weight_that_two_layers_read_differently() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    prune.l1_unstructured(model[0], "weight", 0.5)
    for call in (lambda: gnncompress.prune(model, "global", 0.75), lambda: gnncompress.make_permanent(model)):
        with pytest.raises(PruningError, match=r"layers 0\.weight and 1\.weight share a weight"):
            call()
