"""How values are distributed over all batches, in a table of one size, and the ranges that follow from it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnncompress.quantization import kernels
from gnncompress.quantization.affine import Codes, grid_of
from gnncompress.quantization.observers import ranks

Range = tuple[float, float]
Floats = NDArray[np.float64]

# The search for the range of least error looks at ends that are 4^-k of the extremes, k up to 10, then nearer by.
_COARSE: Floats = 0.25 ** np.arange(11, dtype=np.float64)
_FINE = tuple(2.0 ** (0.5**k) for k in range(6))


class Histogram:
    """Counts values by the upper half of their bits as float32: sign, exponent and seven bits of the mantissa.

    A bin is at most 1/128 of its values wide, wherever they lie, so an outlier takes nothing from the rest. Counts are
    whole numbers: the same for any order and any division into batches.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(1 << 16, np.int64)
        self.smallest, self.largest = np.inf, -np.inf

    def add(self, x: Tensor, counts: Tensor | None = None) -> None:
        """Count finite values; ``counts`` [rows] says how often each row of ``x`` occurs."""
        if not x.numel():
            return
        values = x.detach().to("cpu", torch.float32).contiguous().numpy()
        rows = values.reshape(len(values) if values.ndim else 1, -1)
        times = np.ones(len(rows), np.int64) if counts is None else counts.cpu().numpy()
        kernels.count_upper_bits(rows, times, self.counts)
        self.smallest = min(self.smallest, float(values.min()))
        self.largest = max(self.largest, float(values.max()))

    def bins(self) -> tuple[Floats, Floats, Floats]:
        """Return lower end, upper end and count of each bin that has values, in rising order."""
        ends = _ends()
        order = ends.order[self.counts[ends.order] > 0]
        low = np.clip(ends.low[order], self.smallest, self.largest)
        high = np.clip(ends.high[order], self.smallest, self.largest)
        return low, high, self.counts[order].astype(np.float64)

    def percentiles(self, percentile: float) -> Range:
        """Return the range between the lowest and the highest ``percentile`` of the values, a fraction.

        Where both are zero, as of a tensor that is zero nearly everywhere, it is that of all values.
        """
        low, high, counts = self.bins()
        before = np.cumsum(counts)
        least, most = ranks(int(before[-1]), percentile)
        found = float(low[np.searchsorted(before, least)]), float(high[np.searchsorted(before, most)])
        return (self.smallest, self.largest) if found == (0.0, 0.0) else found

    def least_error(self, codes: Codes, symmetric: bool = False) -> Range:
        """Return the range whose grid has the least mean squared error, E[(q(x) - x)^2], of those searched.

        Within a bin values count as evenly spread. The ends are sought together: first among powers of 1/4 of the
        extremes, then in steps of 2 down to 2^(1/32) about the best so far.
        """
        low, high = min(self.smallest, 0.0), max(self.largest, 0.0)
        bins = self.bins()

        def best_of(lows: Floats, highs: Floats) -> tuple[float, float, float]:
            grid = np.meshgrid(np.unique(np.maximum(lows, low)), np.unique(np.minimum(highs, high)))
            lower, upper = grid[0].ravel(), grid[1].ravel()
            errors = _squared_errors(bins, lower, upper, codes, symmetric)
            # Of equal errors that of the widest range: it clips less of what is still to come.
            best = np.lexsort((lower - upper, errors))[0]
            return float(errors[best]), float(lower[best]), float(upper[best])

        best = best_of(low * _COARSE, high * _COARSE)
        for step in _FINE:
            factors: Floats = np.array([1 / step, 1.0, step], np.float64)
            while (found := best_of(best[1] * factors, best[2] * factors))[0] < best[0]:
                best = found
        return best[1], best[2]


def _squared_errors(
    bins: tuple[Floats, Floats, Floats], lows: Floats, highs: Floats, codes: Codes, symmetric: bool
) -> Floats:
    """Return the squared error, summed over all bins, that each range's grid makes."""
    grid = grid_of(torch.from_numpy(lows), torch.from_numpy(highs), codes, symmetric)
    scale, zero = (torch.as_tensor(part).double().numpy() for part in (grid.scale, grid.zero_point))
    found = np.empty(len(lows))
    kernels.spread_errors(*bins, scale, codes.lowest - zero, codes.highest - zero, found)
    return found


class _Ends:
    """Where each bin begins and ends, as numbers, and the bins in rising order; those of infinity and NaN left out."""

    def __init__(self) -> None:
        upper = np.arange(1 << 16, dtype=np.uint32)
        finite = ((upper >> 7) & 0xFF) < 0xFF
        with np.errstate(all="ignore"):
            toward_zero = (upper << 16).view(np.float32).astype(np.float64)
            away = ((upper << 16) | 0xFFFF).view(np.float32).astype(np.float64)
        tiny = (upper & 0x7FFF) == 0  # zero, and what is nothing beside any scale
        toward_zero[tiny] = away[tiny] = 0.0
        negative = upper >> 15 == 1
        self.low = np.where(negative, away, toward_zero)
        self.high = np.where(negative, toward_zero, away)
        rising = np.concatenate([np.flatnonzero(negative)[::-1], np.flatnonzero(~negative)])
        self.order = rising[finite[rising]]


@lru_cache(maxsize=1)
def _ends() -> _Ends:
    return _Ends()
