"""Energy from the processor's own counters, wraps and their other failings included."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from gnncompress.errors import MeasurementError
from gnncompress.profiling.energy import Reading, unavailable
from gnncompress.profiling.powercap import Zone, find_zones, root
from gnncompress.profiling.sampling import Sampler

# No package takes more; a counter that seems to was set back.
_MOST_WATTS = 2_000
# Counters move every millisecond, if not exactly.
_LONGEST_STILL = 0.1
# Samples that come later than this, such as those of a process that was stopped, may have missed a wrap.
_LATE = 30.0
_LONGEST_INTERVAL, _SHORTEST_INTERVAL = 5.0, 0.05
_MICRO = 1e-6


class Counter:
    """What one zone counted since ``begin``, in microjoules; or the ``problem`` that makes it worthless."""

    def __init__(self, zone: Zone, clock: Callable[[], float]) -> None:
        self.zone, self._clock = zone, clock
        self.total, self.problem = 0, ""
        self._value, self._time = 0, 0.0

    def begin(self) -> None:
        """Count from now."""
        self.total, self.problem = 0, ""
        self._value, self._time = self._read()

    def sample(self) -> None:
        """Add what was counted since the last call, of which there must be one for each time the counter wraps."""
        if self.problem:
            return
        value, now = self._read()
        gained = (value - self._value) % self.zone.period
        seconds = now - self._time
        if gained == 0 and seconds >= _LONGEST_STILL:
            self.problem = self.problem or f"did not move in {seconds:.2g} s"
        if seconds >= _LATE and seconds * _MOST_WATTS >= self.zone.period * _MICRO:
            self.problem = self.problem or f"was not read for {seconds:.2g} s, in which it may have wrapped unseen"
        if gained * _MICRO > _MOST_WATTS * (seconds + _LONGEST_STILL):
            self.problem = self.problem or f"jumped by {gained * _MICRO:.6g} J in {seconds:.2g} s"
        self.total += gained
        self._value, self._time = value, now

    def _read(self) -> tuple[int, float]:
        try:
            return self.zone.read(), self._clock()
        except (OSError, ValueError) as error:
            self.problem = f"cannot be read any more ({type(error).__name__})"
            return self._value, self._clock()


class RaplMeter:
    """The energy of all packages and of their memory, each summed over its zones.

    A zone counts E = sum of (counter_i - counter_{i-1}) mod period, over samples that a thread takes often enough that
    no zone wraps between two: every eighth of the time that a kilowatt takes to fill it, but at least every 5 s and at
    most every 50 ms.

    Raises:
        MeasurementError: if there are no counters of packages, or none may be read.

    Source: Linux kernel, Documentation/power/powercap.
    """

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        place = folder or root()
        zones = [zone for zone in find_zones(place) if zone.component]
        packages = [zone for zone in zones if zone.component == "cpu"]
        if not packages:
            why = "has no counter of a package" if place.is_dir() else "is not there, as in most virtual machines"
            raise MeasurementError(f"no energy counters: {place} {why}; 'gnncompress doctor' says what there is")
        self._counters = [Counter(zone, clock) for zone in zones if not zone.problem]
        self._unreadable = [zone for zone in zones if zone.problem]
        if not self._counters:
            raise MeasurementError(f"{packages[0].path} ({packages[0].name}): {packages[0].problem}")
        fills = min(counter.zone.period for counter in self._counters) * _MICRO / 1000
        interval = min(max(fills / 8, _SHORTEST_INTERVAL), _LONGEST_INTERVAL)
        self._sampler = Sampler(self.sample, interval)

    def start(self) -> None:
        """Open a window."""
        for counter in self._counters:
            counter.begin()
        self._sampler.start()

    def sample(self) -> None:
        """Read every counter; the thread does so by itself."""
        for counter in self._counters:
            counter.sample()

    def stop(self) -> list[Reading]:
        """Close the window; a component of which any zone failed is unavailable."""
        self._sampler.stop()
        self.sample()
        components = dict.fromkeys(["cpu", *(counter.zone.component for counter in self._counters)])
        components |= dict.fromkeys(zone.component for zone in self._unreadable)
        return [self._reading(component) for component in components]

    def _reading(self, component: str) -> Reading:
        for zone in self._unreadable:
            if zone.component == component:
                return unavailable(component, f"{zone.path} ({zone.name}): {zone.problem}")
        mine = [counter for counter in self._counters if counter.zone.component == component]
        for counter in mine:
            if counter.problem or not counter.total:
                problem = counter.problem or "did not move; the window is too short"
                return unavailable(component, f"{counter.zone.path} ({counter.zone.name}): {problem}")
        return Reading(component, sum(counter.total for counter in mine) * _MICRO, "rapl")
