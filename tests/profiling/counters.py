"""A powercap tree of files, as the kernel shows it, whose counters count what a test tells them to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# What processors of the last ten years say, and one unit of theirs more.
RANGE = 262143328850
PERIOD = RANGE + 61


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeZone:
    """One zone; ``add`` counts on and starts over as a processor does."""

    path: Path
    period: int
    value: int

    def add(self, microjoules: int) -> None:
        self.set(self.value + microjoules)

    def set(self, microjoules: int) -> None:
        self.value = microjoules % self.period
        self.write(f"{self.value}\n")

    def write(self, text: str) -> None:
        """Replace the counter's file in one step, so that no reader sees half of it."""
        new = self.path / "new"
        new.write_text(text)
        os.replace(new, self.path / "energy_uj")


def zone(root: Path, place: str, name: str = "package-0", value: int = 0, largest: int = RANGE) -> FakeZone:
    """Make a zone at ``place``, such as ``intel-rapl:0`` or ``intel-rapl/intel-rapl:0``."""
    folder = root / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")
    made = FakeZone(folder, largest + round(largest / (2**32 - 1)), value)
    made.set(value)
    return made
