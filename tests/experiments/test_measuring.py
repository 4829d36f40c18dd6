"""What becomes of a run whose measured phase fails, and what its spec says of measuring."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gnncompress.errors import MeasurementError
from gnncompress.experiments import run as run_module
from gnncompress.experiments.inference import measure_inference
from gnncompress.experiments.resolve import resolve
from gnncompress.experiments.rows import read_metrics
from gnncompress.experiments.spec import RunSpec
from gnncompress.experiments.store import MODEL, Store
from gnncompress.experiments.sweep import Observer, Sweep
from gnncompress.profiling import inference
from gnncompress.profiling.inference import Profiled
from gnncompress.profiling.isolation import isolated
from gnncompress.profiling.latency import Window


class Ear(Observer):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def warned(self, spec: RunSpec, warning: str) -> None:
        self.heard.append(warning)


@pytest.mark.parametrize("kind", [MeasurementError, OSError, ValueError])
def test_quality_is_kept_when_measuring_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def fail(*_: Any) -> None:
        raise kind("exit code -9")

    monkeypatch.setattr(run_module, "isolated", fail)
    spec, ear = resolve("digits", "gcn", epochs=2), Ear()
    outcome = Sweep(Store(tmp_path), None, ear).run([spec])
    assert outcome.finished == [spec]
    metrics = read_metrics(tmp_path / spec.run_id / "results.csv")
    assert metrics["evaluate.accuracy"] is not None
    assert metrics["checkpoint.checkpoint_size"] is not None
    for name in ("latency_median", "latency_p95", "throughput", "cpu", "memory_peak", "energy"):
        assert metrics[f"inference.{name}"] is None
    (warning,) = [said for said in ear.heard if spec.run_id in said]
    assert "exit code -9" in warning
    assert warning in json.loads((tmp_path / spec.run_id / "environment.json").read_text())["notes"]


def test_rows_are_kept_when_samples_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module.np, "savez_compressed", fail)
    spec, ear = resolve("digits", "gcn", epochs=2), Ear()
    assert Sweep(Store(tmp_path), None, ear).run([spec]).finished == [spec]
    assert read_metrics(tmp_path / spec.run_id / "results.csv")["inference.latency_median"] is not None
    assert not (tmp_path / spec.run_id / "samples.npz").exists()
    assert "samples.npz: cannot be written (No space left on device); the rows are kept" in ear.heard


def modules_and_memory(spec: RunSpec, checkpoint: Path) -> tuple[list[str], dict[str, float | None]]:
    """Measure a run; return what was imported after memory's baseline was taken, and the rows."""
    at_baseline: set[str] = set()
    genuine = inference.current_memory

    def look() -> int:
        at_baseline.update(() if at_baseline else sys.modules)
        return genuine()

    inference.current_memory = look
    found = measure_inference(spec, checkpoint, None)
    assert at_baseline
    return sorted(sys.modules.keys() - at_baseline), {row.metric: row.value for row in found.measurements}


def test_memory_of_a_quantized_model_counts_no_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = resolve("digits-grid", "gin", epochs=1, energy="none")
    quantized = [
        resolve("digits-grid", "gin", "quantize", epochs=1, energy="none", scheme="ptq-int8", execute=execute)
        for execute in ("simulated", "integer")
    ]
    peaks = []
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "isolated", lambda *_: Profiled([]))
        assert not Sweep(Store(tmp_path), None, Observer()).run([dense, *quantized]).failed
    for spec in (dense, *quantized):
        brief = spec.model_copy(update={"window": Window(warmup=5, repetitions=3, seconds=0.0)})
        found = []
        for _ in range(3):  # whether freed memory is given back at once depends on what else the machine does
            imported, rows = isolated(modules_and_memory, brief, tmp_path / spec.run_id / MODEL)
            assert imported == []
            found.append(rows["memory_peak"])
        peaks.append(min(found))
    one, simulated, integer = peaks
    assert one > 5e6
    assert abs(simulated - one) < 10e6, "4 MB more, for rounded copies of activations; imports took 17 MB"
    assert integer < one


def test_how_long_energy_is_read_is_part_of_the_spec() -> None:
    quick, usual = resolve("digits", "gcn", energy_seconds=1.0), resolve("digits", "gcn")
    assert usual.window.energy_seconds == 10
    assert quick.run_id != usual.run_id
    assert resolve("digits", "gcn", country="FRA").country == "FRA"
