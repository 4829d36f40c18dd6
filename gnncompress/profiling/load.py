"""Time on the processor: this process tree's, and that of everything else on the machine."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass

import psutil

from gnncompress.measurements import Measurement, measured

if sys.platform != "win32":
    import resource

# More than this, in percent of one core, by others makes a timing worth doubting.
FOREIGN = 10.0
# The machine's times are told in hundredths of a second a core; shorter windows say nothing of others.
_SHORTEST = 0.5


@dataclass(frozen=True)
class Usage:
    """What had been used up to a moment: seconds, and switches between processes.

    ``own`` is the processor time of this process and of its children that have ended, ``machine`` that of all
    processes, and what a hypervisor gave to others. All clocks are monotonic.
    """

    wall: float
    own: float
    machine: float
    voluntary: int
    involuntary: int

    @classmethod
    def now(cls, children: bool = False) -> Usage:
        """Return what has been used so far; with ``children`` also by those that still run, in steps of 10 ms."""
        times = psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        own, voluntary, involuntary = _own()
        return cls(time.perf_counter(), own + (_of_children() if children else 0), busy, voluntary, involuntary)


def _own() -> tuple[float, int, int]:
    if sys.platform == "win32":
        switches = psutil.Process().num_ctx_switches()
        return time.process_time(), switches.voluntary, switches.involuntary
    mine, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + ended.ru_utime + ended.ru_stime
    return seconds, mine.ru_nvcsw + ended.ru_nvcsw, mine.ru_nivcsw + ended.ru_nivcsw


def _of_children() -> float:
    seconds = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            times = child.cpu_times()
            # With those of their own that have ended: else their time would be lost while their parents live.
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


@dataclass(frozen=True)
class Load:
    """What was used between two moments."""

    seconds: float
    cpu_seconds: float
    foreign_seconds: float
    voluntary: int
    involuntary: int

    @classmethod
    def between(cls, before: Usage, after: Usage) -> Load:
        """Return the difference."""
        own = after.own - before.own
        return cls(
            after.wall - before.wall,
            own,
            max(after.machine - before.machine - own, 0.0),
            after.voluntary - before.voluntary,
            after.involuntary - before.involuntary,
        )

    @property
    def foreign(self) -> float | None:
        """What others took, in percent of one core; None if the window is too short to tell."""
        return 100 * self.foreign_seconds / self.seconds if self.seconds >= _SHORTEST else None

    def measurements(self, phase: str) -> list[Measurement]:
        """Return the rows: own and foreign load in percent of one core, and switches between processes."""
        own = 100 * self.cpu_seconds / self.seconds if self.seconds > 0 else None
        return [
            measured(phase, "cpu", own, "percent"),
            measured(phase, "cpu_foreign", self.foreign, "percent"),
            Measurement(phase, "context_switches_voluntary", self.voluntary, "switches"),
            Measurement(phase, "context_switches_involuntary", self.involuntary, "switches"),
        ]

    def warnings(self) -> list[str]:
        """Return what must be said of the load by others; without a number, so that many runs say it once."""
        if self.foreign is None or self.foreign < FOREIGN:
            return []
        return [
            f"other processes took more than {FOREIGN:.0f} % of a core meanwhile (cpu_foreign says how much), so "
            "timings and the machine's energy are not this one's alone; measure again on a quiet machine"
        ]
