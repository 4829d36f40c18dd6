"""The zones of Linux' powercap tree: where processors count the energy of packages and memory."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gnncompress.files import read_text, why

# Another root than the system's, for containers that mount it elsewhere and for simulated counters.
ROOT_VARIABLE = "GNNCOMPRESS_POWERCAP"
_ROOT = Path("/sys/class/powercap")
_ZONE = re.compile(r"[a-z][a-z-]*(:[0-9a-f]+)+")
_DEPTH = 3
_MOST = 2**64
# AMD's processors are read by the same driver; the second one shows the same package once more.
_DUPLICATE = "intel-rapl-mmio"

HOW_TO_ALLOW = "allow it with: sudo chmod a+r /sys/class/powercap/*/energy_uj (until the next start)"


@dataclass(frozen=True)
class Zone:
    """One counter of microjoules, which starts over after ``period`` of them.

    ``component`` is cpu for a package (or one die of it), dram for memory, empty for what is part of a package (core,
    uncore), contains one (psys) or is one that another driver shows, too. ``problem`` says why it cannot be read.
    """

    path: Path
    name: str
    component: str
    period: int
    problem: str = ""

    def read(self) -> int:
        """Return the counter, in microjoules.

        Raises:
            OSError, ValueError: if it cannot be read, or is no count of 64 bits.
        """
        return _count(self.path / "energy_uj")


def root() -> Path:
    """Return the folder that zones are looked for in."""
    return Path(os.environ.get(ROOT_VARIABLE) or _ROOT)


def find_zones(folder: Path | None = None) -> list[Zone]:
    """Return all zones below ``folder``, whose layout may be flat, as the system's class folder, or nested."""
    places: dict[str, Path] = {}
    level = [folder or root()]
    for _ in range(_DEPTH):
        level = [place for parent in level for place in _folders(parent)]
        for place in level:
            if _ZONE.fullmatch(place.name):
                places.setdefault(place.name, place)
    zones = [zone for name in sorted(places, key=_by_number) if (zone := _zone(places[name])) is not None]
    shown = {zone.name for zone in zones if zone.component and not zone.path.name.startswith(_DUPLICATE)}
    return [
        zone
        if not (zone.path.name.startswith(_DUPLICATE) and zone.name in shown)
        else Zone(zone.path, zone.name, "", zone.period, zone.problem)
        for zone in zones
    ]


def _folders(parent: Path) -> list[Path]:
    try:
        return [place for place in sorted(parent.iterdir()) if ":" in place.name or place.name.endswith("rapl")]
    except OSError:  # not there, no folder, or not for us
        return []


def _by_number(name: str) -> tuple[str, list[int]]:
    driver, *numbers = name.split(":")
    return driver, [int(number, 16) for number in numbers]


def _zone(place: Path) -> Zone | None:
    try:
        name = read_text(place / "name").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        # What it counts is not known: a package or, in one, maybe memory, which would be missing in the sum.
        return Zone(
            place, place.name, "dram" if place.name.count(":") > 1 else "cpu", 1, f"name: {_why(error, 'not UTF-8')}"
        )
    component = "cpu" if name.startswith("package") else "dram" if name.startswith("dram") else ""
    for file in ("max_energy_range_uj", "energy_uj"):
        try:
            value = _count(place / file)
        except (OSError, ValueError) as error:
            return Zone(place, name, component, 1, f"{file}: {_why(error)}")
        if file == "max_energy_range_uj":
            largest = value
    if largest < 1:
        return Zone(place, name, component, 1, f"max_energy_range_uj: a range of {largest}")
    # The largest value that 32 bits of the processor's unit hold, so that one unit more is nothing again.
    return Zone(place, name, component, largest + round(largest / (2**32 - 1)))


def _count(file: Path) -> int:
    value = int(read_text(file))
    if not 0 <= value < _MOST:
        raise ValueError(f"{file}: no count of 64 bits")
    return value


def _why(error: Exception, otherwise: str = "holds no number") -> str:
    if isinstance(error, PermissionError):
        return f"permission denied; {HOW_TO_ALLOW}"
    return why(error) if isinstance(error, OSError) else otherwise
