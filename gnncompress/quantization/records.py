"""What one quantizer is shown while its model is calibrated, and the ranges that can be made of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import torch
from torch import Tensor

from gnncompress.quantization.histograms import Histogram, Range
from gnncompress.quantization.observers import Observer, ObserverKind
from gnncompress.quantization.quantizer import Quantizer

# abs, mom and per are the paper's observers over the batches; minmax is the same as abs.
RangeKind = Literal["abs", "mom", "per", "minmax", "percentile", "mse"]
_OBSERVED: dict[RangeKind, ObserverKind] = {"minmax": "abs", **{kind: kind for kind in get_args(ObserverKind)}}


class Record:
    """Takes note of the values that one quantizer is shown, as far as ranges of ``kinds`` need it.

    A weight is the same in every call, so that of the first is enough.
    """

    def __init__(self, quantizer: Quantizer, kinds: Collection[RangeKind], weight: bool) -> None:
        self._quantizer, self._kinds, self._weight = quantizer, kinds, weight
        own = quantizer.observer
        channels = own.range.size(-1) if own.channel is not None else 1
        # Extremes are always observed: that also refuses what is not finite.
        self._observers = {
            kind: Observer(_OBSERVED[kind], quantizer.codes.bits, own.channel, channels).to(own.range)
            for kind in {"minmax", *kinds} & _OBSERVED.keys()
        }
        self._histograms = [Histogram() for _ in range(channels)] if {"percentile", "mse"} & set(kinds) else []

    @property
    def seen(self) -> bool:
        """Whether there was any value."""
        return self._observers["minmax"].seen

    def observe(self, x: Tensor, counts: Tensor | None = None) -> None:
        """Take note of a batch, as ``Observer.observe``.

        Raises:
            QuantizationError: if a value is NaN or infinite.
        """
        if self._weight and self.seen:
            return
        for observer in self._observers.values():
            observer.observe(x, counts)
        channel = self._quantizer.observer.channel
        parts = [x] if channel is None else x.movedim(channel, 0)
        for histogram, part in zip(self._histograms, parts, strict=False):
            histogram.add(part, counts)

    def ranges(self) -> dict[RangeKind, Tensor]:
        """Return the ranges [2] or [2, channels]; none if there was no value."""
        return {kind: self._range(kind) for kind in self._kinds} if self.seen else {}

    def _range(self, kind: RangeKind) -> Tensor:
        if kind in _OBSERVED:
            return self._observers[kind].range
        found = torch.tensor([self._of(histogram, kind) for histogram in self._histograms], dtype=torch.float64)
        own = self._quantizer.observer
        return (found[0] if own.channel is None else found.T).to(own.range)

    def _of(self, histogram: Histogram, kind: RangeKind) -> Range:
        if kind == "percentile":
            return histogram.percentiles(self._quantizer.observer.percentile)
        return histogram.least_error(self._quantizer.codes, self._quantizer.symmetric)


class Ignored:
    """Takes note of nothing: the place of a record while a model is to compute in floats."""

    def observe(self, x: Tensor, counts: Tensor | None = None) -> None:
        """Do nothing."""
