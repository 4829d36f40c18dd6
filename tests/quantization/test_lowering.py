"""From quantized models to programs of whole numbers: what they compute, what they refuse, what they say."""

from __future__ import annotations

import copy
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv, TransformerConv, global_mean_pool, models

import gnncompress
from gnncompress.errors import ExecutionError, QuantizationError, UsageError
from gnncompress.models.convnet import GAT, GCN, GraphConvNet, GraphSAGE
from gnncompress.models.gin import GIN
from gnncompress.models.gnnnet import GNNNet
from gnncompress.models.hgpsl import HGPSL
from gnncompress.models.spline import SplineNet
from gnncompress.quantization.lowering.fusing import fuse
from gnncompress.quantization.lowering.tracing import lower
from gnncompress.quantization.lowering.values import STORED, fit_codes, fit_values
from gnncompress.quantization.preparing import quantizers
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.runtime.levels import LEVELS, VARIABLE
from gnncompress.runtime.model import ProgramModel
from gnncompress.runtime.operations import LookUp, Rescale

FEATURES, CLASSES = 12, 3
NODE_MODELS = {
    "gcn": lambda: GCN(FEATURES, CLASSES),
    "graphconv": lambda: GraphConvNet(FEATURES, CLASSES),
    "graphsage": lambda: GraphSAGE(FEATURES, CLASSES, layers=3),
    "gat": lambda: GAT(FEATURES, CLASSES, hidden=8),
    "spline": lambda: SplineNet(FEATURES, CLASSES),
}
GRAPH_MODELS = {
    "gin": lambda: GIN(FEATURES, CLASSES),
    "gin-mean": lambda: GIN(FEATURES, CLASSES, hidden=24, layers=3, readout="mean"),
    "gnnnet": lambda: GNNNet(FEATURES, CLASSES),
    "gcn-max": lambda: GCN(FEATURES, CLASSES, hidden=20, readout="max"),
    "sage-sum": lambda: GraphSAGE(FEATURES, CLASSES, hidden=20, readout="sum"),
    "gat-mean": lambda: GAT(FEATURES, CLASSES, hidden=8, readout="mean"),
}


def graphs(number: int = 60, seed: int = 0, nodes: int = 25) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(3, nodes, (number,), generator=generator)
    batch = torch.arange(number).repeat_interleave(sizes)
    first = (sizes.cumsum(0) - sizes)[batch]
    own = torch.arange(len(batch)).repeat_interleave(3)
    other = first[own] + (torch.rand(len(own), generator=generator) * sizes[batch][own]).long()
    return torch.randn(len(batch), FEATURES, generator=generator), torch.stack([other, own]), batch


def inputs(name: str, seed: int = 0, number: int = 60) -> tuple[Tensor, ...]:
    x, edges, batch = graphs(number, seed)
    if name in GRAPH_MODELS:
        return x, edges, batch
    return (x, edges, torch.rand(edges.size(1), 1)) if name == "spline" else (x, edges)


def quantized(name: str, scheme: str = "qat-int8", **settings: Any) -> nn.Module:
    """A model that was trained for a few steps with its quantizers, so that nothing in it is at its first value."""
    torch.manual_seed(1)
    model = {**NODE_MODELS, **GRAPH_MODELS}[name]()
    gnncompress.prepare(model, scheme, **settings)
    data = inputs(name)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(5):
        out = model.train()(*data)
        F.cross_entropy(out, torch.arange(len(out)) % CLASSES).backward()
        optimizer.step()
        optimizer.zero_grad()
    return gnncompress.freeze(model)


def last_step(model: nn.Module) -> float:
    *_, last = [one for name, one in quantizers(model) if name.endswith(("update", "features"))]
    assert isinstance(last, Quantizer)
    return float(last.grid().scale)


