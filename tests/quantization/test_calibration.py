"""Ranges from data: over all batches, and at most a tenth worse than those of the best observer of a grid."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import nn as pyg
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

import gnncompress
from gnncompress.errors import QuantizationError, UsageError
from gnncompress.quantization import calibrate, freeze, prepare, quantizers
from tests.models.graphs import random_data

WIDTH = 6
Batches = list[tuple[Tensor, Tensor]]


class Two(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, make: Callable[[int, int], nn.Module], norm: bool = False, drop: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = make(WIDTH, 8), make(8, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.drop = nn.Dropout(drop)
        self.lin = nn.Linear(8, 3)

    def encode(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.drop(F.relu(self.norm(self.first(x, edge_index)))), edge_index)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.lin(F.relu(self.encode(x, edge_index)))


class Readout(Two):
    """Two outputs of very different sizes, one of them with what is no number."""

    def forward(self, x: Tensor, edge_index: Tensor) -> dict[str, Tensor | tuple[Tensor, Tensor]]:  # type: ignore[override]
        hidden = self.encode(x, edge_index)
        scores = F.relu(self.lin(hidden)).log()
        return {"graph": 1e6 * pyg.global_add_pool(hidden, None), "nodes": (scores, scores.argmax(1))}


def mlp(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Linear(outputs, outputs))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "GCN": lambda: Two(pyg.GCNConv),
    "GIN": lambda: Two(lambda i, o: pyg.GINConv(mlp(i, o))),
    "GAT": lambda: Two(lambda i, o: pyg.GATConv(i, o // 2, heads=2), norm=True),
    "SAGE, largest": lambda: Two(lambda i, o: pyg.SAGEConv(i, o, aggr="max"), norm=True),
    "GraphConv": lambda: Two(pyg.GraphConv),
    "Transformer": lambda: Two(lambda i, o: pyg.TransformerConv(i, o // 2, heads=2)),
    "two outputs": lambda: Readout(pyg.GraphConv),
    "one convolution": lambda: pyg.SAGEConv(WIDTH, 3),
}


def graphs(count: int = 2) -> list[Data]:
    return [random_data(20 + 5 * number, WIDTH, number) for number in range(count)]


def outlier(x: Tensor) -> Tensor:
    x = x.clone()
    x[0, 0] = 300.0
    return x


DATA: dict[str, Callable[[], Batches]] = {
    "one batch": lambda: [(one.x, one.edge_index) for one in graphs(1)],
    "small, then large": lambda: [(one.x * factor, one.edge_index) for one in graphs(1) for factor in (0.1, 1)],
    "large, then small": lambda: [(one.x * factor, one.edge_index) for one in graphs(1) for factor in (1, 0.1)],
    "heavy tails": lambda: [(one.x**5, one.edge_index) for one in graphs()],
    "one outlier": lambda: [(outlier(one.x) if one.num_nodes == 20 else one.x, one.edge_index) for one in graphs()],
    "constant": lambda: [(torch.full_like(one.x, 3.7), one.edge_index) for one in graphs()],
    "zeros": lambda: [(torch.zeros_like(one.x), one.edge_index) for one in graphs()],
    "zeros, then values": lambda: [(one.x * factor, one.edge_index) for one in graphs(1) for factor in (0, 1)],
}


def over(model: nn.Module, batches: Batches) -> Callable[[], object]:
    return lambda: [model(*batch) for batch in batches]


def numbers(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    parts = output.values() if isinstance(output, dict) else output
    return [tensor for part in parts for tensor in numbers(part)]  # type: ignore[union-attr, attr-defined]


@torch.no_grad()
def error(model: nn.Module, floats: nn.Module, batches: Batches) -> float:
    """Return sum (q - f)^2 / sum f^2, added up over outputs, of what is finite in floats; its root."""
    found = [numbers(model(*batch)) for batch in batches]
    wanted = [numbers(floats(*batch)) for batch in batches]
    total = 0.0
    for q, f in zip(zip(*found, strict=True), zip(*wanted, strict=True), strict=True):
        one, other = torch.cat([x.flatten() for x in q]).double(), torch.cat([x.flatten() for x in f]).double()
        one, other = one[other.isfinite()], other[other.isfinite()]
        total += float((one - other).square().sum() / (other.square().sum() or 1.0))
    return total**0.5


GRID: list[dict[str, str]] = [
    *({"config": f"gc-{observer}"} for observer in ("abs", "mom", "per")),
    *({"calibration": calibration} for calibration in ("minmax", "percentile", "mse")),
]


def calibrated(floats: nn.Module, batches: Batches, scheme: str = "ptq-int8", **settings: object) -> nn.Module:
    model = prepare(copy.deepcopy(floats), scheme, head_bits=int(scheme[-1]), **settings).eval()
    calibrate(model, over(model, batches))
    return model


def test_a_small_first_batch_does_not_decide() -> None:
    torch.manual_seed(0)
    floats, batches = Two(pyg.GCNConv).eval(), DATA["small, then large"]()
    whole = [batches[1]]
    assert error(calibrated(floats, batches), floats, whole) < 0.05
    by_momentum = calibrated(floats, batches, calibration="observer")
    assert error(by_momentum, floats, whole) > 0.2, "which is what the observer of training makes of two batches"


# Every model on batches that grow, every kind of data with two models.
PAIRS = [(name, "small, then large") for name in MODELS]
PAIRS += [(name, data) for data in DATA for name in ("GraphConv", "two outputs") if data != "small, then large"]


@pytest.mark.parametrize(("name", "data"), PAIRS)
def test_at_most_a_tenth_above_the_best_of_a_grid(name: str, data: str) -> None:
    torch.manual_seed(0)
    floats, batches = MODELS[name]().eval(), DATA[data]()
    for bits in (8, 4, 2):
        found = error(calibrated(floats, batches, f"ptq-int{bits}"), floats, batches)
        best = min(
            error(calibrated(floats, batches, f"ptq-int{bits}", **settings), floats, batches) for settings in GRID
        )
        assert found <= 1.1 * best + 1e-12, (bits, found, best)


@pytest.mark.parametrize("scheme", ["qat-int8", "dq-int4", "ptq-int3"])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_every_affine_scheme_is_calibrated_so(scheme: str, granularity: str) -> None:
    torch.manual_seed(0)
    floats, batches = MODELS["GIN"]().eval(), DATA["small, then large"]()
    found = error(calibrated(floats, batches, scheme, granularity=granularity), floats, batches)
    best = min(
        error(calibrated(floats, batches, scheme, granularity=granularity, calibration=calibration), floats, batches)
        for calibration in ("minmax", "percentile", "mse", "observer")
    )
    assert found <= 1.1 * best


def test_what_is_reported_is_the_error_of_the_model() -> None:
    torch.manual_seed(0)
    floats, batches = MODELS["two outputs"]().eval(), DATA["heavy tails"]()
    model = prepare(copy.deepcopy(floats), "ptq-int4")
    found = calibrate(model, over(model, batches))
    assert found is not None
    assert found.error == pytest.approx(error(model.eval(), floats, batches), rel=1e-6)
    alone = prepare(copy.deepcopy(floats), "ptq-int4", calibration="percentile")
    assert str(calibrate(alone, over(alone, batches))) == (
        "Calibrated(activations='percentile', weights='minmax', error=None)"
    )


def ranges(model: nn.Module) -> dict[str, list[float]]:
    return {name: one.observer.range.flatten().tolist() for name, one in quantizers(model) if one.observer.seen}


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "mse"])
def test_the_order_of_batches_does_not_matter(calibration: str) -> None:
    torch.manual_seed(0)
    floats = Two(pyg.GCNConv).eval()
    batches = [(one.x * factor, one.edge_index) for one in graphs(3) for factor in (0.01, 1, 20)]
    first = ranges(calibrated(floats, batches, calibration=calibration))
    for seed in range(3):
        shuffled = random.Random(seed).sample(batches, len(batches))
        assert ranges(calibrated(floats, shuffled, calibration=calibration)) == first


def test_calibration_is_deterministic_and_starts_anew() -> None:
    torch.manual_seed(0)
    floats, batches = Two(pyg.GATConv).eval(), DATA["heavy tails"]()
    model = calibrated(floats, batches, "ptq-int4")
    first = ranges(model)
    calibrate(model, over(model, [(100 * x, edges) for x, edges in batches]))
    assert ranges(model) != first
    calibrate(model, over(model, batches))
    assert ranges(model) == first


@pytest.mark.parametrize("calibration", ["minmax", "auto"])
def test_minmax_covers_all_that_passes(calibration: str) -> None:
    model = prepare(nn.Sequential(nn.Linear(3, 2)), "ptq-int8", calibration=calibration)
    batches = [torch.tensor([[-2.0, 1.0, 0.5]]), torch.tensor([[0.1, 7.0, 0.0]])]
    calibrate(model, lambda: [model(x) for x in batches])
    assert ranges(model)["0.inputs"] == [-2.0, 7.0]


def test_a_model_in_training_is_calibrated_as_it_evaluates_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    batches = DATA["small, then large"]()
    model = prepare(Two(pyg.GCNConv, norm=True, drop=0.5), "ptq-int8").train()
    model.drop.eval()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers() if name.startswith("norm.")}
    modes = {name: module.training for name, module in model.named_modules()}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    calibrate(model, over(model, batches))
    assert torch.equal(torch.get_rng_state(), before), "nothing was drawn, for nothing is dropped out"
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(torch.equal(buffer, dict(model.named_buffers())[name]) for name, buffer in buffers.items())
    in_training = ranges(model)
    calibrate(model.eval(), over(model, batches))
    assert ranges(model) == in_training


class Noisy(Two):
    """Draws random numbers in evaluation, too, of all three generators."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = F.dropout(x, 0.5, training=True) + float(np.random.rand()) * random.random()
        return super().forward(x, edge_index)


