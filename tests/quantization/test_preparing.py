"""Conversion of whole models: every layer of PyG and of the package that is supported, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import nn as pyg
from torch_geometric.data import Batch, Data

import gnncompress
from gnncompress.errors import PruningError, QuantizationError, UsageError
from gnncompress.models import MODELS, build_model
from gnncompress.quantization import Quantizer, calibrate, freeze, points, prepare, quantizers
from gnncompress.quantization.accounting import bit_measurements
from gnncompress.quantization.hooks import Propagate
from tests.models.graphs import random_batch, random_data

AFFINE = ("ptq-int8", "qat-int4", "dq-int8", "dq-int2")


class Net(nn.Module):
    """A user's model: a convolution, a normalization, an edge-weighted convolution and a readout."""

    def __init__(self, conv: nn.Module, width: int = 8, double: bool = False) -> None:
        super().__init__()
        self.dtype = torch.float64 if double else torch.float32
        self.conv = conv
        self.norm = nn.BatchNorm1d(width)
        self.last = pyg.GraphConv(width, 4)
        self.lin = nn.Linear(4, 3)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        hidden = F.relu(self.norm(self.conv(x, edge_index)))
        weight = torch.linspace(0.1, 1, edge_index.size(1), dtype=self.dtype)
        return self.lin(pyg.global_mean_pool(self.last(hidden, edge_index, weight), batch))


CONVS = {
    "GCNConv": lambda: pyg.GCNConv(5, 8),
    "GCNConv without normalization": lambda: pyg.GCNConv(5, 8, normalize=False),
    "GINConv": lambda: pyg.GINConv(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8)), train_eps=True),
    "GATConv": lambda: pyg.GATConv(5, 4, heads=2),
    "GATConv averaged": lambda: pyg.GATConv(5, 8, heads=2, concat=False, residual=True),
    "GATv2Conv": lambda: pyg.GATv2Conv(5, 4, heads=2),
    "SAGEConv": lambda: pyg.SAGEConv(5, 8),
    "SAGEConv max": lambda: pyg.SAGEConv(5, 8, aggr="max", project=True),
    "GraphConv": lambda: pyg.GraphConv(5, 8),
    "TransformerConv": lambda: pyg.TransformerConv(5, 4, heads=2),
    "ARMAConv": lambda: pyg.ARMAConv(5, 8),
    "PNAConv": lambda: pyg.PNAConv(5, 8, ["mean", "max"], ["identity"], torch.tensor([0, 3, 3, 2])),
}


def loss(model: nn.Module, data: Data) -> Tensor:
    return model(data.x, data.edge_index, data.batch).square().mean()


