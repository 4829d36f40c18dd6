"""How long one call takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Two groups of so many calls whose medians differ by less than this are warm.
_GROUP, _STABLE = 5, 0.05
# So many calls are timed however slow they are.
_FEWEST = 3


@dataclass(frozen=True)
class Window:
    """How long to measure: at least so many repetitions AND so many seconds, within a ``budget`` of seconds.

    The budget is that of the warm-up and of the timed calls together. Where calls are so slow that it is spent before,
    fewer are timed, but three at least.

    The warm-up ends when calls have become stable, after ``warmup`` calls at most; that of a slow call after ten times
    ``seconds``, but not before the third call, unless half of the budget is spent: then after the first. Energy is read
    ``energy_windows`` times over ``energy_seconds`` each, and one call at least.
    """

    warmup: int = 300
    repetitions: int = 30
    seconds: float = 1.0
    energy_seconds: float = 10.0
    energy_windows: int = 3
    budget: float = 20.0


@dataclass(frozen=True)
class Latency:
    """The raw durations of single calls, in seconds [n]."""

    samples: NDArray[np.float64]

    @property
    def median(self) -> float:
        """The median call, in seconds."""
        return float(np.median(self.samples))

    def quantile(self, fraction: float) -> float:
        """Return the duration that a ``fraction`` of the calls do not exceed, in seconds."""
        return float(np.quantile(self.samples, fraction))


@dataclass(frozen=True)
class WarmUp:
    """How many calls it took, and whether they had become stable at the end."""

    calls: int
    stable: bool


def warm_up(call: Callable[[], object], window: Window) -> WarmUp:
    """Call until the median of the last five calls is within 5 % of that of the five before them."""
    samples: list[float] = []
    begun = time.perf_counter()
    while len(samples) < window.warmup:
        spent = time.perf_counter() - begun
        if len(samples) >= 3 and spent > 10 * window.seconds:
            break  # a call that takes seconds is warm after a few
        if samples and spent >= window.budget / 2:
            break
        started = time.perf_counter()
        call()
        samples.append(time.perf_counter() - started)
        if len(samples) % _GROUP == 0 and len(samples) >= 2 * _GROUP:
            last, before = np.median(samples[-_GROUP:]), np.median(samples[-2 * _GROUP : -_GROUP])
            if abs(last - before) <= _STABLE * before:
                return WarmUp(len(samples), True)
    return WarmUp(len(samples), False)


def measure_latency(call: Callable[[], object], window: Window) -> Latency:
    """Time ``call`` alone, over and over, for as long as ``window`` asks; the caller has warmed it up.

    Fewer repetitions than asked for are those of a slow call, which has spent the window's budget.
    The clock is monotonic and read around the call only. On an accelerator ``call`` must itself wait for the device.
    """
    clock = time.perf_counter
    samples: list[float] = []
    begun = clock()
    ended = begun
    while len(samples) < window.repetitions or ended - begun < window.seconds:
        if len(samples) >= min(_FEWEST, window.repetitions) and ended - begun >= window.budget:
            break
        started = clock()
        call()
        ended = clock()
        samples.append(ended - started)
    return Latency(np.array(samples))


def repeat(call: Callable[[], object], seconds: float) -> int:
    """Call over and over, for at least ``seconds`` and once at least; return how often."""
    calls = 0
    until = time.perf_counter() + seconds
    while not calls or time.perf_counter() < until:
        call()
        calls += 1
    return calls
