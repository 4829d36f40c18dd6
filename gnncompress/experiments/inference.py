"""The measured phase of a run, as a function that a process of its own can call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from gnncompress.checkpoints import load_checkpoint
from gnncompress.experiments.building import load_model, load_task
from gnncompress.experiments.spec import RunSpec
from gnncompress.measurements import Measurement, measured
from gnncompress.profiling.energy import EnergyMeter, open_if_possible, reads
from gnncompress.profiling.idle import idle_power
from gnncompress.profiling.inference import Profiled, profile_inference
from gnncompress.profiling.joules import co2_rows, name_of
from gnncompress.profiling.nvml import utilization

_PHASE = "inference"


def measure_inference(spec: RunSpec, checkpoint: Path, data_root: Path | None) -> Profiled:
    """Load the run's data and packed model and measure its forward pass, in inference mode."""
    torch.set_num_threads(spec.threads)
    meter = open_if_possible(spec.energy, gpu=spec.device == "cuda")
    idle, said = _idle(spec, meter)
    items = 0

    def prepare() -> Callable[[], object]:
        nonlocal items
        task = load_task(spec, data_root)
        items = spec.inference_batch or task.items
        # What is measured is the model alone; the run's evaluation has compared it with the one that it stands for.
        model = load_model(spec, task, load_checkpoint(checkpoint), verify=False)
        forward = task.inference(model, spec.inference_batch)
        return inferring(forward, spec.device)

    found = profile_inference(prepare, lambda: items, spec.window, meter)
    found.measurements += [
        Measurement(_PHASE, "threads", spec.threads, "threads"),
        *idle,
        *co2_rows(found.measurements, spec.country),
    ]
    if spec.device == "cuda":
        found.measurements += [
            Measurement(_PHASE, "gpu_memory_peak", torch.cuda.max_memory_allocated(), "bytes"),
            measured(_PHASE, "gpu_utilization", utilization(meter), "percent"),
        ]
    found.warnings += said
    return found


def not_measured(spec: RunSpec) -> list[Measurement]:
    """Return the rows of a run whose measured phase failed: what every reader looks for, said to be unavailable."""
    units = {
        **({"co2": "g"} if spec.country else {}),
        "latency_median": "s",
        "latency_p95": "s",
        "latency_p99": "s",
        "throughput": "items/s",
        "cpu": "percent",
        "memory_peak": "bytes",
        "energy": "J",
    }
    return [Measurement(_PHASE, metric, None, unit, "unavailable") for metric, unit in units.items()]


def inferring(forward: Callable[[], object], device: str) -> Callable[[], None]:
    """Return a call of ``forward`` in inference mode that waits for its device."""

    def call() -> None:
        with torch.inference_mode():
            forward()
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def _idle(spec: RunSpec, meter: EnergyMeter) -> tuple[list[Measurement], list[str]]:
    """Return the rows of the power that the machine takes when idle, and what to say of it."""
    if not reads(meter):
        return [], []
    watts, said = idle_power(meter, f"{spec.energy} {spec.device}", spec.window.energy_seconds)
    # An estimate is of this process, and says nothing of the machine.
    told = [one for one in watts if one.source != "estimated"]
    rows = [Measurement(_PHASE, name_of("power_idle", one.component), one.joules, "W", one.source) for one in told]
    return rows, said
