"""Arrays whose rows begin where a processor likes to load vectors from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gnncompress.runtime.rounding import HIGH, HIGH_2, LOW, LOW_2, NUMBERS
from gnncompress.runtime.vectors import padded


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
    """Return an uninitialized array that begins at a cache line, as torch's do and numpy's need not."""
    return torch.empty(shape, dtype=dtype).numpy()


def codes(rows: int, width: int) -> np.ndarray:
    """Return room for rows of codes, padded to whole vectors."""
    return empty((rows, padded(width)), torch.int8)


def values(rows: int, width: int) -> np.ndarray:
    """Return room for rows of floats, padded to whole vectors."""
    return empty((rows, padded(width)), torch.float32)


def aligned(array: np.ndarray) -> np.ndarray:
    """Return a copy that begins at a cache line."""
    copy = empty(array.shape, torch.from_numpy(array[:0].copy()).dtype)
    copy[...] = array
    return copy


def tensor_of(value: Any, width: int) -> Any:
    """Return rows of floats as a tensor without what pads them; anything else as it is."""
    return torch.from_numpy(value)[:, : width or None] if isinstance(value, np.ndarray) else value


def numbers(width: int, given: Mapping[int, float | np.ndarray]) -> np.ndarray:
    """Return the numbers that rounding takes, [NUMBERS, width padded], those of ``given`` set, one or one a channel.

    Bounds that are not given clamp nothing off; the codes of columns that only pad are 0.
    """
    made = empty((NUMBERS, padded(width)), torch.float32)
    made[...] = 0
    for low, high in ((LOW, HIGH), (LOW_2, HIGH_2)):
        made[low, :width], made[high, :width] = -128, 127
    for row, values in given.items():
        made[row, :width] = values
    return made
