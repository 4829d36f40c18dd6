"""The measured phase of a run, as a function that a process of its own can call."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from gnncompress.checkpoints import load_checkpoint
from gnncompress.experiments.building import compressed_model, load_task
from gnncompress.experiments.restoring import EXECUTED
from gnncompress.experiments.stages import Chain, Measure
from gnncompress.measurements import Measurement, measured
from gnncompress.profiling.energy import EnergyMeter, open_if_possible, reads
from gnncompress.profiling.idle import idle_power
from gnncompress.profiling.inference import Profiled, profile_inference
from gnncompress.profiling.joules import co2_rows, name_of
from gnncompress.profiling.nvml import utilization
from gnncompress.tasks.base import Task

_PHASE = "inference"


def measure_inference(chain: Chain, checkpoint: Path, pickled: bytes | None, data_root: Path | None) -> Profiled:
    """Load the run's data and packed model and measure its forward pass, in inference mode.

    ``pickled`` is the task, from the process that has prepared it; without it the data are loaded anew.
    """
    measure, workload = chain.last, chain.workload
    assert isinstance(measure, Measure)
    torch.set_num_threads(measure.threads)
    meter = open_if_possible(measure.energy, gpu=workload.device == "cuda")
    idle, said = _idle(chain, measure, meter)
    items = 0

    def prepare() -> Callable[[], object]:
        nonlocal items
        task: Task = load_task(workload, data_root) if pickled is None else _unpacked(pickled)
        items = measure.batch or task.items
        # What is measured is the model alone; the run's evaluation has compared it with the one that it stands for.
        model = runnable(chain, task, checkpoint, verify=False)
        forward = task.inference(model, measure.batch)
        return inferring(forward, workload.device)

    found = profile_inference(prepare, lambda: items, measure.window, meter)
    found.measurements += [
        Measurement(_PHASE, "threads", measure.threads, "threads"),
        *idle,
        *co2_rows(found.measurements, measure.country),
    ]
    if workload.device == "cuda":
        found.measurements += [
            Measurement(_PHASE, "gpu_memory_peak", torch.cuda.max_memory_allocated(), "bytes"),
            measured(_PHASE, "gpu_utilization", utilization(meter), "percent"),
        ]
    found.warnings += said
    return found


def packed_task(task: Task) -> bytes:
    """Return a task as bytes for the measuring process; tensors that share memory share it there, too."""
    buffer = io.BytesIO()
    torch.save(task, buffer)
    return buffer.getvalue()


def _unpacked(pickled: bytes) -> Task:
    task: Task = torch.load(io.BytesIO(pickled), weights_only=False)  # made by the process that asks
    return task


def runnable(chain: Chain, task: Task, checkpoint: Path, verify: bool = True) -> nn.Module:
    """Return what computes for the model in a chain's packed checkpoint."""
    model = compressed_model(chain.workload, task, chain.methods, load_checkpoint(checkpoint))
    return model if chain.measure is None else EXECUTED[chain.measure.execute](model, verify)


def not_measured(chain: Chain) -> list[Measurement]:
    """Return the rows of a run whose measured phase failed: what every reader looks for, said to be unavailable."""
    units = {
        **({"co2": "g"} if chain.measure is not None and chain.measure.country else {}),
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


def _idle(chain: Chain, measure: Measure, meter: EnergyMeter) -> tuple[list[Measurement], list[str]]:
    """Return the rows of the power that the machine takes when idle, and what to say of it."""
    if not reads(meter):
        return [], []
    watts, said = idle_power(meter, f"{measure.energy} {chain.workload.device}", measure.window.energy_seconds)
    # An estimate is of this process, and says nothing of the machine.
    told = [one for one in watts if one.source != "estimated"]
    rows = [Measurement(_PHASE, name_of("power_idle", one.component), one.joules, "W", one.source) for one in told]
    return rows, said
