"""A checkpoint as a ready model: every model of the package, and everything that must be refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gnncompress
from gnncompress.checkpoints import save_checkpoint
from gnncompress.errors import CheckpointError, UsageError
from gnncompress.experiments import restoring
from gnncompress.experiments.building import load_task, new_model
from gnncompress.experiments.restoring import card_of
from gnncompress.measurements import GRAPHS, LINKS, NODES
from gnncompress.models import MODELS, build_model
from gnncompress.pruning.edges import drop_edges
from gnncompress.quantization import calibrate, freeze, prepare
from gnncompress.tasks.base import Task
from tests.experiments.helpers import asked

DATA = {NODES: "digits", LINKS: "digits", GRAPHS: "digits-grid"}
CASES = [(entry.name, task) for entry in MODELS for task in DATA if task in entry.tasks]


def card(**changes: Any) -> dict[str, Any]:
    plain = {"run": "0", "dataset": "digits", "task": NODES, "model": "gcn"}
    sizes = {"arguments": {"hidden": 4, "dropout": 0.0}, "features": 8, "outputs": 3, "sparsity": 0.0, "seed": 0}
    return {**plain, **sizes, **changes}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_model_is_restored(name: str, task: str, tmp_path: Path) -> None:
    spec = asked(DATA[task], name, task=task)
    problem = load_task(spec.workload, None)
    model = new_model(spec.workload, problem).eval()
    save_checkpoint(model, tmp_path / "x", card_of(spec, problem))
    back = gnncompress.load_model(tmp_path / "x")
    assert type(back) is type(model)
    assert not back.training
    with torch.no_grad():
        torch.manual_seed(0)
        one = problem.example(model)
        torch.manual_seed(0)
        assert torch.equal(problem.example(back), one)


def test_channels_removed_are_removed_again(tmp_path: Path) -> None:
    spec = asked("digits-grid", "gin", "structured", 0.5)
    task = load_task(spec.workload, None)
    model = new_model(spec.workload, task).eval()
    gnncompress.prune(model, "structured", 0.5, forward=task.example)
    save_checkpoint(model, tmp_path / "x", card_of(spec, task))
    back = gnncompress.load_model(tmp_path / "x")
    assert sum(p.numel() for p in back.parameters()) == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(task.example(back), task.example(model))


def test_a_run_of_the_command_line_is_restored(tmp_path: Path) -> None:
    rows = gnncompress.experiment(
        output=tmp_path, dataset="digits", model="gcn", method="global", sparsity=0.5, epochs=2, finetune=False
    )
    assert len(rows)
    (path,) = [folder / "model.safetensors" for folder in tmp_path.iterdir() if folder.name == rows["run_id"]]
    model = gnncompress.load_model(path)
    weights = torch.cat([p.detach().reshape(-1) for p in model.parameters() if p.dim() > 1])
    assert float((weights == 0).float().mean()) == pytest.approx(0.5, abs=1 / len(weights))
    metadata = gnncompress.checkpoints.inspect_checkpoint(path).metadata
    applied = [{"method": "global", "config": {}}]
    assert (metadata["run"], metadata["compress"], metadata["sparsity"]) == (path.parent.name, applied, 0.5)
    parent = json.loads((path.parent / "spec.json").read_text())["stages"]
    assert [stage["stage"] for stage in parent] == ["train", "compress", "measure"]


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    save_checkpoint(model := build(), tmp_path / "x")
    assert torch.equal(gnncompress.load_model(tmp_path / "x", build)[1].weight, model[1].weight)
    with pytest.raises(CheckpointError, match=r"x: does not say what its model is; give load_model\(path, build"):
        gnncompress.load_model(tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"x: does not fit Sequential: .*size mismatch"):
        gnncompress.load_model(tmp_path / "x", lambda: nn.Sequential(nn.Linear(400, 300), nn.Linear(40, 20)))
    with pytest.raises(CheckpointError, match=r"Sequential: '0.weight' is torch.float32, the model's"):
        gnncompress.load_model(tmp_path / "x", lambda: build().double())
    with pytest.raises(CheckpointError, match=r"x: does not fit Linear: .*weight"):
        gnncompress.load_model(tmp_path / "x", lambda: nn.Linear(4, 4))
    with pytest.raises(CheckpointError, match=r"x: does not fit Sequential: size mismatch for 0.weight"):
        gnncompress.load_model(tmp_path / "x", lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))


def test_lazy_layers_and_channels_of_ones_own_model(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    save_checkpoint(layer := nn.Linear(5, 3), tmp_path / "x")
    assert torch.equal(gnncompress.load_model(tmp_path / "x", lambda: nn.LazyLinear(3)).weight, layer.weight)
    gnncompress.prune(model := build(), "structured", 0.5, forward=lambda net: net(torch.ones(2, 4)))
    save_checkpoint(model, tmp_path / "y")
    back = gnncompress.load_model(tmp_path / "y", build, reshaped=True)
    assert torch.equal(back(torch.ones(2, 4)), model.eval()(torch.ones(2, 4)))
    with pytest.raises(CheckpointError, match=r"does not fit Linear: 'weight' is .*, the model's"):
        gnncompress.load_model(tmp_path / "x", lambda: nn.Linear(5, 2), reshaped=True)


def test_edges_dropped_stay_dropped(tmp_path: Path) -> None:
    spec = asked("digits", "gcn")
    task = load_task(spec.workload, None)
    model = new_model(spec.workload, task).eval()
    edges = task.data.edge_index.size(1)  # type: ignore[attr-defined]
    drop_edges(model, torch.arange(edges) % 3 > 0)
    save_checkpoint(model, tmp_path / "x", card_of(spec, task))
    with torch.no_grad():
        assert torch.equal(task.example(gnncompress.load_model(tmp_path / "x")), task.example(model))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "evil.py:build"}, "its model 'evil.py:build' is not one of gnncompress"),
        ({"model": "nothing"}, "its model 'nothing' is not one of gnncompress"),
        ({"arguments": {"hidden": 4, "hidde": 4}}, "its model cannot be built"),
        ({"arguments": {"features": 1}}, "its model cannot be built"),
        ({"arguments": {"hidden": "x"}}, "its model cannot be built"),
        ({"arguments": {"hidden": 4, "dropout": 7.0}}, "its model cannot be built"),
        ({"model": "gin", "task": GRAPHS, "arguments": {"layers": 150, "hidden": 1024}}, "does not fit its model gin"),
        ({}, "does not fit its model gcn: 'convs.0.bias' is in one only"),
        ({"features": 10**12}, "its model cannot have 1000000000000 features"),
        ({"arguments": {"hidden": 10**9, "dropout": 0.0}}, "its model cannot have 1000000000 hidden"),
        ({"arguments": {"hidden": -4, "dropout": 0.0}}, "its model cannot have -4 hidden"),
        ({"seed": "many"}, "does not say what its model is"),
    ],
)
def test_a_card_that_lies_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    state = {"weight": torch.ones(2, 2), "empty": torch.empty(2**40, 0), "scalar": torch.tensor(1)}
    save_checkpoint(state, tmp_path / "x", card(**changes))
    with pytest.raises(CheckpointError, match=message):
        gnncompress.load_model(tmp_path / "x")


def test_what_builds_no_model_is_refused(tmp_path: Path) -> None:
    save_checkpoint(nn.Linear(4, 2), tmp_path / "x")
    for build in (lambda features, classes: nn.Linear(features, classes), nn.Linear(4, 2), 3):
        with pytest.raises(UsageError, match="build must be a function without arguments that makes the model"):
            gnncompress.load_model(tmp_path / "x", build)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"build returns a int; it must return a torch\.nn\.Module"):
        gnncompress.load_model(tmp_path / "x", lambda: 3)  # type: ignore[arg-type, return-value]


VALUES: list[Any] = [None, True, 0, -1, 2, 10**6, 10**30, 0.5, -0.5, 1e308, "", "x", "quantize", "structured", [1], {}]
VALUES += [{"a": 1}, {"execute": "x"}, {"execute": "integer"}, {"scheme": "a2q"}, {"scheme": "fp32"}, {"scheme": ["x"]}]
VALUES += [{"scheme": "qat-int8", "keep_float": 3}, {"scheme": "qat-int8", "head_bits": 1e308}, {"rate": "x"}, "[/]"]


def forged(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a card with each key removed, and with each value replaced by others, also inside of dictionaries."""
    found: list[dict[str, Any]] = []
    for key, value in whole.items():
        found.append({name: other for name, other in whole.items() if name != key})
        found += [{**whole, key: new} for new in VALUES]
        if isinstance(value, dict):
            found += [{**whole, key: inner} for inner in forged(value)]
            found += [{**whole, key: {**value, "new": new}} for new in VALUES]
    return found


