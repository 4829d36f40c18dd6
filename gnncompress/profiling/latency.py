"""How long one call takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Window:
    """How long to measure: warm-up calls, then at least so many repetitions AND so many seconds.

    The warm-up of a slow call ends early: after ten times ``seconds``, but never before the third call.
    """

    warmup: int = 30
    repetitions: int = 30
    seconds: float = 1.0


@dataclass(frozen=True)
class Latency:
    """The raw durations of single calls, in seconds."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median call, in seconds."""
        return float(np.median(self.samples))

    @property
    def p95(self) -> float:
        """The 95th percentile, in seconds."""
        return float(np.quantile(self.samples, 0.95))


def measure_latency(call: Callable[[], object], window: Window) -> Latency:
    """Time ``call`` alone, over and over, for as long as ``window`` asks; the caller has warmed it up.

    The clock is read around the call only. On an accelerator ``call`` must itself wait for the device.
    """
    samples: list[float] = []
    begin = time.perf_counter()
    while len(samples) < window.repetitions or time.perf_counter() - begin < window.seconds:
        started = time.perf_counter()
        call()
        samples.append(time.perf_counter() - started)
    return Latency(tuple(samples))
