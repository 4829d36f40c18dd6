"""Two calls against each other: in turns, and with intervals that say what could be chance."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from gnncompress.profiling.energy import EnergyMeter, Reading, components, reading_of, reads
from gnncompress.profiling.joules import reasons
from gnncompress.profiling.latency import Window, repeat, warm_up

Call = Callable[[], object]

_FEWEST_PAIRS = 5


@dataclass(frozen=True)
class Difference:
    """B less A, and the interval of that; in logarithms for what is a ratio."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out no difference."""
        return self.low > 0 or self.high < 0

    def as_ratio(self) -> Difference:
        """Return B / A of a difference of logarithms."""
        with np.errstate(over="ignore"):  # the end of an interval may be beyond all floats
            return Difference(*(float(np.exp(one)) for one in (self.value, self.low, self.high)))


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
    percent, which is chance and has to show as such. Each round has an equal share of the window's budget: five pairs
    are timed if that is enough, one if calls are too slow.
    """
    share = replace(window, budget=window.budget / rounds)
    rng = np.random.default_rng(seed)
    medians, ratios = [], []
    for _ in range(rounds):
        calls: list[Call] = [lambda: None, lambda: None]
        for which in rng.permutation(2):
            calls[which] = make[which]()
        for call in calls:
            warm_up(call, share)
        pairs = _pairs(calls, seconds, int(rng.integers(2)), share.budget)
        medians.append(np.median(pairs, axis=0))
        ratios.append(np.median(np.log(pairs[:, 1] / pairs[:, 0])))
    return Rounds(np.array(medians), np.array(ratios))


def _pairs(calls: Sequence[Call], seconds: float, first: int, budget: float) -> NDArray[np.float64]:
    """Return the seconds of A and B, [pairs, 2]; who begins changes from pair to pair."""
    clock = time.perf_counter
    pairs: list[list[float]] = []
    begun = ended = clock()
    while not pairs or ended - begun < (max(seconds, budget) if len(pairs) < _FEWEST_PAIRS else seconds):
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


def difference(values: NDArray[np.float64], confidence: float) -> Difference:
    """Return the median of paired differences [n] with the interval that ``median_interval`` gives."""
    low, high = median_interval(values, confidence)
    return Difference(float(np.median(values)), float(low), float(high))


def median_interval(values: NDArray[np.float64], confidence: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends [...] of an interval for the median of what ``values`` [..., n] were drawn from; n is at least 2.

    From ``pairs_needed(confidence)`` values on, the ends are the d-th smallest and d-th largest one, which leave the
    median out with probability 2 P(Binomial(n, 1/2) < d) whatever the distribution is (the sign test), moved towards
    the next ones inside until the level is met (exactly for a Laplace distribution).

    With fewer, the smallest and the largest are moved out by ((1 - confidence) ** (-1 / (n - 1)) / 2 - 1) times their
    distance. That keeps the level if the density rises on no side of the median: all values are above it with
    probability 2 ** -n, and then the smallest is more than a share s of the largest with probability
    (1 - s) ** (n - 1) at most.

    Intervals at 99 % that leave the median out, in percent, of 200,000 simulated (tests/profiling/test_comparison.py):

        ==================================  ====  ====  ====  ====
        n                                      5     8    10    20
        normal                               0.4   1.0   1.1   1.1
        uniform                              1.0   1.0   1.2   1.0
        Student's t, 2 degrees of freedom    0.2   1.0   1.1   1.0
        Cauchy                               0.1   1.0   1.0   1.0
        lognormal, sigma 1                   0.8   1.0   1.2   1.0
        exponential                          0.9   1.0   1.1   1.0
        two values, equally likely           6.2   0.8   2.1   1.2
        ==================================  ====  ====  ====  ====

    The last, at 5, is what no finite interval of five values avoids (at 9 it is 3.9, the worst above 7). It cannot come
    from two calls that are alike: their differences are as likely to be near zero as near any other value.

    Source: Hettmansperger and Sheather, Statistics and Probability Letters 1986 (between order statistics).
    """
    n = values.shape[-1]
    ordered = np.sort(values, axis=-1)
    missed = 2 * bdtr(np.arange(n // 2 + 1), n, 0.5)  # by the ends at rank 1, 2, ...
    rank = int(np.count_nonzero(missed[:-1] <= 1 - confidence))
    if rank == 0:
        reach = ((1 - confidence) ** (-1 / (n - 1)) / 2 - 1) * (ordered[..., -1] - ordered[..., 0])
        return ordered[..., 0] - reach, ordered[..., -1] + reach
    share = (1 - confidence - missed[rank - 1]) / (missed[rank] - missed[rank - 1])
    inwards = (n - rank) * share / (rank + (n - 2 * rank) * share)
    low, high = ordered[..., rank - 1], ordered[..., n - rank]
    return low + inwards * (ordered[..., rank] - low), high - inwards * (high - ordered[..., n - rank - 1])


def pairs_needed(confidence: float) -> int:
    """Return from how many values on the smallest and the largest alone keep the level: 8 for 0.99."""
    return max(2, math.ceil(1 - math.log2(1 - confidence)))


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
