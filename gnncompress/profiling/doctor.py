"""What can be measured on this machine, what cannot, why, and how to allow it."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass

import psutil

from gnncompress.errors import MeasurementError
from gnncompress.profiling import memory, powercap
from gnncompress.profiling.energy import METERS
from gnncompress.profiling.load import Load, Usage

_LOOK = 0.5


@dataclass(frozen=True)
class Finding:
    """One thing that may be measured: whether it can be, what was seen, and what would allow or improve it."""

    what: str
    works: bool
    seen: str
    advice: str = ""


def examine() -> list[Finding]:
    """Return what this machine can measure; takes some seconds, since codecarbon starts slowly."""
    rapl = _meter("rapl")
    return [*_counters(), rapl, _meter("pyrapl"), _meter("codecarbon"), _gpu(), _auto(rapl.works), *_others()]


def _counters() -> list[Finding]:
    place = powercap.root()
    zones = powercap.find_zones(place)
    if not zones:
        seen = f"{place} {'has no zones' if place.is_dir() else 'is not there'}"
        advice = (
            "virtual machines rarely have counters; measure on the machine itself, or mount its powercap folder and "
            f"name it in {powercap.ROOT_VARIABLE}"
        )
        return [Finding("energy counters", False, seen, advice)]
    return [_zone(zone) for zone in zones]


def _zone(zone: powercap.Zone) -> Finding:
    counted = zone.component or "not counted: part of a package, or counted elsewhere"
    what = f"counter {zone.path.name} ({zone.name})"
    if zone.problem:
        problem, _, advice = zone.problem.partition("; ")
        return Finding(what, False, f"{counted}: {problem}", advice)
    return Finding(what, True, f"{counted}: {zone.period / 1e6:,.0f} J, then from 0")


def _meter(name: str) -> Finding:
    try:
        meter = METERS[name]()
        meter.start()
        time.sleep(_LOOK)
        readings = meter.stop()
    except MeasurementError as error:
        return Finding(f"--energy {name}", False, str(error))
    seen = ", ".join(
        f"{one.component} {one.joules / _LOOK:.3g} W ({one.source})"
        if one.joules is not None
        else f"{one.component}: {one.reason}"
        for one in readings
    )
    estimated = any(one.source == "estimated" for one in readings)
    advice = "an estimate from load and time, no measurement; never chosen by auto" if estimated else ""
    return Finding(f"--energy {name}", any(one.joules is not None for one in readings), seen, advice)


def _gpu() -> Finding:
    from gnncompress.profiling.nvml import NvmlMeter

    try:
        NvmlMeter()
    except MeasurementError as error:
        return Finding("GPU energy", False, str(error))
    return Finding("GPU energy", True, "read through NVML for runs on CUDA and for 'profile --'")


def _auto(works: bool) -> Finding:
    seen = "takes rapl" if works else "nothing measures energy here: rows say unavailable"
    return Finding("--energy auto", works, seen, "" if works else "--energy codecarbon estimates, and says so")


def _others() -> list[Finding]:
    before = Usage.now()
    time.sleep(_LOOK)
    load = Load.between(before, Usage.now())
    clock = time.get_clock_info("perf_counter")
    cores, usable = psutil.cpu_count(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    others = load.foreign or 0.0
    found = [
        Finding("clock", clock.monotonic, f"{clock.implementation}, a step of {clock.resolution:.0e} s"),
        Finding("processor time", True, f"{cores} cores, of which {usable or cores} may be used"),
        Finding(
            "quiet machine",
            others < 10,
            f"other processes take {others:.0f} % of a core",
            "" if others < 10 else "timings and energy want a quiet machine",
        ),
    ]
    exact = memory.resident_peak() is not None
    seen = "exact peak (VmHWM) and samples" if exact else "samples only: the system tells no peak"
    found.append(Finding("memory", True, seen))
    if platform.system() != "Linux":
        found.append(Finding("system", False, platform.system(), "energy counters are read on Linux only"))
    return found