def test_random_models_and_shuffled_batches_are_compared_with_the_same_numbers() -> None:
    torch.manual_seed(0)
    floats = Noisy(pyg.GCNConv).eval()
    data = [Data(x=one.x * (1 + number), edge_index=one.edge_index) for number, one in enumerate(graphs(6))]
    loader = DataLoader(data, batch_size=2, shuffle=True)

    def seeded() -> None:
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)

    def state() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()

    model = prepare(copy.deepcopy(floats), "ptq-int8")
    outputs: list[list[Tensor]] = []
    seeded()
    found = calibrate(model, lambda: outputs.append([model(batch.x, batch.edge_index) for batch in loader]))
    after = state()
    assert all(torch.equal(one, other) for one, other in zip(*outputs, strict=True)), "the same batches, in floats"
    assert found is not None
    assert found.error is not None
    assert found.error < 0.2, "with other numbers dropped out it would be near 1"
    seeded()
    assert state() == after, "as if nothing had been drawn"


def test_data_that_is_used_up_is_told_in_a_line() -> None:
    batches = DATA["small, then large"]()
    model = prepare(Two(pyg.GCNConv), "ptq-int8")
    remaining = iter(batches)
    with pytest.raises(
        QuantizationError,
        match=r"auto calls run twice, and it called the model 2 times, then 0: let it go over the same data each "
        r"time, or prepare\(\.\.\., calibration='minmax'\), which calls it once",
    ):
        calibrate(model, lambda: [model(*batch) for batch in remaining])
    assert all(quantizer.recorder is None for _, quantizer in quantizers(model))
    once = prepare(Two(pyg.GCNConv), "ptq-int8", calibration="minmax")
    again = iter(batches)
    calibrate(once, lambda: [once(*batch) for batch in again])


