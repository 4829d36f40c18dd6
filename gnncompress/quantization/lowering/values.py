"""What a register holds while a model is lowered: codes with the values they stand for, floats, or a sum to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from gnncompress.quantization.affine import Grid
from gnncompress.quantization.quantizer import Quantizer

# Codes are stored as int8: those of unsigned quantizers less 128. Row 128 + stored of a table is a stored code's.
STORED = np.arange(-128, 128)


@dataclass(frozen=True)
class Codes:
    """A register of codes. ``table`` [256, width] says what value each stored code stands for, channel by channel.

    Stored codes lie between ``low`` and ``high``. What is done to a value and looks at nothing else, such as ReLU or a
    normalization of evaluation, is done to the table and costs nothing.
    """

    register: str
    table: Tensor
    low: int
    high: int

    @property
    def width(self) -> int:
        """The number of channels."""
        return self.table.size(1)


@dataclass(frozen=True)
class Floats:
    """A register of floats, ``width`` channels wide, 0 if that is not known; ``rows`` if kernels can read them."""

    register: str
    width: int = 0
    rows: bool = False


@dataclass(frozen=True)
class Sum:
    """first + factor second, which will be rounded as soon as a quantizer follows."""

    first: Codes
    second: Codes | Floats
    factor: float = 1.0


@dataclass(frozen=True)
class StoredGrid:
    """A quantizer's grid on stored codes."""

    scale: float
    zero: float
    low: int
    high: int
    offset: int

    def codes(self, quantizer: Quantizer, values: Tensor) -> np.ndarray:
        """Return the stored codes of values."""
        return quantizer.codes_of(values).long().numpy() - self.offset

    def table(self, quantizer: Quantizer, width: int) -> Tensor:
        """Return the values of all stored codes [256, width]."""
        column = torch.from_numpy(STORED + self.offset).float().unsqueeze(1)
        return quantizer.values(column).expand(256, width)


def stored(quantizer: Quantizer) -> StoredGrid:
    """Return the grid of an activation's quantizer, a tensor's."""
    grid: Grid = quantizer.grid()
    offset = 0 if quantizer.codes.signed else 128
    return StoredGrid(
        cast(float, grid.scale),
        cast(float, grid.zero_point) - offset,
        quantizer.codes.lowest - offset,
        quantizer.codes.highest - offset,
        offset,
    )


def fit_codes(codes: np.ndarray, exact: np.ndarray, low: int, high: int) -> tuple[np.ndarray, ...] | None:
    """Return scale, shift, low and high [width] that give ``codes`` as clamp(round(stored scale + shift)), or None.

    Shapes: codes [256, width] and what they are before they are rounded, ``exact`` [256, width]; of the rows only those
    of the stored codes low to high matter.
    """
    rows = slice(low + 128, high + 129)
    codes, exact, stored_codes = codes[rows], exact[rows], STORED[rows].astype(np.float64)
    scale, shift = _lines(exact, stored_codes)
    least, most = codes.min(0).astype(np.float32), codes.max(0).astype(np.float32)
    for nudge in (0.0, 1e-5, -1e-5, 1e-4, -1e-4, 1e-3, -1e-3):
        found = scale.astype(np.float32), (shift + nudge).astype(np.float32)
        made = (stored_codes[:, None] * found[0].astype(np.float64) + found[1].astype(np.float64)).astype(np.float32)
        if (np.clip(np.rint(made), least, most) == codes).all():
            return *found, least, most
    return None


def fit_values(table: Tensor, low: int, high: int) -> tuple[np.ndarray, ...] | None:
    """Return low, high, scale and shift [width]: table = clamp(stored) scale + shift to float precision; or None."""
    rows = slice(low + 128, high + 129)
    values, stored_codes = table.double().numpy()[rows], STORED[rows].astype(np.float64)
    scale, shift = _lines(values, stored_codes)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack([(values.min(0) - shift) / scale, (values.max(0) - shift) / scale])
    ends = np.where(scale == 0, np.array([[low], [high]]), np.rint(ends))
    least, most = ends.min(0), ends.max(0)
    made = np.clip(stored_codes[:, None], least, most) * scale + shift
    if np.abs(made - values).max() > 1e-6 * max(np.abs(values).max(), 1e-30):
        return None
    return least, most, scale, shift


def _lines(values: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and intercept of each column where it changes, from the first change to the last."""
    slope, intercept = np.zeros(values.shape[1]), values[0].copy()
    for column in range(values.shape[1]):
        changes = np.flatnonzero(np.diff(values[:, column]))
        if len(changes):
            first, last = changes[0], changes[-1] + 1
            # The first step may begin at a clamp's end, so that it is shorter than the others.
            if last - first > 2:
                first += 1
            if last - first > 2:
                last -= 1
            slope[column] = (values[last, column] - values[first, column]) / (at[last] - at[first])
            intercept[column] = values[first, column] - slope[column] * at[first]
    return slope, intercept