@pytest.fixture(scope="module")
def quantized() -> tuple[Task, dict[str, Any], dict[str, Tensor]]:
    """A task, the card and the tensors of a model that runs in integers."""
    spec = asked("digits", "gcn", "quantize", scheme="qat-int8", execute="integer")
    task = load_task(spec.workload, None)
    model = prepare(new_model(spec.workload, task), "qat-int8")
    calibrate(model, lambda: task.example(model))
    return task, card_of(spec, task), dict(freeze(model).state_dict())


@pytest.mark.parametrize("kind", ["plain", "integer", "structured"])
@pytest.mark.parametrize("own", [False, True])
def test_a_forged_card_is_refused_or_harmless(
    kind: str, own: bool, quantized: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, whole, state = quantized
    if kind != "integer":
        spec = asked("digits", "gcn", *(("structured", 0.5) if kind == "structured" else ()))
        model = new_model(spec.workload, task).eval()
        if kind == "structured":
            gnncompress.prune(model, "structured", 0.5, forward=task.example)
        whole, state = card_of(spec, task), dict(model.state_dict())

    def build() -> nn.Module:
        return build_model("gcn", whole["features"], whole["outputs"], whole["arguments"])

    (tmp_path / "x").write_bytes(bytes(10_000))
    outcomes = {"loaded": 0, "refused": 0}
    for lie in forged(whole):
        monkeypatch.setattr(restoring, "read_checkpoint", lambda *_, lie=lie: (state, lie))
        try:
            gnncompress.load_model(tmp_path / "x", build if own else None)
        except CheckpointError as error:
            outcomes["refused"] += 1
            said = str(error)
        else:
            outcomes["loaded"] += 1
            said = str(tmp_path / "x")
        assert said.startswith(str(tmp_path / "x")), lie
        assert "\n" not in said, lie
    assert outcomes["loaded"] > 10
    assert own or outcomes["refused"] > 10, "lies of both kinds must be tried"


@pytest.mark.parametrize("key", list(card()))
def test_a_card_without_a_field_says_which(key: str, tmp_path: Path) -> None:
    whole = card()
    del whole[key]
    save_checkpoint({"weight": torch.ones(2)}, tmp_path / "x", whole)
    with pytest.raises(CheckpointError, match=rf"x: does not say what its model is \({key}: Field required\); give"):
        gnncompress.load_model(tmp_path / "x")


WITHOUT_END = [
    (-math.inf, 1.0),
    (-1.0, math.inf),
    (-math.inf, math.inf),
    (math.nan, 1.0),
    (-1.0, math.nan),
    (1.0, -1.0),
]


@pytest.mark.parametrize(("low", "high"), WITHOUT_END)
def test_a_range_without_end_is_refused(low: float, high: float, quantized: Any, tmp_path: Path) -> None:
    _, whole, state = quantized
    ranges = [name for name in state if name.endswith(".range")]
    for name in (ranges[0], ranges[-1]):
        save_checkpoint({**state, name: torch.tensor([low, high])}, tmp_path / "x", whole)
        for execute in (None, "simulated", "compiled"):
            with pytest.raises(CheckpointError, match=r"x: damaged: the range of .+ is not finite"):
                gnncompress.load_model(tmp_path / "x", execute=execute)


def test_a_step_without_end_is_refused(tmp_path: Path) -> None:
    spec = asked("digits", "gcn", "quantize", scheme="a2q")
    task = load_task(spec.workload, None)
    model = prepare(new_model(spec.workload, task), "a2q")
    calibrate(model, lambda: task.example(model))
    state = dict(freeze(model).state_dict())
    save_checkpoint(state, tmp_path / "x", card_of(spec, task))
    gnncompress.load_model(tmp_path / "x")
    step = next(name for name, tensor in state.items() if name.endswith(".step") and tensor.numel())
    save_checkpoint({**state, step: torch.full_like(state[step], math.inf)}, tmp_path / "x", card_of(spec, task))
    with pytest.raises(CheckpointError, match=r"x: damaged: the range of .+ is not finite"):
        gnncompress.load_model(tmp_path / "x")


def test_a_mask_of_edges_that_is_none_is_refused(tmp_path: Path) -> None:
    spec = asked("digits", "gcn")
    task = load_task(spec.workload, None)
    state = dict(new_model(spec.workload, task).state_dict())
    for mask in (torch.ones(5), torch.ones(2, 2, dtype=torch.bool), torch.ones(5, dtype=torch.long)):
        save_checkpoint({**state, "edge_keep": mask}, tmp_path / "x", card_of(spec, task))
        with pytest.raises(CheckpointError, match=r"x: does not fit GCN: 'edge_keep' is no mask of edges"):
            gnncompress.load_model(tmp_path / "x")


def test_what_the_caller_asks_for_and_the_model_cannot_do_is_the_callers_error(tmp_path: Path) -> None:
    spec = asked("digits", "gcn")
    task = load_task(spec.workload, None)
    save_checkpoint(new_model(spec.workload, task), tmp_path / "x", card_of(spec, task))
    with pytest.raises(UsageError, match="never quantized"):
        gnncompress.load_model(tmp_path / "x", execute="integer")
