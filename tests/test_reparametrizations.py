from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from gnncompress.masks import effective_weights, hold, make_permanent, sparsity_measurements
from gnncompress.reparametrizations import computed_weights, torch_masks

X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 5)


def old_style(kind: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return weight_norm(layer()) if kind == "weight_norm" else spectral_norm(layer())


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm"])
def test_the_value_is_what_the_next_call_uses(kind: str) -> None:
    module = old_style(kind).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)  # the layer's attribute is stale until the next call
    (weight,) = computed_weights(module)
    found = weight.value()
    assert weight.name == "weight"
    torch.testing.assert_close(X @ found.t() + module.bias, module(X))


def test_a_plain_module_computes_nothing() -> None:
    assert list(computed_weights(layer())) == []
    assert torch_masks(layer()) == {}


def test_masks_of_torch() -> None:
    module = layer()
    prune.l1_unstructured(module, "weight", 10)
    prune.random_unstructured(module, "weight", 5)
    prune.l1_unstructured(module, "bias", 2)
    masks = torch_masks(module)
    assert {name: int((~mask).sum()) for name, mask in masks.items()} == {"weight": 15, "bias": 2}
    assert effective_weights(module).keys() == {"weight"}
    assert int((effective_weights(module)["weight"] == 0).sum()) == 15
    assert {row.layer: row.value for row in sparsity_measurements(module) if row.metric == "sparsity"} == {
        "": 0.5,
        "weight": 0.5,
    }


def test_a_mask_of_torch_becomes_one_of_ours_and_permanent() -> None:
    module = layer()
    prune.l1_unstructured(module, "weight", 10)
    prune.l1_unstructured(module, "bias", 2)
    parameter, expected, of_torch = module.weight_orig, module(X), torch_masks(module)["weight"]
    keep = torch.ones(5, 6, dtype=torch.bool)
    hold(module, {"weight": keep})
    assert torch.equal(module(X), expected)
    keep = keep.clone()
    keep[0] = False
    hold(module, {"weight": keep})
    with torch.no_grad():
        parameter.add_(1)
    assert torch.equal(module.weight != 0, keep & of_torch)
    make_permanent(module)
    assert set(module.state_dict()) == {"bias", "weight"}
    assert module.weight is parameter
    assert (module.weight[~(keep & of_torch)].view(torch.int32) == 0).all()
    assert int((module.bias == 0).sum()) == 2


def test_permanent_without_a_mask_of_ours_has_positive_zeros() -> None:
    module = layer()
    prune.custom_from_mask(module, "weight", torch.eye(5, 6))
    make_permanent(module)
    assert type(module) is nn.Linear
    assert int((module.weight == 0).sum()) == 25
    assert (module.weight[module.weight == 0].view(torch.int32) == 0).all()


def test_masks_of_torch_that_scale() -> None:
    module = layer()
    mask = torch.full((5, 6), 0.5)
    mask[:, :3] = 0
    prune.custom_from_mask(module, "weight", mask)
    expected = module(X)
    hold(module, {"weight": torch.ones(5, 6, dtype=torch.bool)})
    assert torch.equal(module(X), expected)
    assert int((module.weight == 0).sum()) == 15
