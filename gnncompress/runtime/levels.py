"""Levels: which instructions multiply codes. All give the same bits; they differ in speed."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from gnncompress.errors import UsageError
from gnncompress.runtime.vectors import has

# Names the level to use in place of the fastest.
VARIABLE = "GNNCOMPRESS_LEVEL"


@dataclass(frozen=True)
class Level:
    """A way to multiply codes: ``together`` inputs a step, their weights held as ``dtype``.

    ``needs`` is LLVM's name for the feature that the processor must have, if any. ``speed`` says what to expect.
    """

    name: str
    needs: str
    together: int
    dtype: type[np.generic]
    meaning: str
    speed: str

    @property
    def available(self) -> bool:
        """Whether the processor that kernels are compiled for has the instructions."""
        return not self.needs or has(self.needs)


# The fastest first; the last is available everywhere.
LEVELS = (
    Level(
        "avx512-vnni",
        "avx512vnni",
        4,
        np.int8,
        "dot products of four bytes (AVX-512 VNNI)",
        "the fastest level: products take about a quarter of the time of float32 products",
    ),
    Level(
        "avx2",
        "avx2",
        2,
        np.int16,
        "dot products of pairs of 16 bits (AVX2)",
        "products take about twice as long as with AVX-512 VNNI, half as long as float32 products",
    ),
    Level(
        "exact-f32",
        "",
        1,
        np.float32,
        "float32 products in sums short enough to be exact",
        "products take about four times as long as with AVX-512 VNNI, as long as float32 products",
    ),
)
FASTEST = LEVELS[0]


def level() -> Level:
    """Return the level in use: the one that GNNCOMPRESS_LEVEL names, or the fastest available.

    Raises:
        UsageError: if there is no level of that name, or the processor does not have it.
    """
    usable = [one for one in LEVELS if one.available]
    name = os.environ.get(VARIABLE)
    if not name:
        return usable[0]
    for one in usable:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in usable)
    known = name in (one.name for one in LEVELS)
    reason = "this processor does not have that level" if known else "there is no such level"
    raise UsageError(f"{VARIABLE}={name}: {reason}; use one of: {names}")
