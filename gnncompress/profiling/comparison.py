"""Two calls against each other: in turns, and with intervals that say what could be chance."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnncompress.profiling.energy import EnergyMeter, Reading, components, reading_of, reads
from gnncompress.profiling.joules import reasons
from gnncompress.profiling.latency import Window, repeat, warm_up

Call = Callable[[], object]

_RESAMPLES = 9999
_FEWEST_PAIRS = 5


@dataclass(frozen=True)
class Difference:
    """B less A, with the interval that a bootstrap gives; in logarithms for what is a ratio."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out no difference."""
        return self.low > 0 or self.high < 0

    def as_ratio(self) -> Difference:
        """Return B / A of a difference of logarithms."""
        return Difference(math.exp(self.value), math.exp(self.low), math.exp(self.high))


@dataclass(frozen=True)
class Rounds:
    """Median seconds of a call of A and B, [rounds, 2], and the median of log(B / A) over a round's pairs, [rounds]."""

    seconds: NDArray[np.float64]
    log_ratios: NDArray[np.float64]


def interleaved(
    make: Sequence[Callable[[], Call]], rounds: int, seconds: float, window: Window, seed: int = 0
) -> Rounds:
    """Time two calls in turns, A B B A ..., for ``seconds`` a round and pair by pair.

    Both are made anew for each round, in an order that is drawn: where a model lies in memory changes its speed by a
    percent, which is chance and has to show as such.
    """
    rng = np.random.default_rng(seed)
    medians, ratios = [], []
    for _ in range(rounds):
        calls: list[Call] = [lambda: None, lambda: None]
        for which in rng.permutation(2):
            calls[which] = make[which]()
        for call in calls:
            warm_up(call, window)
        pairs = _pairs(calls, seconds, int(rng.integers(2)))
        medians.append(np.median(pairs, axis=0))
        ratios.append(np.median(np.log(pairs[:, 1] / pairs[:, 0])))
    return Rounds(np.array(medians), np.array(ratios))


def _pairs(calls: Sequence[Call], seconds: float, first: int) -> NDArray[np.float64]:
    """Return the seconds of A and B, [pairs, 2]; who begins changes from pair to pair."""
    clock = time.perf_counter
    pairs: list[list[float]] = []
    begun = ended = clock()
    while len(pairs) < _FEWEST_PAIRS or ended - begun < seconds:
        found = [0.0, 0.0]
        for which in (first, 1 - first):
            started = clock()
            calls[which]()
            ended = clock()
            found[which] = ended - started
        pairs.append(found)
        first = 1 - first
    return np.array(pairs)


def energies(
    calls: Sequence[Call], meter: EnergyMeter, windows: int, seconds: float
) -> tuple[dict[str, tuple[NDArray[np.float64], str]], list[str]]:
    """Return for each component the joules a call [windows, 2] of A and B, and their source; and why others have none.

    Windows of ``seconds`` take turns, A B B A ...
    """
    if not reads(meter):
        return {}, reasons(meter.stop())
    readings: list[tuple[list[Reading], list[Reading]]] = []
    counts = np.zeros((windows, 2))
    for number in range(windows):
        found: list[list[Reading]] = [[], []]
        for which in (number % 2, 1 - number % 2):
            meter.start()
            counts[number, which] = repeat(calls[which], seconds)
            found[which] = meter.stop()
        readings.append((found[0], found[1]))
    energies, notes = {}, []
    for component in components(side for pair in readings for side in pair):
        of_one = [[reading_of(component, side) for side in pair] for pair in readings]
        missing = [one for pair in of_one for one in pair if one.joules is None]
        notes += list(dict.fromkeys(reasons(missing)))
        if not missing:
            joules = np.array([[one.joules for one in pair] for pair in of_one], dtype=float)
            energies[component] = (joules / counts, str(of_one[0][0].source))
    return energies, notes


def difference(values: NDArray[np.float64], confidence: float, seed: int = 0) -> Difference:
    """Return the mean of paired differences [n] with a studentized bootstrap interval.

    mean - t* se for the quantiles t* of (mean* - mean) / se* over resamples, se the standard error of a mean: the
    interval that keeps its level for few values, too, where percentiles are far too narrow.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5.
    """
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return Difference(mean, mean, mean)
    drawn = np.random.default_rng(seed).choice(values, (_RESAMPLES, len(values)))
    errors = drawn.std(1, ddof=1) / math.sqrt(len(values))
    with np.errstate(divide="ignore", invalid="ignore"):  # one value over and over has no error: infinitely far off
        t = np.nan_to_num((drawn.mean(1) - mean) / errors, nan=0.0)
    tail = (1 - confidence) / 2
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    low, high = np.quantile(t, [tail, 1 - tail], method="closest_observation")
    return Difference(mean, mean - float(high) * error, mean - float(low) * error)


def difference_of_scores(
    score: Callable[[NDArray], float | None], items: int, confidence: float, resamples: int = 2000, seed: int = 0
) -> Difference | None:
    """Return a difference of two scores of the same items, with the percentile interval of a paired bootstrap.

    ``score(indices)`` is the difference for the items at ``indices`` [n]; None where they have none, such as a ROC-AUC
    of one class. Without one for all items there is no difference.
    """
    value = score(np.arange(items))
    if value is None:
        return None
    rng = np.random.default_rng(seed)
    drawn = [score(rng.integers(items, size=items)) for _ in range(resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile([one for one in drawn if one is not None], [tail, 1 - tail])
    return Difference(value, float(low), float(high))
