"""Observers: what range of values a quantizer has to cover, learnt from the batches of training."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from gnncompress.errors import QuantizationError, UsageError
from gnncompress.quantization import kernels
from gnncompress.registry import unknown

ObserverKind = Literal["abs", "mom", "per"]
MOMENTUM = 0.01
_RATE = np.float32(MOMENTUM)


class Observer(nn.Module):
    """Follows the range of what it is shown, per tensor or, with ``channel``, per index of that dimension.

    abs: the smallest and the largest value seen so far. mom: their moving average, v <- v + 0.01 (batch - v). per: the
    smallest and largest percentiles seen so far, p = 0.001 for 8 bits and 0.01 for fewer; of n values the k-th smallest
    with k = max(1, floor(n p)) and the k-th smallest with k = max(1, floor(n (1 - p))), which is never the largest.

    Its buffer ``range`` [2] or [2, channels], NaN as long as nothing was seen, has its shape from the start, so that a
    state_dict loads.

    Raises:
        UsageError: for another kind.

    Source: Tailor et al., Degree-Quant, ICLR 2021, official code. Deviation: percentiles that are both zero of a tensor
    that is not, such as Cora's bag of words, would quantize all of it to zero; its smallest and largest values then
    take their place.
    """

    range: Tensor

    def __init__(
        self, kind: ObserverKind = "abs", bits: int = 8, channel: int | None = None, channels: int = 1
    ) -> None:
        super().__init__()
        if kind not in get_args(ObserverKind):
            raise UsageError(unknown("observer", kind, get_args(ObserverKind)))
        self.kind = kind
        self.percentile = 0.001 if bits == 8 else 0.01
        self.channel = channel
        shape = (2,) if channel is None else (2, channels)
        self.register_buffer("range", torch.full(shape, math.nan))
        self._bounds = Bounds()

    @property
    def seen(self) -> bool:
        """Whether a batch was observed; on the meta device, where models are only sized, none ever is."""
        if self.range.is_meta:
            return False
        return not math.isnan(self.bounds()[0] if self.channel is None else self.range.view(-1)[0])

    def bounds(self) -> tuple[float, float]:
        """Return the range of a tensor as numbers, NaN as long as nothing was seen."""
        return self._bounds.read(self.range)

    def observe(self, x: Tensor, counts: Tensor | None = None) -> None:
        """Widen or move the range by a batch; an empty one says nothing.

        ``counts`` [rows] says how often each row of ``x`` occurs, at least once, without being repeated.

        Raises:
            QuantizationError: if a value is NaN or infinite.
        """
        if not x.numel():
            return
        x = x.detach()
        if self.channel is not None:
            self._observe_channels(x.movedim(self.channel, 0).flatten(1))
            return
        smallest, largest = torch.aminmax(x)
        low, high = smallest.item(), largest.item()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise QuantizationError("a value is NaN or infinite")
        before = self._bounds.read(self.range)
        if math.isnan(before[0]):
            new = _percentiles(x, counts, self.percentile, (low, high), None) if self.kind == "per" else (low, high)
        elif self.kind == "mom":
            new = _moved(before[0], low), _moved(before[1], high)
        else:
            if before[0] <= low and high <= before[1]:
                return
            if self.kind == "per":
                low, high = _percentiles(x, counts, self.percentile, (low, high), before)
            new = min(low, before[0]), max(high, before[1])
        if new != before:
            self._bounds.write(self.range, new)

    def _observe_channels(self, rows: Tensor) -> None:
        """Observe [channels, values]."""
        low, high = torch.aminmax(rows, dim=1)
        if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
            raise QuantizationError("a value is NaN or infinite")
        if self.kind == "per":
            least, most = ranks(rows.size(1), self.percentile)
            tail = rows.topk(least, dim=1, largest=False, sorted=False).values.amax(1)
            head = rows.topk(rows.size(1) - most + 1, dim=1, sorted=False).values.amin(1)
            lost = (tail == 0) & (head == 0)
            low, high = torch.where(lost, low, tail), torch.where(lost, high, head)
        new = torch.stack([low, high]).to(self.range)
        if not self.seen:
            self.range.copy_(new)
        elif self.kind == "mom":
            self.range.add_(MOMENTUM * (new - self.range))
        else:
            torch.minimum(self.range[0], new[0], out=self.range[0])
            torch.maximum(self.range[1], new[1], out=self.range[1])


def ranks(count: int, percentile: float) -> tuple[int, int]:
    """Return which smallest of ``count`` values, counted from 1, are the lower and the upper percentile."""
    least = max(1, min(count, int(count * percentile)))
    return least, min(count, max(1, int(count * (1 - percentile))))


class Bounds:
    """The two numbers in a buffer, read once and kept: reading them anew would cost as much as rounding a tensor."""

    def __init__(self) -> None:
        self._buffer: Tensor | None = None
        self._version = -1
        self._values = math.nan, math.nan

    def read(self, buffer: Tensor) -> tuple[float, float]:
        """Return what is in ``buffer``."""
        if buffer.is_inference():  # has no version to know it again by
            low, high = buffer.tolist()
            return low, high
        if buffer is not self._buffer or buffer._version != self._version:
            low, high = buffer.tolist()
            self._buffer, self._version, self._values = buffer, buffer._version, (low, high)
        return self._values

    def write(self, buffer: Tensor, values: tuple[float, float]) -> None:
        """Put ``values`` into ``buffer``."""
        if buffer.device.type == "cpu" and buffer.dtype == torch.float32 and buffer is self._buffer:
            buffer.numpy()[:] = values  # leaves the version as it is
            self._values = values
        else:
            buffer.copy_(torch.tensor(values, dtype=torch.float64))

    def __deepcopy__(self, memo: dict[int, Any]) -> Bounds:
        return Bounds()


def _moved(value: float, batch: float) -> float:
    """Return value + 0.01 (batch - value), each step rounded to float32 as tensors would be."""
    before = np.float32(value)
    return float(before + _RATE * (np.float32(batch) - before))


def _percentiles(
    x: Tensor,
    counts: Tensor | None,
    percentile: float,
    extremes: tuple[float, float],
    known: tuple[float, float] | None,
) -> tuple[float, float]:
    """Return both percentiles, or what is known where they lie within it; the extremes where both would be zero.

    The k-th smallest value is below a bound exactly if k values are. A range that only widens needs the selection of
    those k, which is dear, only then.
    """
    width = x.numel() // len(x)
    total = x.numel() if counts is None else int(counts.sum()) * width
    least, most = ranks(total, percentile)
    values = x.reshape(-1)
    low = high = None
    if known is not None:
        low = known[0] if _outside(values, known[0], -1, counts, width) < least else None
        high = known[1] if _outside(values, known[1], 1, counts, width) < total - most + 1 else None
    low = _ranked(values, counts, width, least, False) if low is None else low
    high = _ranked(values, counts, width, total - most + 1, True) if high is None else high
    return extremes if low == high == 0 else (low, high)


def _outside(values: Tensor, bound: float, sign: int, counts: Tensor | None, width: int) -> int:
    """Return how many values are below a bound (sign -1) or above it (1), each as often as its row counts."""
    if values.device.type == "cpu":  # where numpy compares several times faster
        plain = values.numpy()
        found = plain < bound if sign < 0 else plain > bound
        if counts is None:
            return int(np.count_nonzero(found))
        where = torch.from_numpy(np.flatnonzero(found))
    else:
        where = (values < bound if sign < 0 else values > bound).nonzero().squeeze(1)
    return len(where) if counts is None else int(counts[where // width].sum())


def _ranked(values: Tensor, counts: Tensor | None, width: int, number: int, largest: bool) -> float:
    """Return the value of the given rank from one end.

    Every row counts at least once, so it is among as many of the values as they stand.
    """
    tail, where = values.topk(min(number, len(values)), largest=largest, sorted=counts is not None)
    if counts is None:
        return float(tail.amin() if largest else tail.amax())
    return float(tail[torch.searchsorted(counts[where // width].cumsum(0), number)])


def finite(x: Tensor) -> bool:
    """Say whether all values are finite."""
    return kernels.all_finite(x) if kernels.fits(x) else bool(torch.isfinite(x).all())
