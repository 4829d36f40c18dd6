"""The cost of inference: one measured window gives latency, throughput, CPU and energy together."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import psutil

from gnncompress.measurements import Measurement
from gnncompress.profiling.energy import EnergyMeter, Reading
from gnncompress.profiling.latency import Window, measure_latency
from gnncompress.profiling.memory import current_memory, peak_memory

LEAST_WARMUP = 3
LONGEST_WARMUP = 10


def profile_inference(
    prepare: Callable[[], Callable[[], object]], items: Callable[[], int], window: Window, meter: EnergyMeter
) -> list[Measurement]:
    """Measure the call that ``prepare`` returns; one call processes ``items()`` items.

    First the warm-up, whose peak memory is sampled: what data, model and activations occupy above the memory
    used on entry, which should be little more than imports. Building the data may for a moment take more; that
    is not counted. Then, with no sampler running: latency of each call in seconds, throughput in items a second,
    CPU time over wall time in percent of one core, and energy in joules a call, each component under its own name
    with its own source.
    """
    baseline = current_memory()
    call = prepare()
    gc.collect()

    def warm() -> None:
        begun = time.perf_counter()
        for number in range(window.warmup):
            if number >= LEAST_WARMUP and time.perf_counter() - begun > LONGEST_WARMUP * window.seconds:
                return  # a call that takes seconds is warm after a few
            call()

    peak = peak_memory(warm)
    process = psutil.Process()
    cpu, wall = process.cpu_times(), time.perf_counter()
    meter.start()
    latency = measure_latency(call, window)
    readings = meter.stop()
    wall, used = time.perf_counter() - wall, process.cpu_times()
    seconds = used.user - cpu.user + used.system - cpu.system
    return [
        Measurement("inference", "latency_median", latency.median, "s"),
        Measurement("inference", "latency_p95", latency.p95, "s"),
        Measurement("inference", "repetitions", len(latency.samples), "calls"),
        Measurement("inference", "throughput", items() / latency.median, "items/s", "computed"),
        Measurement("inference", "cpu", 100 * seconds / wall, "percent"),
        Measurement("inference", "memory_baseline", baseline, "bytes"),
        Measurement("inference", "memory_peak", peak - baseline, "bytes"),
        *(_energy(reading, len(latency.samples)) for reading in readings),
    ]


def _energy(reading: Reading, calls: int) -> Measurement:
    """Return a reading as joules a call; the processor's is plain ``energy``."""
    metric = "energy" if reading.component == "cpu" else f"energy_{reading.component}"
    value = None if reading.joules is None else reading.joules / calls
    return Measurement("inference", metric, value, "J", reading.source)