def insist_on_the_same(model: nn.Module, integer: nn.Module, data: tuple[Tensor, ...]) -> None:
    with torch.inference_mode():
        expected, found = model(*data), integer(*data)
    steps = (found - expected).abs() / last_step(model)
    assert steps.max() < 1.001
    assert (steps < 1e-3).double().mean() > 0.98
    assert (found.argmax(1) == expected.argmax(1)).double().mean() >= 0.995


@pytest.mark.parametrize("name", [*NODE_MODELS, *GRAPH_MODELS])
def test_integers_give_what_the_simulation_gives(name: str) -> None:
    model = quantized(name)
    integer = gnncompress.to_integer(model)
    assert not integer.program.floats
    for seed in (0, 7):  # the graphs that it was trained on, and others
        insist_on_the_same(model, integer, inputs(name, seed, 60 if not seed else 11))


@pytest.mark.parametrize("scheme", ["dq-int4", "qat-int2", "dq-int8"])
@pytest.mark.parametrize("settings", [{"granularity": "channel"}, {"config": "gc-abs"}])
@pytest.mark.parametrize("name", ["gin", "gat", "spline"])
def test_all_bits_and_grids(name: str, scheme: str, settings: dict[str, str]) -> None:
    model = quantized(name, scheme, **settings)
    insist_on_the_same(model, gnncompress.to_integer(model), inputs(name))


@pytest.mark.parametrize("name", ["gin", "gcn", "gat", "graphsage", "spline"])
def test_all_levels_give_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = quantized(name), inputs(name)
    found = {}
    for level in [one for one in LEVELS if one.available]:
        monkeypatch.setenv(VARIABLE, level.name)
        found[level.name] = gnncompress.to_integer(model)(*data)
    portable = found[LEVELS[-1].name]
    assert portable.std() > 0
    for result in found.values():
        assert torch.equal(result, portable)


@pytest.mark.parametrize("name", ["gcn", "spline"])
def test_sparse_features_give_what_dense_ones_give(name: str) -> None:
    model, (x, *rest) = quantized(name), inputs(name)
    x = x * (torch.rand_like(x) > 0.7)
    integer = gnncompress.to_integer(model)
    assert torch.equal(integer(x.to_sparse_csr(), *rest), integer(x, *rest))


@pytest.mark.parametrize("name", ["gin", "graphsage", "gcn", "gat"])
def test_fusing_changes_nothing(name: str) -> None:
    model, data = quantized(name), inputs(name)
    program, _ = lower(model, absent=list(signature(model.forward).parameters)[len(data) :])
    fused = fuse(program)
    assert len(fused.operations) < len(program.operations)
    assert torch.equal(ProgramModel(program)(*data), ProgramModel(fused)(*data))


def test_a_model_that_is_not_frozen_is_left_as_it_is() -> None:
    model = GCN(FEATURES, CLASSES)
    gnncompress.prepare(model, "ptq-int8")
    data = inputs("gcn")
    gnncompress.calibrate(model.eval(), lambda: model(*data))
    before = copy.deepcopy(model.state_dict())
    insist_on_the_same(model, gnncompress.to_integer(model), data)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_an_integer_model_is_one_already() -> None:
    integer = gnncompress.to_integer(quantized("gcn"))
    assert gnncompress.to_integer(integer) is integer
    assert gnncompress.to_compiled(integer) is integer


