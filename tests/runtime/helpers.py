"""Slow references for the kernels, in float64 and int64, and random codes, numbers and graphs to try them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gnncompress.runtime import arrays
from gnncompress.runtime.rounding import (
    ADD,
    AGAIN,
    HIGH,
    HIGH_2,
    LOW,
    LOW_2,
    MINUS_ZERO,
    NONE,
    OTHER,
    SCALE,
    SCALE_2,
    SHIFT,
    SHIFT_2,
)

NO_OTHER = np.zeros((1, 0), np.int8)
# What kernels must leave alone, or overwrite, is filled with this.
POISON = 77
SECONDS = [(NONE, np.int8), (AGAIN, np.int8), (ADD, np.int8), (ADD, np.float32)]
ROWS = st.integers(0, 40)
WIDTHS = st.sampled_from([1, 5, 15, 16, 17, 33, 64, 65, 80, 130])
SEEDS = st.integers(0, 2**32 - 1)


class Room:
    """Room for an output, with rows around it that must stay as they are."""

    def __init__(self, rows: int, width: int, make: Callable[[int, int], np.ndarray] = arrays.codes) -> None:
        self._all = make(rows + 2, width)
        self._all[...] = POISON
        self.out = self._all[1 : rows + 1]
        self.width = width

    def codes(self) -> np.ndarray:
        """What was written, without what pads it, which must be zeros."""
        assert (self.out[:, self.width :] == 0).all()
        return self.unpadded()

    def unpadded(self) -> np.ndarray:
        assert (self._all[[0, -1]] == POISON).all()
        return self.out[:, : self.width]


@dataclass(frozen=True)
class Span:
    """The least and the largest of what a float kernel may make of a value; nearly always the same."""

    least: np.ndarray
    most: np.ndarray

    def scaled(self, scale: Any, shift: Any) -> Span:
        ends = self.least * scale + shift, self.most * scale + shift
        return Span(np.minimum(*ends), np.maximum(*ends))

    def rounded(self, slack: float) -> Span:
        return Span(np.rint(self.least - slack), np.rint(self.most + slack))

    def clamped(self, low: Any, high: Any) -> Span:
        return Span(np.clip(self.least, low, high), np.clip(self.most, low, high))


def slack_of(exact: bool) -> float:
    """How far a float may be off before it is rounded: nothing if all the numbers are short."""
    return 0.0 if exact else 1e-3


def rounded_twice(v: Span, numbers: np.ndarray, second: int, other: np.ndarray, slack: float) -> Span:
    """What ``Rounding`` says it does after the first scale and shift."""
    number = numbers.astype(np.float64)
    v = v.rounded(slack)
    if second != AGAIN:
        v = v.clamped(number[LOW], number[HIGH])
    if second == NONE:
        return v
    shift = number[SHIFT_2] + (number[OTHER] * other.astype(np.float64) if second == ADD else 0)
    return v.scaled(number[SCALE_2], shift).rounded(slack).clamped(number[LOW_2], number[HIGH_2])


def assert_within(found: np.ndarray, wanted: Span) -> None:
    found = found.astype(np.int64)
    assert found.shape == wanted.least.shape
    wrong = (found < wanted.least) | (found > wanted.most)
    assert not wrong.any(), f"{found[wrong][:5]} is not in {wanted.least[wrong][:5]}..{wanted.most[wrong][:5]}"
    assert (wanted.most - wanted.least).max(initial=0) <= 6


def widened(x: np.ndarray) -> np.ndarray:
    """Rows padded to whole vectors by zeros."""
    made = arrays.codes(*x.shape) if x.dtype == np.int8 else arrays.values(*x.shape)
    made[...] = 0
    made[:, : x.shape[1]] = x
    return made


def random_codes(rng: np.random.Generator, rows: int, width: int, low: int = -128, high: int = 127) -> np.ndarray:
    return widened(rng.integers(low, high, (rows, width), dtype=np.int8, endpoint=True))


def random_others(rng: np.random.Generator, rows: int, width: int, second: int, kind: type) -> np.ndarray:
    if second != ADD:
        return NO_OTHER
    if kind is np.int8:
        return random_codes(rng, rows, width)
    return rng.integers(-400, 400, (rows, width)).astype(np.float32) / 4


def random_numbers(rng: np.random.Generator, width: int, size: float, exact: bool) -> np.ndarray:
    """Numbers for rounding values of up to ``size``; powers of two and quarters if all of it is to be exact."""
    if exact:
        scale = 2.0 ** np.floor(np.log2(200 / size)) * rng.choice([1, 0.5, -1], width)
        scale_2, other = (rng.choice([0.25, 0.5, 1, -0.5], width) for _ in range(2))
        shift, shift_2 = (rng.integers(-80, 80, width) / 4 for _ in range(2))
    else:
        scale = 200 / size * rng.uniform(-1, 1, width)
        scale_2, other = rng.uniform(-1.5, 1.5, (2, width))
        shift, shift_2 = rng.uniform(-20, 20, (2, width))
    low, low_2 = rng.integers(-128, 0, (2, width))
    high, high_2 = rng.integers(0, 127, (2, width), endpoint=True)
    return arrays.numbers(
        width,
        {
            MINUS_ZERO: rng.integers(-8, 8, width),
            SCALE: scale,
            SHIFT: shift,
            LOW: low,
            HIGH: high,
            SCALE_2: scale_2,
            SHIFT_2: shift_2,
            OTHER: other,
            LOW_2: low_2,
            HIGH_2: high_2,
        },
    )


@dataclass(frozen=True)
class Graph:
    """Edges sorted by target, the slow way."""

    nodes: int
    edges: np.ndarray

    @property
    def order(self) -> np.ndarray:
        return np.argsort(self.edges[1], kind="stable")

    @property
    def sources(self) -> np.ndarray:
        return self.edges[0][self.order].astype(np.int32)

    @property
    def starts(self) -> np.ndarray:
        return np.searchsorted(np.sort(self.edges[1]), np.arange(self.nodes + 1)).astype(np.int64)

    @property
    def degrees(self) -> np.ndarray:
        return np.diff(self.starts)

    def around(self, node: int) -> np.ndarray:
        """The sources of a node, edge by edge."""
        return np.array([source for source, target in self.edges.T if target == node], np.int64)


def random_graph(rng: np.random.Generator, nodes: int) -> Graph:
    """Edges of which some are repeated and some loops; many nodes have none."""
    number = int(rng.integers(0, 4 * nodes + 1)) if nodes else 0
    edges = rng.integers(0, max(nodes, 1), (2, number))
    edges[1] = edges[1] // 2 * 2
    edges[0, ::7] = edges[1, ::7]
    edges[:, 1::5] = edges[:, : edges[:, 1::5].shape[1]]
    return Graph(nodes, edges.astype(np.int64))