@pytest.mark.parametrize("scheme", [*AFFINE, "a2q"])
@pytest.mark.parametrize("name", CONVS)
def test_layers_of_pyg_train_and_freeze(name: str, scheme: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = random_batch(5)
    settings = {"groups": 16} if scheme == "a2q" else {}
    model = prepare(Net(CONVS[name]()), scheme, **settings)
    optimizer_ready = model.train()
    loss(optimizer_ready, data).backward()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        loss(model, data).backward()
        optimizer.step()
    assert all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
    with torch.no_grad():
        trained = model.eval()(data.x, data.edge_index, data.batch)
        frozen = freeze(model)(data.x, data.edge_index, data.batch)
    assert torch.equal(trained, frozen)
    gnncompress.save_checkpoint(model, tmp_path / "model.safetensors")
    again = prepare(Net(CONVS[name]()), scheme, **settings)
    again.load_state_dict(gnncompress.load_checkpoint(tmp_path / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(again(data.x, data.edge_index, data.batch), trained)
    assert any(tensor.dtype == torch.int8 for tensor in model.state_dict().values())


REGISTERED = [(entry.name, task) for entry in MODELS for task in entry.tasks if "link" not in task]


@pytest.mark.parametrize("scheme", ["dq-int8", "qat-int4", "a2q"])
@pytest.mark.parametrize(("name", "task"), REGISTERED)
def test_models_of_the_package(name: str, task: str, scheme: str) -> None:
    torch.manual_seed(0)
    data = random_batch(6) if "graph" in task else random_data(12, 6, 0)
    if name == "spline":
        data.edge_attr = torch.rand(data.edge_index.size(1), 1)
    model = build_model(name, 6, 3, MODELS[name].arguments(task))
    prepare(model, scheme, **({"groups": 8} if scheme == "a2q" and "graph" in task else {}))
    given = [data.x, data.edge_index]
    given += [data.edge_attr] if name == "spline" else [data.batch] if "graph" in task else []
    calibrate(model.eval(), lambda: model(*given))
    model.train()(*given).square().mean().backward()
    reached = {module.name for module in called(model, given)}
    # SuperGAT's and HGP-SL's attention is a weight; every other place was passed.
    assert reached == {name for name, _ in quantizers(model) if not name.endswith(("weights", "weight"))} - {
        name for name, one in quantizers(model) if "att" in name
    }
    with torch.no_grad():
        before = model.eval()(*given)
        assert torch.equal(freeze(model)(*given), before)


def called(model: nn.Module, given: list[Tensor]) -> list[nn.Module]:
    """Return the quantizers that a call passes, those of weights left out."""
    found: list[nn.Module] = []
    weights = {id(one) for name, one in quantizers(model) if name.endswith(("weights", "weight")) or "att" in name}
    handles = [
        one.register_forward_hook(lambda module, args, output: found.append(module)) for _, one in quantizers(model)
    ]
    with torch.no_grad():
        model.eval()(*given)
    for handle in handles:
        handle.remove()
    return [module for module in found if id(module) not in weights]


def test_the_places_of_a_gin() -> None:
    model = build_model("gin", 3, 2, {**MODELS["gin"].arguments("graph-classification"), "layers": 1})
    found = [(point.layer, point.name, point.bits) for point in points(prepare(model, "dq-int4"))]
    assert sorted(found) == sorted(
        [("convs.0", name, 4) for name in ("message", "aggregate", "update")]
        + [
            (layer, name, bits)
            for layer, bits in {"convs.0.nn.0": 4, "convs.0.nn.2": 4, "lin1": 8, "lin2": 8}.items()
            for name in ("inputs", "features", "weights")
        ]
    )
    uniform = build_model("gin", 3, 2, MODELS["gin"].arguments("graph-classification"))
    assert {point.bits for point in points(prepare(uniform, "dq-int4", head_bits=2))} == {4}
    unsigned = [name for name, one in quantizers(model) if isinstance(one, Quantizer) and not one.codes.signed]
    assert unsigned == ["convs.0.nn.2.inputs"], "only what follows a ReLU is known not to be negative"


@given(seed=st.integers(0, 10**6), observer=st.sampled_from(["abs", "mom", "per"]), protect=st.sampled_from([0.0, 0.5]))
def test_quantizing_before_the_gather_changes_nothing(seed: int, observer: str, protect: float) -> None:
    torch.manual_seed(seed)
    data = random_data(20, 4, seed, 0.2)
    results = []
    for plain in (True, False):
        torch.manual_seed(seed)
        conv = pyg.SAGEConv(4, 4)
        prepare(conv, "dq-int4", config=f"gc-{observer}", protect=protect)
        if not plain:
            for hook in conv._propagate_forward_pre_hooks.values():
                assert isinstance(hook, Propagate)
                hook.plain = "none"
        torch.manual_seed(seed)
        x = data.x.clone().requires_grad_()
        y = conv(x, data.edge_index)
        y.sum().backward()
        message = dict(quantizers(conv))["message"]
        results.append((y.detach(), x.grad, message.observer.range, conv.eval()(data.x, data.edge_index)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert torch.equal(results[0][2], results[1][2])


def test_a_batch_whose_nodes_are_all_protected() -> None:
    data = random_data(8, 5, 0)
    model = prepare(Net(pyg.GCNConv(5, 8)), "dq-int8", protect=1.0)
    y = model.train()(data.x, data.edge_index)
    assert bool(torch.isfinite(y).all())
    seen = {name for name, one in quantizers(model) if one.observer.seen}
    assert "conv.message" not in seen
    assert {"conv.lin.weights", "lin.inputs"} <= seen


def test_masks_are_drawn_a_pass_or_a_layer() -> None:
    data = random_data(200, 5, 0, 0.05)
    for draw, wanted in (("forward", 1), ("layer", 2)):
        model = prepare(Net(pyg.GCNConv(5, 8)), "dq-int8", protect=0.5, draw=draw)
        drawn = []
        original = model.quantization_context.draw
        model.quantization_context.draw = lambda *args, o=original, d=drawn: d.append(o(*args)) or d[-1]
        model.train()(data.x, data.edge_index)
        assert len(drawn) == wanted
        assert 0.3 < drawn[0].float().mean() < 0.8
        drawn.clear()
        model.eval()(data.x, data.edge_index)
        assert not drawn, "nothing is protected in evaluation"


def test_protection_ranks_nodes_within_their_graphs() -> None:
    star = Data(x=torch.randn(5, 5), edge_index=torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0]]))
    pair = Data(x=torch.randn(2, 5), edge_index=torch.tensor([[0], [1]]))
    batch = Batch.from_data_list([star, pair])
    model = prepare(Net(pyg.GCNConv(5, 8)), "dq-int8", protect=0.0, protect_more=0.5)
    context = model.train().quantization_context
    context.begin(model, (batch.x, batch.edge_index, batch.batch), {})
    degree = torch.bincount(batch.edge_index[1], minlength=7)
    found = context._probabilities(batch.edge_index, degree)
    torch.testing.assert_close(found, torch.tensor([0.5, 0.4, 0.4, 0.4, 0.4, 0.25, 0.5]))


def test_a_sparse_adjacency_is_quantized_as_an_edge_index_is() -> None:
    data = random_data(12, 5, 0)
    conv = prepare(pyg.SAGEConv(5, 8), "qat-int8")
    adjacency = torch.sparse_coo_tensor(data.edge_index.flip(0), torch.ones(data.edge_index.size(1)), (12, 12))
    conv(data.x, data.edge_index)
    conv.eval()
    torch.testing.assert_close(conv(data.x, adjacency.to_sparse_csr()), conv(data.x, data.edge_index))


@pytest.mark.parametrize("protect", [0.0, 0.4])
@pytest.mark.parametrize("observer", ["abs", "per"])
def test_sparse_features_are_quantized_as_dense_ones(observer: str, protect: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 30) * (torch.rand(40, 30) < 0.2)
    edges = torch.randint(0, 40, (2, 100))
    found = []
    for features in (x, x.to_sparse_csr()):
        torch.manual_seed(1)
        conv = prepare(pyg.GCNConv(30, 8), "dq-int4", config=f"gc-{observer}", protect=protect)
        torch.manual_seed(2)
        y = conv(features, edges)
        found.append((y, dict(quantizers(conv))["lin.inputs"].observer.range, conv.eval()(features, edges)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_copy_has_quantizers_of_its_own() -> None:
    data = random_data(12, 5, 0)
    model = prepare(Net(pyg.GATConv(5, 4, heads=2)), "dq-int8")
    model.train()(data.x, data.edge_index)
    other = copy.deepcopy(model)
    before = {name: one.observer.range.clone() for name, one in quantizers(model)}
    other.train()(100 * data.x, data.edge_index)
    assert all(torch.equal(one.observer.range, before[name]) for name, one in quantizers(model))
    assert not torch.equal(dict(quantizers(other))["conv.lin.inputs"].observer.range, before["conv.lin.inputs"])


def test_masks_of_pruning_hold() -> None:
    torch.manual_seed(0)
    data = random_data(30, 5, 0)
    model = Net(pyg.GCNConv(5, 8))
    masks = gnncompress.prune(model, "global", 0.6).masks
    prepare(model, "qat-int4")
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss(model.train(), data).backward()
        optimizer.step()
    freeze(model)
    for layer, mask in masks.items():
        module = model.get_submodule(layer.rpartition(".")[0])
        assert bool((getattr(module, layer.rpartition(".")[2])[~mask] == 0).all())
    assert any(bool((mask == 0).any()) for mask in masks.values())


def test_inplace_activations_do_not_disturb_the_gradient() -> None:
    x = torch.randn(6, 4)
    gradients = []
    for inplace in (False, True):
        torch.manual_seed(0)
        model = prepare(
            nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=inplace), nn.Linear(4, 2)), "qat-int8", config="gc-abs"
        )
        model(x).sum().backward()
        gradients.append(model[0].parametrizations.weight.original.grad)
    assert torch.equal(*gradients)


def test_layers_kept_in_floats() -> None:
    model = prepare(Net(pyg.GINConv(nn.Linear(5, 8))), "dq-int8", keep_float=["conv"])
    assert {point.layer for point in points(model)} == {"last", "last.lin_rel", "last.lin_root", "lin"}
    with pytest.raises(TypeError, match="unexpected keyword argument 'observers'"):
        prepare(Net(pyg.GCNConv(5, 8)), "dq-int8", observers="abs")  # type: ignore[call-arg]
    prepare(Net(pyg.GCNConv(5, 8)), "dq-int8", keep_float="conv")
    with pytest.raises(UsageError, match=r"--keep-float convs: the model has no such layer; did you mean conv\?"):
        prepare(Net(pyg.GCNConv(5, 8)), "dq-int8", keep_float=["convs"])


class Recurrent(Net):
    def __init__(self) -> None:
        super().__init__(pyg.GCNConv(5, 8))
        self.memory = nn.GRU(4, 4)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def test_what_cannot_be_quantized_is_named() -> None:
    with pytest.raises(QuantizationError, match=r"cannot quantize memory \(GRU\): .*--keep-float memory"):
        prepare(Recurrent(), "qat-int8")
    prepare(Recurrent(), "qat-int8", keep_float=["memory"])
    with pytest.raises(QuantizationError, match=r"cannot quantize the model itself \(Own\)"):
        prepare(Own(), "qat-int8")
    with pytest.raises(QuantizationError, match=r"cannot quantize 0 \(DenseGCNConv\)"):
        prepare(nn.Sequential(pyg.DenseGCNConv(4, 4)), "qat-int8")
    with pytest.raises(QuantizationError, match=r"layer lin \(Linear\): its shape is not known yet"):
        prepare(pyg.GCNConv(-1, 4), "qat-int8")
    with pytest.raises(QuantizationError, match=r"ReLU: there is no layer to quantize"):
        prepare(nn.ReLU(), "qat-int8")
    with pytest.raises(UsageError, match=r"prepared already"):
        prepare(prepare(pyg.GCNConv(3, 4), "qat-int8"), "qat-int8")
    with pytest.raises(UsageError, match=r"prepare takes a torch\.nn\.Module, not a str"):
        prepare("model", "qat-int8")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("scheme", ["qat-int8", "dq-int4", "a2q"])
def test_bad_activations_are_refused_by_layer(value: float, scheme: str) -> None:
    data = random_data(8, 5, 0)
    model = prepare(Net(pyg.SAGEConv(5, 8)), scheme)
    model.train()(data.x, data.edge_index)
    bad = data.x.clone()
    bad[0, 0] = value
    for mode in (True, False):
        with pytest.raises(QuantizationError, match=r"conv\S*: a value is NaN or infinite"):
            model.train(mode)(bad, data.edge_index)


def test_evaluation_before_calibration() -> None:
    data = random_data(8, 5, 0)
    for scheme in ("ptq-int8", "a2q"):
        with pytest.raises(QuantizationError, match=r"its quantizer has seen nothing"):
            prepare(Net(pyg.GCNConv(5, 8)), scheme).eval()(data.x, data.edge_index)


def test_per_node_steps_belong_to_one_graph() -> None:
    model = prepare(Net(pyg.GCNConv(5, 8)), "a2q")
    data = random_data(12, 5, 0)
    model.train()(data.x, data.edge_index)
    other = random_data(13, 5, 1)
    with pytest.raises(QuantizationError, match=r"each of the 12 nodes of the graph .* given 13 nodes; groups of them"):
        model.eval()(other.x, other.edge_index)
    grouped = prepare(Net(pyg.GCNConv(5, 8)), "a2q", groups=10)
    grouped.train()(data.x, data.edge_index)
    grouped.eval()(other.x, other.edge_index)


def test_constant_and_empty_inputs() -> None:
    model = prepare(Net(pyg.GCNConv(5, 8)), "qat-int8")
    edges = torch.empty(2, 0, dtype=torch.long)
    model.train()(torch.zeros(4, 5), edges)
    assert bool(torch.isfinite(model.eval()(torch.ones(4, 5), edges)).all())
    assert model.eval()(torch.empty(0, 5), edges, torch.empty(0, dtype=torch.long)).shape[1] == 3


def test_a_frozen_model_stays_as_it_is() -> None:
    data = random_data(12, 5, 0)
    model = prepare(Net(pyg.GCNConv(5, 8)), "qat-int8")
    model.train()(data.x, data.edge_index)
    unfrozen = model.state_dict()
    before = freeze(model)(data.x, data.edge_index)
    assert not before.requires_grad
    for module in model.modules():
        if not isinstance(module, nn.BatchNorm1d):
            module.training = True
    model(100 * data.x, data.edge_index)
    assert torch.equal(model.eval()(data.x, data.edge_index), before), "no range has moved"
    with torch.inference_mode():
        model(data.x, data.edge_index)
    model(data.x.requires_grad_(), data.edge_index).sum().backward()
    with pytest.raises(UsageError, match="the model is frozen: its ranges stay"):
        calibrate(model, lambda: model(data.x, data.edge_index))
    with pytest.raises(UsageError, match="the model is frozen, the state_dict that of one that is not"):
        model.load_state_dict(unfrozen)
    for function in (freeze, lambda one: calibrate(one, lambda: None)):
        with pytest.raises(UsageError, match="GCNConv has no quantizers to"):
            function(pyg.GCNConv(3, 4))


def test_per_node_steps_know_their_edges() -> None:
    data = random_data(12, 5, 0)
    model = prepare(Net(pyg.GCNConv(5, 8)), "a2q").eval()
    calibrate(model, lambda: model(data.x, data.edge_index))
    shuffled = data.edge_index[:, torch.randperm(data.edge_index.size(1))]
    freeze(model)(data.x, shuffled)
    other = random_data(12, 5, 1)
    with pytest.raises(QuantizationError, match="conv: the graph has other edges than the one that the model's steps"):
        model(other.x, other.edge_index)
    again = prepare(Net(pyg.GCNConv(5, 8)), "a2q")
    again.load_state_dict(model.state_dict())
    with pytest.raises(QuantizationError, match="the graph has other edges"):
        copy.deepcopy(again)(other.x, other.edge_index)


def test_pruning_comes_first() -> None:
    with pytest.raises(PruningError, match="prepared for quantization; prune it before"):
        gnncompress.prune(prepare(Net(pyg.GCNConv(5, 8)), "qat-int8"), "global", 0.5)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.conv = pyg.GATv2Conv(4, 2, share_weights=True, heads=2)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(self.conv(x, edge_index)))


def test_shared_weights_are_quantized_once() -> None:
    data = random_data(12, 4, 0)
    model = prepare(Tied(), "qat-int8").eval()
    assert model.conv.lin_l is model.conv.lin_r
    calibrate(model, lambda: model(data.x, data.edge_index))
    rows = {row.metric: row.value for row in bit_measurements(model, lambda: model(data.x, data.edge_index))}
    assert rows["bits_average_weights"] == pytest.approx(8 + 3 * 64 / (16 + 16 + 4))
    before = model(data.x, data.edge_index).detach()
    freeze(model)
    assert model.first.parametrizations.weight.original is model.second.parametrizations.weight.original
    assert torch.equal(model(data.x, data.edge_index), before)


@pytest.mark.parametrize("config", ["ste-mom", "gc-abs"])
def test_other_precisions(config: str) -> None:
    data = random_data(12, 5, 0)
    model = prepare(Net(pyg.SAGEConv(5, 8), double=True), "qat-int8", config=config).double()
    model.train()(data.x.double(), data.edge_index).sum().backward()
    with torch.no_grad():
        before = model.eval()(data.x.double(), data.edge_index)
        assert before.dtype == torch.float64
        torch.testing.assert_close(freeze(model)(data.x.double(), data.edge_index), before)


def test_a_range_moves_where_memory_is_shared() -> None:
    quantizer = Quantizer("a", observer="abs")
    quantizer(torch.ones(4))
    quantizer(torch.full((4,), 2.0))
    quantizer.share_memory()
    quantizer(torch.full((4,), 9.0))
    assert quantizer.observer.range.tolist() == [1.0, 9.0]


def test_calibration_counts_messages_as_training_does() -> None:
    x, edges = torch.randn(6, 5), torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
    x[5] = 1000  # sends nothing
    conv = prepare(pyg.SAGEConv(5, 8), "ptq-int8").eval()
    calibrate(conv, lambda: conv(x, edges))
    assert float(dict(quantizers(conv))["message"].observer.range.abs().max()) < 10


def test_weights_of_a_sparse_adjacency_are_quantized() -> None:
    torch.manual_seed(0)
    data = random_data(12, 5, 0)
    weight = torch.rand(data.edge_index.size(1)) + 0.5
    conv = prepare(pyg.GraphConv(5, 8), "qat-int4")
    conv(data.x, data.edge_index, weight)
    size = (12, 12)
    adjacency = torch.sparse_coo_tensor(data.edge_index.flip(0), weight, size, check_invariants=False).to_sparse_csr()
    conv.eval()
    torch.testing.assert_close(conv(data.x, adjacency), conv(data.x, data.edge_index, weight))
    torch.manual_seed(1)
    gat = prepare(pyg.GATConv(5, 8, add_self_loops=False), "dq-int8", protect=0.3)
    gat(data.x, adjacency).sum().backward()


def test_nothing_sent_is_nothing_seen() -> None:
    x = torch.randn(4, 5)
    for scheme in ("qat-int8", "dq-int8", "a2q"):
        model = prepare(pyg.SAGEConv(5, 8), scheme)
        assert model(x, torch.empty(2, 0, dtype=torch.long)).shape == (4, 8)
    empty = prepare(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)), "a2q", groups=3)
    empty(torch.empty(0, 5))
    empty(x)