class Residual(nn.Module):
    """What users write: a residual, an activation that is no line, a layer without a rule, PyG's own pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GCNConv(FEATURES, 16), SAGEConv(16, 16, aggr="max")
        self.third = GINConv(nn.Sequential(nn.Linear(16, 16), nn.ELU(), nn.Linear(16, 16)))
        self.odd, self.attention = TransformerConv(16, 16), GATConv(16, 8, heads=2, concat=False)
        self.norm, self.lin = nn.BatchNorm1d(16), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        x = self.norm(F.elu(self.first(x, edge_index)))
        x = x + self.second(x, edge_index).relu()
        x = self.odd(self.third(x, edge_index), edge_index)
        return self.lin(global_mean_pool(torch.tanh(self.attention(x, edge_index)), batch))


def test_a_users_own_model() -> None:
    torch.manual_seed(0)
    model, data = Residual().eval(), graphs()
    gnncompress.prepare(model, "ptq-int8", keep_float=["first"])
    gnncompress.calibrate(model, lambda: model(*data))
    gnncompress.freeze(model)
    integer = gnncompress.to_integer(model)
    insist_on_the_same(model, integer, data)
    assert dict(integer.program.floats) == {"first": "kept in floats", "odd": "no rule for it"}
    assert "in floats: odd (no rule for it)" in str(integer.program)
    assert any(isinstance(operation, LookUp) for operation in integer.program.operations)


def test_a_layer_of_which_a_part_is_kept_in_floats_is_simulated() -> None:
    torch.manual_seed(0)
    model, data = GCN(FEATURES, CLASSES).eval(), inputs("gcn")
    gnncompress.prepare(model, "ptq-int8", keep_float=["convs.0.lin"])
    gnncompress.calibrate(model, lambda: model(*data))
    integer = gnncompress.to_integer(model)
    insist_on_the_same(model, integer, data)
    assert [layer for layer, _ in integer.program.floats] == ["convs.0"]


def test_a_program_says_what_it_does() -> None:
    text = str(gnncompress.to_integer(quantized("gin")).program).splitlines()
    assert text[0] == "inputs x, edge_index, batch"
    assert text[-1].startswith("result lin2.features")
    for word in ("quantize", "aggregate", "linear", "scale=", "zero=", "weight=int8[64x64]", "pool"):
        assert any(word in line for line in text), word


def test_what_cannot_run_in_integers_is_refused() -> None:
    with pytest.raises(UsageError, match=r"GCN was never quantized: gnncompress\.prepare it"):
        gnncompress.to_integer(GCN(FEATURES, CLASSES))
    with pytest.raises(UsageError, match=r"takes a torch\.nn\.Module, not a str"):
        gnncompress.to_integer("model")  # type: ignore[arg-type]
    unseen = gnncompress.prepare(GCN(FEATURES, CLASSES), "dq-int8")
    with pytest.raises(UsageError, match="GCN has seen no data yet"):
        gnncompress.to_integer(unseen)
    learnt = gnncompress.prepare(GCN(FEATURES, CLASSES), "a2q", groups=10)
    learnt.train()(*inputs("gcn"))
    with pytest.raises(QuantizationError, match="A2Q has steps and bits of its own for every row"):
        gnncompress.to_integer(learnt)
    pooling = gnncompress.prepare(HGPSL(FEATURES, CLASSES, hidden=8), "qat-int8")
    pooling.train()(*graphs())
    with pytest.raises(QuantizationError, match="HGPSL: its forward cannot be followed"):
        gnncompress.to_integer(pooling)
    model = GCN(FEATURES, CLASSES).eval()
    gnncompress.prepare(model, "ptq-int8", keep_float=["convs.0.lin", "convs.1.lin"])
    gnncompress.calibrate(model, lambda: model(*inputs("gcn")))
    with pytest.raises(QuantizationError, match="nothing of it can run in whole numbers"):
        gnncompress.to_integer(model)


def test_input_that_does_not_fit_is_refused() -> None:
    x, edges = inputs("gcn")
    integer = gnncompress.to_integer(quantized("gcn"))
    with pytest.raises(ExecutionError, match=rf"x must be features \[nodes, {FEATURES}\], not"):
        integer(x[:, 1:], edges)
    with pytest.raises(ExecutionError, match="a value is NaN or infinite"):
        integer(x / 0, edges)
    wrong = edges.clone()
    wrong[0, 5] = len(x)
    with pytest.raises(ExecutionError, match=rf"edge_index has node {len(x)}, but the features have {len(x)} rows"):
        integer(x, wrong)
    with pytest.raises(TypeError, match="edge_index"):
        integer(x)


def test_values_beyond_the_range_saturate_and_are_counted() -> None:
    x, edges = inputs("gcn")
    model = quantized("gcn")
    integer = gnncompress.to_integer(model)
    insist_on_the_same(model, integer, (100 * x, edges))
    (row,) = integer.saturation()
    assert (row.metric, row.layer, row.source) == ("saturation", "convs.0.lin.inputs", "computed")
    assert row.value is not None
    assert 0.8 < row.value <= 1
    (line,) = integer.warnings()
    assert "values were beyond the calibrated range" in line


def test_an_empty_graph_gives_an_empty_answer() -> None:
    integer = gnncompress.to_integer(quantized("gcn"))
    none = torch.empty(0, FEATURES), torch.empty(2, 0, dtype=torch.long)
    assert integer(*none).shape == (0, CLASSES)
    lonely = torch.randn(3, FEATURES), none[1]
    assert integer(*lonely).shape == (3, CLASSES)


@given(st.data())
def test_a_line_is_found_wherever_there_is_one(data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 5))
    numbers = st.floats(-3, 3, allow_nan=False, width=32)
    scale = np.array(data.draw(st.lists(numbers, min_size=width, max_size=width)))
    shift = np.array(data.draw(st.lists(st.floats(-200, 200, width=32), min_size=width, max_size=width)))
    floor = data.draw(st.integers(-128, 100))
    exact = STORED[:, None] * scale + shift
    exact = np.maximum(exact, floor)  # as ReLU does
    codes = np.clip(np.rint(exact), -128, 127).astype(np.int64)
    found = fit_codes(codes, exact, -128, 127)
    if found is None:  # on the verge of rounding the other way; a table takes its place
        verge = np.abs(np.abs(exact - np.floor(exact)) - 0.5)
        assert verge.min() < 2e-3
        return
    a, b, low, high = found
    made = np.clip(np.rint((STORED[:, None] * a.astype(float) + b).astype(np.float32)), low, high)
    assert (made == codes).all()


def test_values_of_a_rectifier_are_a_clamped_line() -> None:
    table = torch.relu(torch.from_numpy(0.25 * (STORED[:, None] - 10)).float()).expand(256, 3)
    found = fit_values(table, -128, 127)
    assert found is not None
    low, high, scale, shift = found
    assert low.tolist() == [10.0] * 3
    assert high.tolist() == [127.0] * 3
    assert np.allclose(np.clip(STORED[:, None], low, high) * scale + shift, table.numpy())
    assert fit_values(F.elu(table - 3), -128, 127) is None


def test_a_rectifier_costs_nothing_and_an_elu_a_table() -> None:
    kinds = {type(operation) for operation in lower(quantized("gcn"))[0].operations}
    assert Rescale in kinds
    assert LookUp not in kinds
    assert LookUp in {type(operation) for operation in lower(quantized("gat"))[0].operations}


@pytest.mark.parametrize("name", [*NODE_MODELS, *GRAPH_MODELS])
def test_the_compiled_model_computes_what_the_float_one_does(name: str) -> None:
    torch.manual_seed(0)
    model = {**NODE_MODELS, **GRAPH_MODELS}[name]()
    data = inputs(name)
    model.train()(*data)
    gnncompress.prune(model.eval(), "global", 0.5)
    compiled = gnncompress.to_compiled(model)
    for seed in (0, 7):
        data = inputs(name, seed)
        with torch.no_grad():
            expected = model(*data)
        torch.testing.assert_close(compiled(*data), expected, rtol=1e-4, atol=1e-4)
    if name in ("gcn", "graphconv", "gat", "spline"):
        sparse = (data[0] * (torch.rand_like(data[0]) > 0.7)).to_sparse_csr()
        with torch.no_grad():
            expected = model(sparse.to_dense(), *data[1:])
        torch.testing.assert_close(compiled(sparse, *data[1:]), expected, rtol=1e-4, atol=1e-4)


def test_a_weight_of_zeros_is_multiplied_as_a_sparse_one() -> None:
    torch.manual_seed(0)
    model = GCN(FEATURES, CLASSES, hidden=128, layers=3).eval()
    gnncompress.prune(model, "fine-grained", 0.9)
    compiled, (x, edges) = gnncompress.to_compiled(model), inputs("gcn")
    assert any(getattr(operation, "sparse", None) is not None for operation in compiled.program.operations)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, edges), model(x, edges), rtol=1e-4, atol=1e-4)


def test_a_quantized_model_is_not_compiled_in_floats() -> None:
    with pytest.raises(UsageError, match=r"GCN is quantized: gnncompress\.to_integer runs it in whole numbers"):
        gnncompress.to_compiled(quantized("gcn"))


@pytest.mark.parametrize("width", [17, 32])
def test_a_table_between_layers_of_any_width(width: int) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(16, width), nn.ELU(), nn.Linear(width, 5))
    x = torch.randn(50, 16) * 3
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.calibrate(model.eval(), lambda: model(x))
    insist_on_the_same(model, gnncompress.to_integer(model), (x,))


class Two(nn.Module):
    """Rows of two kinds side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor, z: Tensor, batch: Tensor) -> Tensor:
        first, second = self.a(x), self.b(z)
        return global_mean_pool(self.c(first), batch) + second


