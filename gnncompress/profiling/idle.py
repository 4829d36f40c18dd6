"""The power that the machine takes when nothing runs, measured once after each start of it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gnncompress.files import cache_root, read_json, read_text, write_json
from gnncompress.profiling.energy import EnergyMeter, Reading, unavailable
from gnncompress.profiling.load import FOREIGN, Load, Usage
from gnncompress.profiling.powercap import root

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def idle_power(meter: EnergyMeter, name: str, seconds: float) -> tuple[list[Reading], list[str]]:
    """Return the power of each component while this process sleeps, in watts in place of joules; and what to say of it.

    What was measured since the machine's start, over as many seconds at least, is kept in the cache and taken again;
    what was measured while others were at work is not. The caller holds the machine's lock.
    """
    file = cache_root() / "idle-power.json"
    boot = _boot()
    kept = _kept(file)
    name = f"{name} {root()}"
    found = kept.get(name)
    if boot and found and found["boot"] == boot and found["seconds"] >= seconds:
        return [Reading(**reading) for reading in found["watts"]], []
    before = Usage.now()
    meter.start()
    time.sleep(seconds)
    readings = meter.stop()
    load = Load.between(before, Usage.now())
    watts = [
        Reading(one.component, None if one.joules is None else one.joules / load.seconds, one.source, one.reason)
        for one in readings
    ]
    if load.foreign is not None and load.foreign >= FOREIGN:
        busy = f"idle power: other processes took more than {FOREIGN:.0f} % of a core, so the machine was not idle"
        return [unavailable(one.component, busy) for one in watts], [busy]
    if boot and load.foreign is not None and all(one.joules is not None for one in watts):
        entry = {"boot": boot, "seconds": seconds, "watts": [asdict(one) for one in watts]}
        _keep(file, {**kept, name: entry})
    return watts, []


def _boot() -> str:
    try:
        return read_text(_BOOT).strip()
    except OSError:
        return ""


def _kept(file: Path) -> dict[str, dict[str, Any]]:
    """Return what the cache holds, nothing if it is not there or damaged: it can be measured again."""
    try:
        found = read_json(file)
        for entry in found.values():
            float(entry["seconds"])
            str(entry["boot"])
            [Reading(**reading) for reading in entry["watts"]]
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return {}
    return found


def _keep(file: Path, content: dict[str, dict[str, Any]]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, content)
    except OSError:
        return  # a cache that cannot be written saves no time
