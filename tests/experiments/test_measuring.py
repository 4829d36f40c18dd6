"""What becomes of a run whose measured phase fails, and what its spec says of measuring."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gnncompress.errors import MeasurementError
from gnncompress.experiments import execution
from gnncompress.experiments.inference import measure_inference
from gnncompress.experiments.rows import read_metrics
from gnncompress.experiments.stages import Chain
from gnncompress.experiments.store import MODEL, Store
from gnncompress.experiments.sweep import Observer, Sweep
from gnncompress.profiling import inference
from gnncompress.profiling.inference import Profiled
from gnncompress.profiling.isolation import isolated
from gnncompress.profiling.latency import Window
from tests.experiments.helpers import asked


class Ear(Observer):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def warned(self, chain: Chain, warning: str) -> None:
        self.heard.append(warning)


@pytest.mark.parametrize("kind", [MeasurementError, OSError, ValueError])
def test_quality_is_kept_when_measuring_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fail(*_: Any) -> None:
        raise kind("exit code -9")

    monkeypatch.setattr(execution, "isolated", fail)
    spec, ear = asked("digits", "gcn", epochs=2), Ear()
    outcome = Sweep(Store(tmp_path), None, ear).run([spec])
    assert outcome.finished == [spec]
    metrics = read_metrics(tmp_path / spec.id / "results.csv")
    assert metrics["evaluate.accuracy"] is not None
    assert metrics["checkpoint.checkpoint_size"] is not None
    for name in ("latency_median", "latency_p95", "throughput", "cpu", "memory_peak", "energy"):
        assert metrics[f"inference.{name}"] is None
    (warning,) = [said for said in ear.heard if "exit code -9" in said]
    assert warning.endswith("--remeasure measures it again")
    assert warning in json.loads((tmp_path / spec.id / "environment.json").read_text())["notes"]


def test_rows_are_kept_when_samples_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(execution.np, "savez_compressed", fail)
    spec, ear = asked("digits", "gcn", epochs=2), Ear()
    assert Sweep(Store(tmp_path), None, ear).run([spec]).finished == [spec]
    assert read_metrics(tmp_path / spec.id / "results.csv")["inference.latency_median"] is not None
    assert not (tmp_path / spec.id / "samples.npz").exists()
    assert "samples.npz: cannot be written (No space left on device); the rows are kept" in ear.heard


def modules_and_memory(chain: Chain, checkpoint: Path) -> tuple[list[str], dict[str, float | None]]:
    """Measure a run; return what was imported after memory's baseline was taken, and the rows."""
    at_baseline: set[str] = set()
    genuine = inference.current_memory

    def look() -> int:
        at_baseline.update(() if at_baseline else sys.modules)
        return genuine()

    inference.current_memory = look
    found = measure_inference(chain, checkpoint, None, None)
    assert at_baseline
    return sorted(sys.modules.keys() - at_baseline), {row.metric: row.value for row in found.measurements}


def test_memory_of_a_quantized_model_counts_no_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = asked("digits-grid", "gin", epochs=1, energy="none")
    quantized = [
        asked("digits-grid", "gin", "quantize", epochs=1, energy="none", scheme="ptq-int8", execute=execute)
        for execute in ("simulated", "integer")
    ]
    peaks = []
    with monkeypatch.context() as patch:
        patch.setattr(execution, "isolated", lambda *_: Profiled([]))
        assert not Sweep(Store(tmp_path), None, Observer()).run([dense, *quantized]).failed
    for chain in (dense, *quantized):
        assert chain.measure is not None
        window = Window(warmup=5, repetitions=3, seconds=0.0)
        brief = chain.model.then(chain.measure.model_copy(update={"window": window}))
        imported, rows = isolated(modules_and_memory, brief, tmp_path / chain.id / MODEL)
        assert imported == []
        peaks.append(rows["memory_peak"])
    one, simulated, integer = peaks
    assert one > 5e6
    # How much freed memory a process has to use again differs by 25 MB from server to server.
    assert abs(simulated - one) < 40e6
    assert integer < one + 40e6


def test_how_long_energy_is_read_is_part_of_the_spec() -> None:
    quick, usual = asked("digits", "gcn", energy_seconds=1.0), asked("digits", "gcn")
    assert usual.measure is not None
    assert usual.measure.window.energy_seconds == 10
    assert quick.id != usual.id
    assert quick.model.id == usual.model.id, "it changes no model"