def test_nodes_and_graphs_side_by_side() -> None:
    torch.manual_seed(0)
    model = Two().eval()
    data = torch.randn(20, 16), torch.randn(4, 16), torch.arange(4).repeat_interleave(5)
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.calibrate(model, lambda: model(*data))
    insist_on_the_same(model, gnncompress.to_integer(model), data)


class Weighted(nn.Module):
    """Takes edge weights, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(FEATURES, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.conv(x, edge_index, edge_weight)


def test_edge_weights_may_come_and_go() -> None:
    torch.manual_seed(0)
    model, (x, edges) = Weighted().eval(), inputs("gcn")
    weights = torch.rand(edges.size(1))
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.calibrate(model, lambda: (model(x, edges), model(x, edges, weights)))
    integer = gnncompress.to_integer(model)
    for what in ((x, edges), (x, edges, weights), (x, edges)):
        insist_on_the_same(model, integer, what)


class Nested(nn.Module):
    """Modules within modules, arguments by name, a dropout that is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"body": GraphSAGE(FEATURES, 16), "head": nn.Sequential(nn.Linear(16, 16))})
        self.conv = GCNConv(16, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = F.dropout(self.encoder["head"](self.encoder["body"](x, edge_index)), 0.5, training=self.training)
        return self.conv(x=h, edge_index=edge_index)


def test_modules_within_modules_are_followed() -> None:
    torch.manual_seed(0)
    model, data = Nested().eval(), inputs("gcn")
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.calibrate(model, lambda: model(*data))
    integer = gnncompress.to_integer(model)
    assert not integer.program.floats
    insist_on_the_same(model, integer, data)


@pytest.mark.parametrize("kind", [models.GCN, models.GraphSAGE, models.GAT, models.GIN])
def test_models_of_pyg(kind: Any) -> None:
    torch.manual_seed(0)
    model, data = kind(FEATURES, 16, 2, CLASSES, dropout=0.5).eval(), inputs("gcn")
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.calibrate(model, lambda: model(*data))
    integer = gnncompress.to_integer(model)
    insist_on_the_same(model, integer, data)
    assert all("no rule" in why for _, why in integer.program.floats), integer.program.floats


def test_a_layer_that_is_given_up_leaves_nothing_behind() -> None:
    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = SAGEConv(FEATURES, FEATURES, aggr="median")
            self.second = SAGEConv(FEATURES, CLASSES)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.second(self.first(x, edge_index), edge_index)

    torch.manual_seed(0)
    model, data = Given().eval(), inputs("gcn")
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.calibrate(model, lambda: model(*data))
    integer = gnncompress.to_integer(model)
    assert dict(integer.program.floats) == {"first": "its aggregation is MedianAggregation"}
    insist_on_the_same(model, integer, data)
