"""Products of codes, rounded or not, at the processor's level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from gnncompress.runtime import dots
from gnncompress.runtime.arrays import empty
from gnncompress.runtime.compiling import compiled
from gnncompress.runtime.kernels import clamps_of, finish, row_sums
from gnncompress.runtime.levels import level
from gnncompress.runtime.vectors import LANES

_compiled = compiled("contract", "nsz")
_ROWS = dots.ROWS
_round_many, _round_one, _add_up_many, _add_up_one = dots.round_many, dots.round_one, dots.add_up_many, dots.add_up_one


@dataclass(frozen=True)
class Weight:
    """A weight of codes, packed as the processor's level takes it, ready to multiply codes x by.

    ``start`` is where the sums of an output begin, so that they end as those of x - zero. ``has_zeros`` says whether
    the weight has zero points of its own, which the sums of the rows of x - zero then count for; these are the sums of
    x ``less`` a number.
    """

    packed: np.ndarray
    start: np.ndarray
    less: int
    has_zeros: bool


def weight(codes: np.ndarray, inputs: int, zero: int, has_zeros: bool) -> Weight:
    """Return a weight [inputs or more, outputs], ready to multiply codes by whose zero point is ``zero``.

    Raises:
        UsageError: if the level that the environment names cannot be used.
    """
    chosen = level()
    start = empty((codes.shape[1],), torch.int32)
    unsigned = 128 if chosen.dtype is np.int8 else 0  # bytes enter unsigned, 128 larger
    start[...] = -(unsigned + zero) * codes.sum(0, dtype=np.int32)
    return Weight(dots.packed(codes[:inputs], chosen), start, inputs * zero, has_zeros)


def multiply(x: np.ndarray, by: Weight, sums: np.ndarray, totals: np.ndarray) -> None:
    """Write the product of codes less their zero point [rows, inputs] and a weight as int32 [rows, outputs].

    ``totals`` are given the sums of the rows, if the weight has zero points.
    """
    if by.has_zeros:
        row_sums(x, by.less, totals)
    else:
        totals[:] = 0
    _sums(x, by.packed, by.start, sums)


def bound(
    x: np.ndarray, by: Weight, numbers: np.ndarray, fits: bool, second: int, other: np.ndarray, out: np.ndarray,
    rooms: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> Callable[[], object]:  # fmt: skip
    """Return what writes a product's codes; ``rooms()`` are room for the product and for the sums of rows.

    ``fits`` says that all values surely fit into 32 bits; only then are they rounded while in registers.
    """
    if fits:
        return partial(_product, x, by.packed, by.start, by.has_zeros, by.less, numbers, second, other, out)
    sums, totals = rooms()

    def in_two_steps() -> None:
        multiply(x, by, sums, totals)
        finish(sums, totals, numbers, second, other, out)

    return in_two_steps


@_compiled
def _product(x, packed, start, has_zeros, less, numbers, second, other, out):  # type: ignore[no-untyped-def]
    totals, room = np.empty(LANES, np.float32), np.empty((_ROWS, x.shape[1]), packed.dtype)
    clamps, i = clamps_of(numbers, second), 0
    while i < len(out):
        if i + _ROWS <= len(out):
            _round_many(x, i, room, packed, start, has_zeros, less, totals, numbers, clamps, second, other, out)
            i += _ROWS
        else:
            _round_one(x, i, room, packed, start, has_zeros, less, totals, numbers, clamps, second, other, out)
            i += 1


@_compiled
def _sums(x, packed, start, sums):  # type: ignore[no-untyped-def]
    room, i = np.empty((_ROWS, x.shape[1]), packed.dtype), 0
    while i < len(sums):
        if i + _ROWS <= len(sums):
            _add_up_many(x, i, room, packed, start, sums)
            i += _ROWS
        else:
            _add_up_one(x, i, room, packed, start, sums)
            i += 1
