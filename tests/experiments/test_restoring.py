"""A checkpoint as a ready model: every model of the package, and everything that must be refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gnncompress
from gnncompress.checkpoints import save_checkpoint
from gnncompress.errors import CheckpointError, UsageError
from gnncompress.experiments.building import load_task, new_model
from gnncompress.experiments.resolve import resolve
from gnncompress.experiments.restoring import card_of
from gnncompress.measurements import GRAPHS, LINKS, NODES
from gnncompress.models import MODELS
from gnncompress.pruning.edges import drop_edges

DATA = {NODES: "digits", LINKS: "digits", GRAPHS: "digits-grid"}
CASES = [(entry.name, task) for entry in MODELS for task in DATA if task in entry.tasks]


def card(**changes: Any) -> dict[str, Any]:
    plain = {"run": "0", "dataset": "digits", "task": NODES, "model": "gcn", "method": "none", "scheme": ""}
    sizes = {"arguments": {"hidden": 4, "dropout": 0.0}, "features": 8, "outputs": 3, "sparsity": 0.0, "seed": 0}
    return {**plain, **sizes, **changes}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_model_is_restored(name: str, task: str, tmp_path: Path) -> None:
    spec = resolve(DATA[task], name, task=task)
    problem = load_task(spec, None)
    model = new_model(spec, problem).eval()
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
    spec = resolve("digits-grid", "gin", "structured", 0.5)
    task = load_task(spec, None)
    model = new_model(spec, task).eval()
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
    specs = {path.parent: json.loads(path.read_text()) for path in tmp_path.glob("*/spec.json")}
    (path,) = [folder / "model.safetensors" for folder, spec in specs.items() if spec["method"] == "global"]
    model = gnncompress.load_model(path)
    weights = torch.cat([p.detach().reshape(-1) for p in model.parameters() if p.dim() > 1])
    assert float((weights == 0).float().mean()) == pytest.approx(0.5, abs=1 / len(weights))
    metadata = gnncompress.checkpoints.inspect_checkpoint(path).metadata
    assert (metadata["run"], metadata["method"], metadata["sparsity"]) == (path.parent.name, "global", 0.5)


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
    spec = resolve("digits", "gcn")
    task = load_task(spec, None)
    model = new_model(spec, task).eval()
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
