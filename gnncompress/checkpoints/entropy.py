"""Symbols to bytes and back, as short as their frequencies allow: a range coder with the tables that steer it.

A frequency table holds a *level* for each symbol: 0 if it never occurs, else 1 + round(2 log2 count). Its weight is
then 16 * 2^((level - 1) / 2) in whole numbers, so that every machine computes the same probabilities. Rounding to
half powers of two costs at most 0.02 bits a symbol, and neighbouring levels differ little, so that a table of a
hundred symbols takes some forty bytes.

The coder is that of the package ``constriction``; Martin, Range encoding, 1979.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any

import constriction
import numpy as np

_LARGEST = 70
_WEIGHTS = np.array([0] + [isqrt(2 ** (level + 8)) for level in range(_LARGEST)], dtype=np.float64)
# The differences d of a table's levels are folded to 2|d| - (d > 0); each larger |d| is half as likely.
_STEPS = np.array([2 ** max(30 - step // 2, 0) for step in range(2 * _LARGEST + 1)], dtype=np.float64)
_STEP_BITS = np.log2(_STEPS.sum() / _STEPS)
_CHUNK = 16
# The coder takes and gives int32: so many symbols are turned into it at a time.
_BATCH = 1 << 18
_UNIFORM = {bits: constriction.stream.model.Uniform(1 << bits) for bits in range(1, _CHUNK + 1)}


def levels_of(counts: np.ndarray) -> np.ndarray:
    """Return the levels of symbols that occur ``counts`` times: [symbols] of int64."""
    return np.where(counts > 0, 1 + np.rint(2 * np.log2(np.maximum(counts, 1))), 0).astype(np.int64)


def coded_bits(counts: np.ndarray, levels: np.ndarray) -> float:
    """Return the bits that symbols occurring ``counts`` times take under ``levels``, with those of the table itself."""
    weights = _WEIGHTS[levels]
    present = counts > 0
    symbols = float((counts[present] * np.log2(weights.sum() / weights[present])).sum())
    return symbols + _LARGEST.bit_length() + float(_STEP_BITS[_folded(np.diff(levels))].sum())


class Writer:
    """Writes numbers and symbols; ``bytes`` returns what a ``Reader`` reads in the same order."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def below(self, value: int, bound: int) -> None:
        """Write a number of 0 .. bound - 1, each as likely as the others."""
        for shift, width in _chunks(bound):
            self._coder.encode(value >> shift & (1 << width) - 1, _UNIFORM[width])

    def table(self, levels: np.ndarray) -> None:
        """Write the levels of a table whose number of symbols, at least one, the reader knows."""
        self.below(int(levels[0]), _LARGEST + 1)
        self._symbols(_folded(np.diff(levels)), _STEPS)

    def symbols(self, symbols: np.ndarray, levels: np.ndarray) -> None:
        """Write symbols, numbered from 0, under a table."""
        self._symbols(symbols, _WEIGHTS[levels])

    def bits(self, bits: np.ndarray, ones: int) -> None:
        """Write bits of which ``ones`` are 1, a number that the reader knows."""
        if 0 < ones < len(bits):
            self._encode(bits, _bernoulli(ones, len(bits)))

    def bytes(self) -> bytes:
        """Return what was written."""
        content: bytes = self._coder.get_compressed().astype("<u4").tobytes()
        return content

    def _symbols(self, symbols: np.ndarray, weights: np.ndarray) -> None:
        if len(symbols) and len(weights) > 1:
            self._encode(symbols, _categorical(weights))

    def _encode(self, symbols: np.ndarray, model: Any) -> None:
        for start in range(0, len(symbols), _BATCH):
            self._coder.encode(symbols[start : start + _BATCH].astype(np.int32), model)


class Reader:
    """Reads what a ``Writer`` wrote; whatever the bytes are, it raises ValueError or returns numbers in range."""

    def __init__(self, content: bytes) -> None:
        if len(content) % 4:
            raise ValueError("the coded part is cut short")
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(content, "<u4").astype(np.uint32))

    def below(self, bound: int) -> int:
        """Read a number of 0 .. bound - 1."""
        value = 0
        for shift, width in _chunks(bound):
            value |= int(self._decode(_UNIFORM[width])) << shift
        if value >= max(bound, 1):
            raise ValueError(f"the number {value} is not below {bound}")
        return value

    def table(self, size: int) -> np.ndarray:
        """Read the levels of ``size`` symbols, at least one."""
        first = self.below(_LARGEST + 1)
        folded = self._symbols(size - 1, _STEPS, np.dtype(np.int64))
        levels = first + np.cumsum(np.append(0, _unfolded(folded)))
        if levels.min() < 0 or levels.max() > _LARGEST or levels.max() == 0:
            raise ValueError("a table of frequencies is out of range")
        return levels

    def symbols(self, count: int, levels: np.ndarray, dtype: Any = np.int32) -> np.ndarray:
        """Read ``count`` symbols under a table: [count] of ``dtype``."""
        return self._symbols(count, _WEIGHTS[levels], np.dtype(dtype))

    def bits(self, count: int, ones: int) -> np.ndarray:
        """Read ``count`` bits of which ``ones`` are 1: [count] of bool."""
        if not 0 < ones < count:
            return np.full(count, ones > 0)
        return self._read(count, _bernoulli(ones, count), np.dtype(bool))

    def _symbols(self, count: int, weights: np.ndarray, dtype: np.dtype) -> np.ndarray:
        if len(weights) < 2:
            return np.zeros(count, dtype)
        return self._read(count, _categorical(weights), dtype)

    def _read(self, count: int, model: Any, dtype: np.dtype) -> np.ndarray:
        result = np.empty(count, dtype)
        for start in range(0, count, _BATCH):
            result[start : start + _BATCH] = self._decode(model, min(_BATCH, count - start))
        return result

    def _decode(self, *arguments: Any) -> Any:
        try:
            return self._coder.decode(*arguments)
        except AssertionError as error:
            raise ValueError("the coded part is not what a table describes") from error


def _chunks(bound: int) -> Iterator[tuple[int, int]]:
    """Yield the lowest bit and the width of each part of a number below ``bound``."""
    bits = max(bound - 1, 0).bit_length()
    for shift in range(0, bits, _CHUNK):
        yield shift, min(_CHUNK, bits - shift)


def _categorical(weights: np.ndarray) -> Any:
    return constriction.stream.model.Categorical(weights / weights.sum(), perfect=False)


def _bernoulli(ones: int, count: int) -> Any:
    return constriction.stream.model.Bernoulli(ones / count, perfect=False)


def _folded(steps: np.ndarray) -> np.ndarray:
    return 2 * np.abs(steps) - (steps > 0)


def _unfolded(folded: np.ndarray) -> np.ndarray:
    return np.where(folded % 2 == 1, (folded + 1) // 2, -(folded // 2)).astype(np.int64)