def test_outputs_that_cannot_be_compared_are_told_in_a_line() -> None:
    class Classes(Two):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return super().forward(x, edge_index).argmax(1).tolist()

    model, batches = prepare(Classes(pyg.GCNConv), "ptq-int8"), DATA["one batch"]()
    with pytest.raises(QuantizationError, match=r"what run calls returns no tensor: .*calibration='minmax'"):
        calibrate(model, over(model, batches))


@pytest.mark.parametrize("bits", [8, 4])
def test_parts_of_a_model_may_be_called_instead_of_it(bits: int) -> None:
    torch.manual_seed(0)
    floats = Two(pyg.GCNConv).eval()
    (small, edges), (large, _) = DATA["small, then large"]()

    def run(model: Two) -> list[Tensor]:
        return [model.lin(model.encode(x, edges).relu()) for x in (small, large)]

    errors = []
    for settings in ({}, {"config": "gc-abs"}, {"config": "gc-mom"}):
        model = prepare(copy.deepcopy(floats), f"ptq-int{bits}", **settings)
        calibrate(model, lambda model=model: run(model))  # type: ignore[misc]
        with torch.no_grad():
            errors.append(float((run(model.eval())[1] - run(floats)[1]).norm() / run(floats)[1].norm()))
    assert errors[0] <= 1.1 * min(errors)


def test_what_was_found_is_kept_by_all_that_follows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    floats, batches = Two(pyg.GraphConv).eval(), DATA["one outlier"]()
    model = calibrated(floats, batches, "ptq-int4")
    kept = ranges(model)
    with torch.no_grad():
        wanted = model(*batches[1])
    again = prepare(copy.deepcopy(floats), "ptq-int4", head_bits=4)
    again.load_state_dict(model.state_dict())
    assert ranges(again) == kept
    integer = gnncompress.to_integer(freeze(model))
    gnncompress.save_checkpoint(model, tmp_path / "model.safetensors")
    loaded = prepare(copy.deepcopy(floats), "ptq-int4", head_bits=4)
    loaded.load_state_dict(gnncompress.load_checkpoint(tmp_path / "model.safetensors"))
    assert ranges(loaded) == kept == ranges(model)
    with torch.no_grad():
        assert torch.equal(again.eval()(*batches[1]), wanted)
        assert torch.equal(loaded.eval()(*batches[1]), wanted)
    step = float(dict(quantizers(model))["lin.features"].grid().scale)
    assert float((integer(*batches[1]) - wanted).abs().max()) <= 1.001 * step
    assert float((integer(*batches[1]) == wanted).double().mean()) > 0.9


