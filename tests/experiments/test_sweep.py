"""Whole runs on real data: determinism, resuming, failing, killing."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import gnncompress
from gnncompress.checkpoints import load_checkpoint, same_bits
from gnncompress.errors import DatasetError, TrainingError
from gnncompress.experiments import building, execution
from gnncompress.experiments.building import load_task
from gnncompress.experiments.inference import runnable
from gnncompress.experiments.store import Store
from gnncompress.experiments.sweep import Observer, Sweep, reason
from gnncompress.measurements import COLUMNS, PHASES, SOURCES
from gnncompress.tasks import trainer as trainer_module
from tests.experiments.helpers import asked

TIMED = {
    "duration",
    "epoch_cpu_duration",
    "pack_duration",
    "unpack_duration",
    "latency_median",
    "latency_p95",
    "repetitions",
}
TIMED |= {"throughput", "memory_baseline", "memory_peak", "memory_peak_sampled", "energy"}
TIMED |= {"latency_p99", "warmup", "cpu", "cpu_foreign", "energy_window"}
TIMED |= {"context_switches_voluntary", "context_switches_involuntary"}
FILES = {"spec.json", "environment.json", "results.csv", "runs.csv", "model.safetensors", "samples.npz"}
OF_MODELS = {"spec.json", "environment.json", "costs.csv", "model.safetensors"}
QUICK = ["--epochs", "5", "--finetune-epochs", "3", "--quiet"]


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_folder(runs: Path) -> None:
    spec = asked("digits", "gcn", "global", 0.5, 1, epochs=20, finetune_epochs=5)
    folder = runs / spec.id
    assert {path.name for path in folder.iterdir()} == FILES
    assert json.loads((folder / "spec.json").read_text()) == spec.dump()
    parent = spec.parent
    assert parent is not None
    assert {path.name for path in (runs / parent.id).iterdir()} == OF_MODELS
    rows = rows_of(folder)
    assert all(tuple(row) == COLUMNS for row in rows)
    assert {row["phase"] for row in rows} <= set(PHASES)
    assert {row["source"] for row in rows} <= set(SOURCES)
    assert all((row["value"] == "") == (row["source"] == "unavailable") for row in rows)
    value = {(row["phase"], row["metric"], row["layer"]): row["value"] for row in rows}
    assert float(value["compress", "sparsity", ""]) == 0.5
    layers = [layer for _, metric, layer in value if metric == "sparsity" and layer]
    assert layers == ["convs.0.lin.weight", "convs.1.lin.weight"]
    assert float(value["evaluate", "accuracy", ""]) > 2 * float(value["evaluate", "constant_accuracy", ""])
    assert int(value["checkpoint", "checkpoint_size", ""]) == (folder / "model.safetensors").stat().st_size
    assert float(value["inference", "repetitions", ""]) >= 30


def test_stored_model_gives_the_stored_scores(runs: Path) -> None:
    spec = asked("digits", "gcn", "fine-grained", 0.5, 0, epochs=20, finetune_epochs=5)
    task = load_task(spec.workload, None)
    model = runnable(spec, task, runs / spec.id / "model.safetensors")
    scores = {row.metric: row.value for row in task.evaluate(model)}
    stored = {row["metric"]: float(row["value"]) for row in rows_of(runs / spec.id) if row["phase"] == "evaluate"}
    assert stored == pytest.approx(scores)


def test_same_spec_same_rows_and_same_model(runs: Path, tmp_path: Path) -> None:
    spec = asked("digits", "gcn", "global", 0.5, 1, epochs=20, finetune_epochs=5)
    Sweep(Store(tmp_path), None, Observer()).run([spec])
    one, two = (
        [tuple(row.values()) for row in rows_of(folder / spec.id) if row["metric"] not in TIMED]
        for folder in (runs, tmp_path)
    )
    assert len(one) > 10
    assert one == two
    assert (runs / spec.id / "model.safetensors").read_bytes() == (
        tmp_path / spec.id / "model.safetensors"
    ).read_bytes()


def test_a_model_that_draws_from_other_generators_is_repeated_exactly(tmp_path: Path) -> None:
    spec = asked("digits", "supergat", epochs=2)  # it draws non-edges and drops attention
    for folder in ("one", "two"):
        Sweep(Store(tmp_path / folder), None, Observer()).run([spec])
    one, two = (tmp_path / folder / spec.id / "model.safetensors" for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_finished_runs_are_never_repeated(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("a finished run was repeated")

    monkeypatch.setattr(execution, "execute", forbidden)
    specs = [asked("digits", "gcn", "global", 0.5, seed, epochs=20, finetune_epochs=5) for seed in (0, 1)]
    outcome = Sweep(Store(runs), None, Observer()).run([*specs, *specs])
    assert outcome.finished == specs
    assert outcome.failed == {}


def test_resuming_imports_no_torch(runs: Path) -> None:
    code = (
        "import sys\nfrom gnncompress.cli import main\n"
        f"try: main(['prune', '-s', '0.5', '--epochs', '20', '--finetune-epochs', '5', '-o', {str(runs)!r}])\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_failed_run_is_recorded_passed_over_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    genuine = trainer_module.train

    def diverging(
        model: object, task: object, recipe: object, seed: int, phase: str, *rest: object, **named: object
    ) -> object:
        tried.append((seed, phase))
        if seed == 0:
            raise TrainingError("train: the loss is nan at epoch 2 (seed 0); lower the learning rate")
        return genuine(model, task, recipe, seed, phase, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer_module, "train", diverging)
    specs = [
        asked("digits", "gcn", "global", level, seed, epochs=2, finetune_epochs=2)
        for seed in (0, 1)
        for level in (0.5, 0.9)
    ]
    store = Store(tmp_path)
    outcome = Sweep(store, None, Observer()).run(specs)
    assert outcome.finished == specs[2:]
    assert list(outcome.failed) == [spec.id for spec in specs[:2]]
    assert tried.count((0, "train")) == 1, "the base model that failed is not trained again in the same sweep"
    assert "loss is nan" in json.loads((store.path(specs[0].base.model) / "error.json").read_text())["message"]
    monkeypatch.setattr(trainer_module, "train", genuine)
    assert Sweep(store, None, Observer()).run(specs).failed == {}
    assert not (store.path(specs[0].base.model) / "error.json").exists()


def test_library(runs: Path) -> None:
    found = gnncompress.experiment(
        output=runs, dataset="digits", method="global", sparsity=0.5, epochs=20, finetune_epochs=5
    )
    assert found["metrics"]["compress.sparsity"] == 0.5
    assert found["run_id"] == asked("digits", method="global", sparsity=0.5, epochs=20, finetune_epochs=5).id


def test_missing_data_stops_the_sweep_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None:
        raise DatasetError("no raw files")

    monkeypatch.setattr(building, "load_task", nothing)
    with pytest.raises(DatasetError, match="no raw files"):
        Sweep(Store(tmp_path), None, Observer()).run([asked("digits", seed=seed) for seed in range(5)])
    assert not list(tmp_path.glob("*/error.json")), "it was told before anything began"


def test_reason_is_one_line() -> None:
    assert reason(TrainingError("a\nb")) == "a b"
    assert reason(KeyError("x")) == "KeyError: 'x'"


def start(folder: Path, *extra: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gnncompress", "prune", "-s", "0.3,0.6,0.9", *QUICK, "-o", str(folder), *extra]
    # A job in the background of a shell without job control ignores SIGINT, and so would its children.
    heed = None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_nothing_half_written_is_left(seed: int, tmp_path: Path) -> None:
    """Kill at random moments, of imports, training, packing, measuring and publishing alike, until it gets through."""
    moment = random.Random(seed)
    for _ in range(3):
        process = start(tmp_path)
        time.sleep(moment.uniform(1.5, 9))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for folder in tmp_path.glob("[0-9a-f]*"):
            assert {path.name for path in folder.iterdir()} in (FILES, OF_MODELS), (
                "a stage is there whole or not at all"
            )
            load_checkpoint(folder / "model.safetensors")
    process = start(tmp_path, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(json.loads(out)["runs"]) == 3
    assert len(gnncompress.summarize(gnncompress.read_results(tmp_path))) == 5, "with the base model and its control"


@pytest.mark.skipif(os.name == "nt", reason="SIGINT is another thing on Windows")
def test_interrupt_leaves_finished_runs_whole(tmp_path: Path) -> None:
    process = start(tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/results.csv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    said = [line for line in err.strip().splitlines() if not line.startswith("warning:")]
    assert said == ["error: interrupted; finished runs are kept, the same command goes on from there"]
    assert list(tmp_path.glob("*/results.csv"))


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    processes = [start(tmp_path, "--json") for _ in range(2)]
    results = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    one, two = (json.loads(out)["runs"] for out, _ in results)
    assert one == two, "each run was made once, by one of the two"


def test_cora_spline_end_to_end(data_root: Path, tmp_path: Path) -> None:
    spec = asked("cora", "spline", "global", 0.9, seed=0)
    outcome = Sweep(Store(tmp_path), data_root, Observer()).run([spec])
    assert outcome.failed == {}
    packed = load_checkpoint(tmp_path / spec.id / "model.safetensors")
    weights = [tensor for tensor in packed.values() if tensor.dim() > 1]
    assert abs(sum(int((w == 0).sum()) for w in weights) - 0.9 * sum(w.numel() for w in weights)) <= 1
    assert not any((w.view(torch.int32) == -(2**31)).any() for w in weights), "no -0.0"
    metrics = gnncompress.experiment(
        output=tmp_path, data_root=data_root, dataset="cora", model="spline", method="global", sparsity=0.9
    )["metrics"]
    assert metrics["evaluate.accuracy"] > 0.85 > 2 * metrics["evaluate.constant_accuracy"]
    assert metrics["checkpoint.size_ratio"] > 8.98
    model = runnable(spec, load_task(spec.workload, data_root), tmp_path / spec.id / "model.safetensors")
    assert same_bits(model.state_dict(), packed)
