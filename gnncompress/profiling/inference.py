"""The cost of inference: latency, then energy over windows long enough, with CPU, memory and who else was at work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gnncompress.errors import MeasurementError
from gnncompress.measurements import Measurement, measured
from gnncompress.profiling.energy import EnergyMeter, Reading, components, reading_of, reads
from gnncompress.profiling.joules import name_of, reasons
from gnncompress.profiling.latency import Window, measure_latency, repeat, warm_up
from gnncompress.profiling.load import Load, Usage
from gnncompress.profiling.memory import current_memory, exact_peak, peak_memory, release, reset_peak

_PHASE = "inference"


@dataclass
class Profiled:
    """Rows, the raw samples that they were computed from, and what the user must be told."""

    measurements: list[Measurement]
    samples: dict[str, NDArray] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def profile_inference(
    prepare: Callable[[], Callable[[], object]], items: Callable[[], int], window: Window, meter: EnergyMeter
) -> Profiled:
    """Measure the call that ``prepare`` returns; one call processes ``items()`` items.

    First a rehearsal: all is prepared, called once, and given back, so that what stays of it (modules imported on
    first use, kernels that are compiled or loaded) is there before anything is measured. Then the warm-up, during which
    memory is sampled. Then the latency of each call in seconds, throughput in items a
    second, CPU time over wall time in percent of one core, the same of all other processes, and switches between
    processes; and memory, what data, model and activations occupy above the memory used after the rehearsal: the
    kernel's peak over these calls. What building the data took for a moment is not
    counted. Warm-up and timed calls keep to the window's budget; a warning says so where fewer than asked for are
    timed. Last the energy: joules a call, the median over windows of repeated calls.
    """
    prepare()()
    release()
    baseline = current_memory()
    call = prepare()
    release()
    warm = None

    def warming() -> None:
        nonlocal warm
        warm = warm_up(call, window)

    begun = time.perf_counter()
    sampled = peak_memory(warming)
    assert warm is not None
    fresh = reset_peak()
    before = Usage.now()
    latency = measure_latency(call, replace(window, budget=window.budget - (time.perf_counter() - begun)))
    load = Load.between(before, Usage.now())
    exact = exact_peak() if fresh else None
    found = Profiled(
        [
            Measurement(_PHASE, "latency_median", latency.median, "s"),
            Measurement(_PHASE, "latency_p95", latency.quantile(0.95), "s"),
            Measurement(_PHASE, "latency_p99", latency.quantile(0.99), "s"),
            Measurement(_PHASE, "repetitions", len(latency.samples), "calls"),
            Measurement(_PHASE, "warmup", warm.calls, "calls"),
            Measurement(_PHASE, "items_per_call", items(), "items", "computed"),
            Measurement(_PHASE, "throughput", items() / latency.median, "items/s", "computed"),
            *load.measurements(_PHASE),
            Measurement(_PHASE, "memory_baseline", baseline, "bytes"),
            Measurement(_PHASE, "memory_peak", (sampled if exact is None else exact) - baseline, "bytes"),
            Measurement(_PHASE, "memory_peak_sampled", sampled - baseline, "bytes"),
        ],
        {"latency": latency.samples},
        load.warnings(),
    )
    if len(latency.samples) < window.repetitions:
        found.warnings.append(
            f"{_PHASE}: calls are slow, so that fewer than {window.repetitions} were timed within "
            f"{window.budget:g} s (repetitions says how many)"
        )
    if not warm.stable:
        found.warnings.append(f"{_PHASE}: calls were not yet stable after a warm-up of {warm.calls}")
    try:
        _add_energy(found, call, window, meter)
    except MeasurementError as error:  # what was measured before stays
        found.measurements.append(_unavailable("cpu"))
        found.warnings.append(str(error))
    return found


def _add_energy(found: Profiled, call: Callable[[], object], window: Window, meter: EnergyMeter) -> None:
    """Add joules a call of each component: median and spread (largest less smallest) over the windows, and power."""
    if not reads(meter):
        missing = meter.stop()
        found.measurements += [_unavailable(reading.component) for reading in missing]
        found.warnings += reasons(missing)
        return
    calls, seconds, windows = [], [], []
    started = Usage.now()
    for _ in range(window.energy_windows):
        meter.start()
        before = Usage.now()
        calls.append(repeat(call, window.energy_seconds))
        windows.append(meter.stop())
        seconds.append(Load.between(before, Usage.now()).seconds)
    load = Load.between(started, Usage.now())
    found.measurements += [
        Measurement(_PHASE, "energy_window", min(seconds), "s"),
        Measurement(_PHASE, "energy_windows", len(windows), "windows"),
        Measurement(_PHASE, "energy_repetitions", sum(calls), "calls"),
        measured(_PHASE, "energy_cpu_foreign", load.foreign, "percent"),
    ]
    found.warnings += [said for said in load.warnings() if said not in found.warnings]
    found.samples |= {"energy_calls": np.array(calls), "energy_seconds": np.array(seconds)}
    for component in components(windows):
        _add_component(found, component, [reading_of(component, one) for one in windows], calls, seconds)


def _add_component(
    found: Profiled, component: str, readings: list[Reading], calls: list[int], seconds: list[float]
) -> None:
    joules = np.array([np.nan if one.joules is None else one.joules for one in readings])
    found.samples[name_of("energy", component)] = joules
    failed = [one for one in readings if one.joules is None]
    found.warnings += list(dict.fromkeys(reasons(failed)))
    if failed:  # windows of which one failed are no fair sample of all
        found.measurements.append(_unavailable(component))
        return
    a_call, source = joules / np.array(calls), readings[0].source
    found.measurements += [
        Measurement(_PHASE, name_of("energy", component), float(np.median(a_call)), "J", source),
        Measurement(_PHASE, name_of("energy_spread", component), float(np.ptp(a_call)), "J", source),
        Measurement(_PHASE, name_of("power", component), float(joules.sum() / sum(seconds)), "W", source),
    ]


def _unavailable(component: str) -> Measurement:
    return Measurement(_PHASE, name_of("energy", component), None, "J", "unavailable")