def test_a_copy_between_two_steps() -> None:
    data = random_data(12, 5, 0)
    model = prepare(Net(pyg.GCNConv(5, 8)), "a2q", target_bits=2.0)
    model.train()(data.x, data.edge_index)
    copy.deepcopy(model).eval()(data.x, data.edge_index)
    assert float(model.memory_penalty.auxiliary_loss()) > 0


def test_sources_and_targets() -> None:
    x, edges = (torch.randn(3, 5), torch.randn(9, 5)), torch.tensor([[0, 1, 2], [4, 5, 8]])
    assert prepare(pyg.SAGEConv((5, 5), 8), "qat-int8").train()(x, edges).shape == (9, 8)
    with pytest.raises(QuantizationError, match="sources and targets are different nodes"):
        prepare(nn.Sequential(pyg.SAGEConv((5, 5), 8)), "dq-int8")[0].train()(x, edges)


class Updating(pyg.MessagePassing):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x)

    def update(self, aggregates: Tensor, x: Tensor) -> Tensor:
        self.seen = x
        return aggregates + x


def test_an_update_gets_its_features_as_they_are() -> None:
    data = random_data(12, 5, 0)
    conv = prepare(Updating(aggr="sum"), "qat-int2")
    conv(data.x, data.edge_index)
    assert conv.seen is data.x


