"""Observers: what range of values a quantizer has to cover, learnt from the batches of training."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gnncompress.errors import QuantizationError, UsageError
from gnncompress.registry import unknown

ObserverKind = Literal["abs", "mom", "per"]
MOMENTUM = 0.01


class Observer(nn.Module):
    """Follows the range of what it is shown, per tensor or, with ``channel``, per index of that dimension.

    abs: the smallest and the largest value seen so far. mom: their moving average, v <- v + 0.01 (batch - v). per: the
    smallest and largest percentiles seen so far, p = 0.001 for 8 bits and 0.01 for fewer; of n values the k-th smallest
    with k = max(1, floor(n p)) and the k-th smallest with k = max(1, floor(n (1 - p))), which is never the largest.

    Its buffers ``low``, ``high`` and ``seen`` have their shapes from the start, so that a state_dict loads.

    Raises:
        UsageError: for another kind.

    Source: Tailor et al., Degree-Quant, ICLR 2021, official code. Deviation: percentiles that are both zero of a tensor
    that is not, such as Cora's bag of words, would quantize all of it to zero; its smallest and largest values then
    take their place.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(
        self, kind: ObserverKind = "abs", bits: int = 8, channel: int | None = None, channels: int = 1
    ) -> None:
        super().__init__()
        if kind not in get_args(ObserverKind):
            raise UsageError(unknown("observer", kind, get_args(ObserverKind)))
        self.kind = kind
        self.percentile = 0.001 if bits == 8 else 0.01
        self.channel = channel
        shape = () if channel is None else (channels,)
        self.register_buffer("low", torch.zeros(shape))
        self.register_buffer("high", torch.zeros(shape))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def observe(self, x: Tensor) -> None:
        """Widen or move the range by a batch; an empty one says nothing.

        Raises:
            QuantizationError: if a value is NaN or infinite.
        """
        if not x.numel():
            return
        x = x.detach()
        low, high = self._percentiles(x) if self.kind == "per" else self._extremes(x)
        if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
            raise QuantizationError("a value is NaN or infinite")
        if not self.seen:
            self.low.copy_(low)
            self.high.copy_(high)
            self.seen.fill_(True)
        elif self.kind == "mom":
            self.low.add_(MOMENTUM * (low - self.low))
            self.high.add_(MOMENTUM * (high - self.high))
        else:
            torch.minimum(self.low, low, out=self.low)
            torch.maximum(self.high, high, out=self.high)

    def _extremes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.channel is None:
            low, high = torch.aminmax(x)
        else:
            low, high = torch.aminmax(x.movedim(self.channel, 0).flatten(1), dim=1)
        return low, high

    def _percentiles(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.reshape(1, -1) if self.channel is None else x.movedim(self.channel, 0).flatten(1)
        least, most = ranks(rows.size(1), self.percentile)
        if not bool(torch.isfinite(rows).all()):
            raise QuantizationError("a value is NaN or infinite")
        # The tails are short: selecting them is several times faster than two k-th values of the whole.
        low = rows.topk(least, dim=1, largest=False, sorted=False).values.amax(1)
        high = rows.topk(rows.size(1) - most + 1, dim=1, sorted=False).values.amin(1)
        lost = (low == 0) & (high == 0)
        if bool(lost.any()):
            smallest, largest = torch.aminmax(rows, dim=1)
            low, high = torch.where(lost, smallest, low), torch.where(lost, largest, high)
        return low.reshape(self.low.shape), high.reshape(self.high.shape)


def ranks(count: int, percentile: float) -> tuple[int, int]:
    """Return which smallest of ``count`` values, counted from 1, are the lower and the upper percentile."""
    least = max(1, min(count, int(count * percentile)))
    return least, min(count, max(1, int(count * (1 - percentile))))


def finite_sum(x: Tensor) -> bool:
    """Say whether all values are finite; their sum tells it in one pass unless it overflows itself."""
    return math.isfinite(float(x.sum())) or bool(torch.isfinite(x).all())