@pytest.mark.parametrize("observer", ["abs", "mom", "per"])
def test_training_goes_on_from_there_by_the_papers_rule(observer: str) -> None:
    model = prepare(nn.Sequential(nn.Linear(3, 2)), "qat-int8", config=f"ste-{observer}", calibration="minmax")
    x = torch.randn(50, 3)
    calibrate(model, lambda: (model(0.1 * x), model(x)))
    low, high = dict(quantizers(model))["0.inputs"].observer.range.tolist()
    assert [low, high] == [float(x.min()), float(x.max())]
    model.train()(2 * x)
    found = dict(quantizers(model))["0.inputs"].observer.range.tolist()
    values = torch.sort(2 * x.flatten()).values
    wanted = {
        "abs": (2 * low, 2 * high),
        "mom": (low + 0.01 * (2 * low - low), high + 0.01 * (2 * high - high)),
        "per": (min(low, float(values[0])), max(high, float(values[148]))),
    }
    assert found == pytest.approx(wanted[observer], rel=1e-6)


def test_values_that_are_no_numbers_are_refused_by_name() -> None:
    (x, edges), *_ = DATA["one batch"]()
    for calibration in ("auto", "minmax", "percentile", "mse", "observer"):
        model = prepare(Two(pyg.GCNConv), "ptq-int8", calibration=calibration)
        with pytest.raises(QuantizationError, match=r"first\.lin\.inputs: a value is NaN or infinite"):
            calibrate(model, lambda model=model: model(x / 0, edges))  # type: ignore[misc]
        assert all(quantizer.recorder is None for _, quantizer in quantizers(model))
        calibrate(model, lambda model=model: model(x, edges))  # type: ignore[misc]


def test_sparse_features_have_the_ranges_of_dense_ones() -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 30) * (torch.rand(40, 30) < 0.2)
    edges = torch.randint(0, 40, (2, 100))
    floats = pyg.GCNConv(30, 8).eval()
    for settings in ({}, {"calibration": "percentile"}, {"calibration": "mse"}):
        dense, sparse = (
            calibrated(floats, [(features, edges)], "ptq-int4", **settings) for features in (x, x.to_sparse_csr())
        )
        for name, found in ranges(sparse).items():
            assert found == pytest.approx(ranges(dense)[name], rel=1e-4), name


def test_double_precision_and_shared_weights() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 4).double()
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).double()
    model[2].weight = model[0].weight
    prepare(model, "ptq-int4", granularity="channel")
    found = calibrate(model, lambda: model(x))
    assert found is not None
    assert found.error is not None
    assert found.error < 0.3
    assert model.eval()(x).dtype == torch.float64


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="scheme ptq-int8: calibration mse does not use observer abs; leave one of"):
        prepare(Two(pyg.GCNConv), "ptq-int8", config="gc-abs", calibration="mse")
    with pytest.raises(UsageError, match="unknown calibration 'minimax'; did you mean minmax"):
        prepare(Two(pyg.GCNConv), "qat-int8", calibration="minimax")
    prepare(Two(pyg.GCNConv), "qat-int8", config="gc-abs", calibration="mse")


def test_steps_that_are_learnt_have_no_ranges() -> None:
    batches = DATA["one batch"]()
    model = prepare(Two(pyg.GCNConv), "a2q", groups=8)
    called: list[Tensor] = []
    assert calibrate(model, lambda: called.append(model(*batches[0]))) is None
    assert len(called) == 1


@pytest.mark.parametrize("make", [lambda h: h.argmax(-1), lambda h: h > 0, lambda h: torch.complex(h, -h)])
def test_outputs_that_are_no_floats_are_compared_too(make: Callable[[Tensor], Tensor]) -> None:
    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return make(self.lin(x))

    torch.manual_seed(0)
    model, x = gnncompress.prepare(Answering().eval(), "ptq-int4"), torch.randn(50, 6)
    found = gnncompress.calibrate(model, lambda: model(x))
    assert found is not None
    assert 0 <= found.error < 1