def test_layers_that_hooks_do_not_reach_are_refused() -> None:
    """PyG's TAGConv calls ``lin.forward`` itself, which no hook notices."""
    data = random_data(12, 5, 0)
    model = prepare(Net(pyg.TAGConv(5, 8, K=1)), "qat-int8").eval()
    with pytest.raises(
        QuantizationError, match=r"no value passed conv\.lins\.1\.inputs, .*--keep-float conv\.lins\.1$"
    ):
        calibrate(model, lambda: model(data.x, data.edge_index))
    model = prepare(Net(pyg.TAGConv(5, 8, K=1)), "qat-int8", keep_float=["conv.lins.1"]).eval()
    calibrate(model, lambda: model(data.x, data.edge_index))


def test_degree_quant_needs_edges() -> None:
    class Blind(pyg.GCNConv):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x, torch.tensor([[0], [1]]))

    conv = prepare(nn.Sequential(Blind(5, 8)), "dq-int8")
    with pytest.raises(QuantizationError, match=r"0: protecting nodes by their degree needs edge_index"):
        conv.train()(torch.randn(3, 5))


@pytest.mark.parametrize(
    ("norm", "by"),
    [
        (torch.nn.utils.parametrizations.weight_norm, "WeightNorm"),
        (torch.nn.utils.weight_norm, "torch.nn.utils' WeightNorm"),
        (torch.nn.utils.spectral_norm, "torch.nn.utils' SpectralNorm"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_weight_that_others_make_is_refused_by_name(norm: Callable[[nn.Module], nn.Module], by: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), norm(nn.Linear(4, 4)))
    with pytest.raises(
        QuantizationError, match=rf"^layer 1 \(\w+\): its weight is computed by {by}, .*--keep-float 1$"
    ):
        gnncompress.prepare(model, "ptq-int8")
    gnncompress.prepare(model, "ptq-int8", keep_float=["1"])
    x = torch.randn(5, 4)
    gnncompress.calibrate(model.eval(), lambda: model(x))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_weight_that_a_hook_makes_is_not_compiled() -> None:
    for norm in (torch.nn.utils.weight_norm, lambda layer: torch.nn.utils.prune.l1_unstructured(layer, "weight", 0.5)):
        model = nn.Sequential(nn.Linear(4, 4), norm(nn.Linear(4, 4)))
        model(torch.randn(5, 4))
        with pytest.raises(
            QuantizationError, match=r"^layer 1 \(Linear\): torch\.nn\.utils computes its weight by a hook"
        ):
            gnncompress.to_compiled(model.eval())
    assert gnncompress.to_compiled(gnncompress.make_permanent(model))(torch.randn(5, 4)).shape == (5, 4)
