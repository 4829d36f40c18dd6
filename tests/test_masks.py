from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch_geometric.nn import BatchNorm, GATConv, GCNConv, GINConv, LayerNorm, SAGEConv

from gnncompress.errors import PruningError
from gnncompress.masks import (
    collapsed_layers,
    effective_weights,
    hold,
    make_permanent,
    prunable_parameters,
    sparsity_measurements,
)


class Graph(nn.Module):
    """A user's own model of PyG layers."""

    def __init__(self) -> None:
        super().__init__()
        self.gcn = GCNConv(4, 6)
        self.sage = SAGEConv(6, 6)
        self.gat = GATConv(6, 3, heads=2)
        self.gin = GINConv(nn.Sequential(nn.Linear(6, 6), BatchNorm(6), nn.Linear(6, 2)))

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        for layer in (self.gcn, self.sage, self.gat):
            x = layer(x, edge_index).relu()
        return self.gin(x, edge_index)


EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])


def test_prunable_weights_of_pyg_layers() -> None:
    assert set(prunable_parameters(Graph())) == {
        "gcn.lin.weight",
        "sage.lin_l.weight",
        "sage.lin_r.weight",
        "gat.lin.weight",
        "gat.att_src",
        "gat.att_dst",
        "gin.nn.0.weight",
        "gin.nn.2.weight",
    }


def test_normalizations_and_integers_are_not_prunable() -> None:
    model = nn.ModuleDict({"a": nn.LayerNorm((3, 4)), "b": LayerNorm(4), "c": nn.BatchNorm1d(4), "d": nn.Linear(2, 2)})
    model["d"].register_parameter("counts", nn.Parameter(torch.ones(2, 2, dtype=torch.int), requires_grad=False))
    assert set(prunable_parameters(model)) == {"d.weight"}


def test_masks_hold_against_training_and_leave_positive_zeros() -> None:
    torch.manual_seed(0)
    model = Graph()
    masks = {name: torch.rand_like(weight) < 0.5 for name, weight in prunable_parameters(model).items()}
    hold(model, masks)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
    before = effective_weights(model)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(5, 4), EDGES).square().sum().backward()
        optimizer.step()
    out = model.eval()(torch.ones(5, 4), EDGES)
    make_permanent(model)
    torch.testing.assert_close(model(torch.ones(5, 4), EDGES), out, rtol=0, atol=0)
    weights = prunable_parameters(model)
    assert weights.keys() == masks.keys()
    for name, weight in weights.items():
        assert (weight[~masks[name]].view(torch.int32) == 0).all(), "pruned weights are +0.0, never -0.0"
        assert (weight[masks[name]] != before[name][masks[name]]).any(), "the others were trained"
        assert isinstance(weight, nn.Parameter)


def test_state_dict_after_is_that_of_the_plain_model() -> None:
    model = Graph()
    plain = set(model.state_dict())
    hold(model, {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable_parameters(model).items()})
    assert set(make_permanent(model).state_dict()) == plain
    Graph().load_state_dict(model.state_dict())


def test_what_is_done_to_a_copy_leaves_the_original_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    hold(model, {"0.weight": torch.rand(3, 4) > 0.5})
    expected = model(torch.ones(1, 4))
    made = make_permanent(copy.deepcopy(model))
    assert type(made[0]) is nn.Linear
    assert torch.equal(made(torch.ones(1, 4)), expected)
    assert torch.equal(model(torch.ones(1, 4)), expected)


def test_shared_weights_stay_shared() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert list(prunable_parameters(model)) == ["0.weight"]
    keep = torch.eye(3, dtype=torch.bool)
    hold(model, {"0.weight": keep})
    for layer in model:
        assert ((layer.weight != 0) == keep).all()
    make_permanent(model)
    assert model[0].weight is model[1].weight
    assert len(list(model.parameters())) == 1


def test_other_parametrizations_stay() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))
    before = copy.deepcopy(model[0].weight.detach())
    hold(model, {"1.weight": torch.zeros(3, 3, dtype=torch.bool)})
    make_permanent(model)
    assert torch.equal(model[0].weight, before)
    assert nn.utils.parametrize.is_parametrized(model[0])
    assert not nn.utils.parametrize.is_parametrized(model[1])
    assert collapsed_layers(model) == ["1.weight"]


def test_lazy_layer_is_refused_by_name() -> None:
    with pytest.raises(PruningError, match=r"layer lin\.weight: its shape is not known yet"):
        prunable_parameters(GCNConv(-1, 4))


def test_counts_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.0, 1.0], [-0.0, 2.0]]))
        model[0].bias.fill_(1)
        model[1].weight.zero_()
        model[1].bias.zero_()
    rows = {(row.metric, row.layer): row.value for row in sparsity_measurements(model)}
    assert rows == {
        ("parameters", ""): 9,
        ("nonzero_parameters", ""): 4,
        ("sparsity", ""): 4 / 6,
        ("sparsity", "0.weight"): 0.5,
        ("sparsity", "1.weight"): 1.0,
        ("collapsed_layers", ""): 1,
    }
