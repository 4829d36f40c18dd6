"""Products of codes, rounded: by the processor's own instruction where it has one, else by torch.

``torch._int_mm`` runs on oneDNN's kernels of bytes where the processor has any, and on plain loops of torch's where it
has none. Where the processor has AVX-512 VNNI, tiles that are rounded before they leave the registers take a third
less.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch

from gnncompress.runtime import dots
from gnncompress.runtime.arrays import empty
from gnncompress.runtime.compiling import compiled
from gnncompress.runtime.kernels import clamps_of, finish, row_sum, row_sums
from gnncompress.runtime.vectors import LANES

# Set to anything, this keeps to torch.
PORTABLE = "GNNCOMPRESS_PORTABLE"

_compiled = compiled("contract", "nsz")
_ROWS, _WIDTH = dots.ROWS, dots.VECTORS * LANES
_tile, _tile_row, _strip, _strip_row = dots.many_wide, dots.one_wide, dots.many_narrow, dots.one_narrow


@dataclass(frozen=True)
class Weight:
    """A weight of codes [inputs, outputs], both padded to whole vectors, with what the processor wants of it.

    ``inputs`` are those that do not pad, ``zero`` is the zero point of what it is multiplied by, and ``has_zeros`` says
    whether the weight has zero points of its own, which the sums of the rows of x - zero then count for.

    ``less`` is what products of codes x are to be less to be those of x - zero: zero times the weight's sums.
    """

    codes: np.ndarray
    less: np.ndarray
    packed: np.ndarray | None
    start: np.ndarray
    inputs: int
    zero: int
    has_zeros: bool


@lru_cache
def fast() -> bool:
    """Say whether the processor's own instruction is used; if it has none, say so once."""
    if os.environ.get(PORTABLE):
        return False
    if not dots.available():
        warnings.warn(
            "this processor has no AVX-512 VNNI: integer products run through torch._int_mm, more slowly",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def weight(codes: np.ndarray, inputs: int, zero: int, has_zeros: bool) -> Weight:
    """Return a weight, ready to multiply codes by whose zero point is ``zero``."""
    sums = codes.sum(0, dtype=np.int32)
    start = empty((codes.shape[1],), torch.int32)
    start[...] = -(128 + zero) * sums  # codes enter as unsigned bytes, 128 larger
    return Weight(codes, zero * sums, dots.packed(codes[:inputs]) if fast() else None, start, inputs, zero, has_zeros)


def multiply(x: np.ndarray, by: Weight, sums: np.ndarray, totals: np.ndarray) -> None:
    """Write the product of codes less their zero point [rows, inputs] and a weight as int32 [rows, outputs].

    ``totals`` are given the sums of the rows, if the weight has zero points.
    """
    if by.has_zeros:
        row_sums(x, by.inputs * by.zero, totals)
    else:
        totals[:] = 0
    if len(x):
        torch._int_mm(torch.from_numpy(x), torch.from_numpy(by.codes), out=torch.from_numpy(sums))
        sums -= by.less


def bound(
    x: np.ndarray, by: Weight, numbers: np.ndarray, fits: bool, second: int, other: np.ndarray, out: np.ndarray,
    rooms: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> Callable[[], object]:  # fmt: skip
    """Return what writes a product's codes; ``rooms()`` are room for the product and for the sums of rows.

    ``fits`` says that all values surely fit into 32 bits.
    """
    if by.packed is not None and fits:
        less = by.inputs * by.zero
        return partial(_product, x, by.packed, by.start, by.has_zeros, less, numbers, second, other, out)
    sums, totals = rooms()

    def portable() -> None:
        multiply(x, by, sums, totals)
        finish(sums, totals, numbers, second, other, out)

    return portable


@_compiled
def _product(x, packed, start, has_zeros, less, numbers, second, other, out):  # type: ignore[no-untyped-def]
    totals, clamps, i = np.empty(LANES, np.float32), clamps_of(numbers, second), 0
    while i < len(out):
        many = i + _ROWS <= len(out)
        if has_zeros and many:
            dots.totals_of_many(x, i, less, totals)
        elif has_zeros:
            totals[0] = row_sum(x, i, less)
        column = 0
        while column + _WIDTH <= out.shape[1]:
            if many:
                _tile(x, i, packed, start, totals, has_zeros, numbers, clamps, second, other, out, column)
            else:
                _tile_row(x, i, packed, start, totals, has_zeros, numbers, clamps, second, other, out, column)
            column += _WIDTH
        while column < out.shape[1]:
            if many:
                _strip(x, i, packed, start, totals, has_zeros, numbers, clamps, second, other, out, column)
            else:
                _strip_row(x, i, packed, start, totals, has_zeros, numbers, clamps, second, other, out, column)
            column += LANES
        i += _ROWS if many else 1
