"""Rounding in one pass over memory: compiled by numba for float32 on a CPU, where torch would need six or more.

The arithmetic is that of the torch expressions beside which they stand, operation by operation in float32, so both give
the same bits.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

# With Python's rule for dividing by zero no loop that divides would be vectorized; no step here is zero.
_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
# Sums may be reordered, which lets them run eight at a time; torch's sums have another order, too.
_reordered: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})

_INFINITE = 0x7F800000
_MAGNITUDE = 0x7FFFFFFF


def fits(x: Tensor) -> bool:
    """Say whether the kernels take ``x``."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous() and not x.is_neg()


def all_finite(x: Tensor) -> bool:
    """Say whether all values of ``x`` are finite: none has the exponent of infinity and NaN."""
    return bool(_largest_bits(_bits(x)) < _INFINITE)


def grid_rounded(x: Tensor, grid: tuple[float, ...], out: Tensor) -> bool:
    """Write scale (clamp(round(x / scale + zero)) - zero) into ``out`` and say whether all values are finite."""
    values = _flat(x)
    return bool(_grid_rounded(values, values.view(np.int32), _flat(out), *grid) < _INFINITE)


def grid_codes(x: Tensor, grid: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Return the codes clamp(round(x / scale + zero)) as floats, and their values."""
    codes, values = torch.empty_like(x), torch.empty_like(x)
    _grid_codes(_flat(x), _flat(codes), _flat(values), *grid)
    return codes, values


def steps_rounded(x: Tensor, step: Tensor, most: Tensor) -> tuple[Tensor, bool]:
    """Return s sign(x) floor(min(|x| / s, most) + 0.5), and whether all values of ``x`` are finite.

    Shapes: x [rows, width], step, most [rows, 1] or [1, width].
    """
    values = torch.empty_like(x)
    kernel = _rows_rounded if by_row(x, step) else _columns_rounded
    largest = kernel(x.detach().numpy(), _bits(x).reshape(x.shape), _flat(step), _flat(most), values.numpy())
    return values, bool(largest < _INFINITE)


def steps_gradients(
    x: Tensor, gradient: Tensor, step: Tensor, half: Tensor, local_step: bool, local_bits: bool
) -> tuple[Tensor, Tensor]:
    """Return the gradients of steps and bits, shaped as they are: sums with the loss's gradient, or local means."""
    found = torch.zeros(2, step.numel())
    kernel = _rows_gradients if by_row(x, step) else _columns_gradients
    kernel(x.numpy(), gradient.numpy(), _flat(step), _flat(half), found.numpy(), local_step, local_bits)
    return found[0].view_as(step), found[1].view_as(step)


def rows_nearest(x: Tensor, reach: Tensor, order: Tensor) -> Tensor:
    """Return for each row of ``x`` which of the sorted ``reach`` is nearest to its largest value, as ``order`` has it.

    Of two equally near the one with the smaller number is taken. Shapes: x [rows, width], reach and order [groups].
    """
    bits = np.empty(len(x), np.int32)
    _rows_largest(_bits(x).reshape(len(x), -1), bits)
    found = np.empty(len(x), np.int64)
    _nearest(bits.view(np.float32), reach.numpy(), order.numpy(), found)
    return torch.from_numpy(found)


def count_upper_bits(rows: Any, times: Any, counts: Any) -> None:
    """Add to ``counts`` [65536] how often the upper 16 bits of each value occur, each row so many ``times``.

    Shapes: rows [rows, width] float32, times [rows] int64.
    """
    _count_upper_bits(rows.view(np.uint32), times, counts)


def spread_errors(low: Any, high: Any, counts: Any, scale: Any, first: Any, last: Any, out: Any) -> None:
    """Write the squared error of each grid over bins whose values are evenly spread, sum count E[(q(x) - x)^2].

    In units of the scale, u = x / scale, a value's code is r = clamp(round(u), first, last), and the integral of
    (u - r)^2 is r / 12 + (u - r)^3 / 3, clipped or not.

    Shapes: low, high, counts [bins]; scale, first, last, out [grids]; all float64.
    """
    _spread_errors(low, high, counts, scale, first, last, out)


def by_row(x: Tensor, step: Tensor) -> bool:
    """Say whether there is a step for each row, [rows, 1], and not for each column, [1, width]."""
    return step.size(0) == len(x) and step.size(1) == 1


def _flat(x: Tensor) -> Any:
    return (x.detach() if x.requires_grad else x).numpy().reshape(-1)


def _bits(x: Tensor) -> Any:
    return _flat(x).view(np.int32)


@_compiled
def _largest_bits(bits):  # type: ignore[no-untyped-def]
    largest = np.int32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i] & np.int32(_MAGNITUDE))
    return largest


@_compiled
def _count_upper_bits(bits, times, counts):  # type: ignore[no-untyped-def]
    for row in range(bits.shape[0]):
        for column in range(bits.shape[1]):
            counts[bits[row, column] >> np.uint32(16)] += times[row]


@_compiled
def _spread_errors(low, high, counts, scale, first, last, out):  # type: ignore[no-untyped-def]
    for grid in range(scale.size):
        inverse, total = 1 / scale[grid], 0.0
        for i in range(low.size):
            below, above = low[i] * inverse, high[i] * inverse
            code = min(max(np.rint(below), first[grid]), last[grid])
            other = min(max(np.rint(above), first[grid]), last[grid])
            off, width = below - code, above - below
            if width > 0:
                total += counts[i] * ((other - code) / 12 + ((above - other) ** 3 - off**3) / 3) / width
            else:
                total += counts[i] * off**2
        out[grid] = total * scale[grid] ** 2


@_compiled
def _grid_rounded(x, bits, values, inverse, zero, lowest, highest, scale):  # type: ignore[no-untyped-def]
    inverse, zero, scale = np.float32(inverse), np.float32(zero), np.float32(scale)
    lowest, highest = np.float32(lowest), np.float32(highest)
    largest = np.int32(0)
    for i in range(x.size):
        largest = max(largest, bits[i] & np.int32(_MAGNITUDE))
        code = np.rint(x[i] * inverse + zero)
        code = lowest if code < lowest else code
        code = highest if code > highest else code
        values[i] = (code - zero) * scale
    return largest


@_compiled
def _grid_codes(x, codes, values, inverse, zero, lowest, highest, scale):  # type: ignore[no-untyped-def]
    inverse, zero, scale = np.float32(inverse), np.float32(zero), np.float32(scale)
    lowest, highest = np.float32(lowest), np.float32(highest)
    for i in range(x.size):
        code = np.rint(x[i] * inverse + zero)
        code = lowest if code < lowest else code
        code = highest if code > highest else code
        codes[i] = code
        values[i] = (code - zero) * scale


@_compiled
def _rows_rounded(x, bits, step, most, values):  # type: ignore[no-untyped-def]
    half, largest = np.float32(0.5), np.int32(0)
    for row in range(x.shape[0]):
        size, limit = step[row], most[row]
        for column in range(x.shape[1]):
            largest = max(largest, bits[row, column] & np.int32(_MAGNITUDE))
            magnitude = abs(x[row, column]) / size
            magnitude = limit if magnitude > limit else magnitude
            values[row, column] = np.copysign(size * np.floor(magnitude + half), x[row, column])
    return largest


@_compiled
def _columns_rounded(x, bits, step, most, values):  # type: ignore[no-untyped-def]
    half, largest = np.float32(0.5), np.int32(0)
    for row in range(x.shape[0]):
        before, row_bits, after = x[row], bits[row], values[row]
        for column in range(x.shape[1]):
            largest = max(largest, row_bits[column] & np.int32(_MAGNITUDE))
            magnitude = abs(before[column]) / step[column]
            limit = most[column]
            magnitude = limit if magnitude > limit else magnitude
            after[column] = np.copysign(step[column] * np.floor(magnitude + half), before[column])
    return largest


@_reordered
def _rows_gradients(x, gradient, step, half, found, local_step, local_bits):  # type: ignore[no-untyped-def]
    one, nothing, width = np.float32(1), np.float32(0), np.float32(x.shape[1])
    log2 = np.float32(np.log(2))
    for row in range(x.shape[0]):
        size, limit = step[row], half[row] - one
        reach, of_bits = size * limit, half[row] * log2 * size
        step_sum = bits_sum = nothing
        for column in range(x.shape[1]):
            value = x[row, column]
            sign = one if value > nothing else (-one if value < nothing else nothing)
            outside = abs(value) > reach
            ratio = value / size
            magnitude = abs(ratio)
            magnitude = limit if magnitude > limit else magnitude
            code = sign * np.floor(magnitude + np.float32(0.5))
            difference = size * code - value
            error = one if difference > nothing else (-one if difference < nothing else nothing)
            slope = sign * limit if outside else code - ratio
            step_sum += (error if local_step else gradient[row, column]) * slope
            bits_sum += (error if local_bits else gradient[row, column]) * (sign * of_bits if outside else nothing)
        found[0, row] = step_sum / width if local_step else step_sum
        found[1, row] = bits_sum / width if local_bits else bits_sum


@_compiled
def _rows_largest(bits, found):  # type: ignore[no-untyped-def]
    # Of floats that are not negative the larger one has the larger bits, and whole numbers are compared faster.
    for row in range(bits.shape[0]):
        largest = np.int32(0)
        for column in range(bits.shape[1]):
            largest = max(largest, bits[row, column] & np.int32(_MAGNITUDE))
        found[row] = largest


@_compiled
def _columns_gradients(x, gradient, step, half, found, local_step, local_bits):  # type: ignore[no-untyped-def]
    one, nothing, height = np.float32(1), np.float32(0), np.float32(x.shape[0])
    log2 = np.float32(np.log(2))
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            size, limit, value = step[column], half[column] - one, x[row, column]
            sign = one if value > nothing else (-one if value < nothing else nothing)
            outside = abs(value) > size * limit
            ratio = value / size
            magnitude = abs(ratio)
            magnitude = limit if magnitude > limit else magnitude
            code = sign * np.floor(magnitude + np.float32(0.5))
            difference = size * code - value
            error = one if difference > nothing else (-one if difference < nothing else nothing)
            slope = sign * limit if outside else code - ratio
            found[0, column] += (error if local_step else gradient[row, column]) * slope
            of_bits = sign * half[column] * log2 * size if outside else nothing
            found[1, column] += (error if local_bits else gradient[row, column]) * of_bits
    if local_step:
        found[0] /= height
    if local_bits:
        found[1] /= height


@_compiled
def _nearest(values, reach, order, found):  # type: ignore[no-untyped-def]
    # All rows take a step of the search before any takes the next: so the steps of eight are one instruction, and no
    # processor has to foresee which way they go.
    found[:] = 0
    length = reach.size
    while length > 1:
        half = length >> 1
        for row in range(values.size):
            first = found[row]
            found[row] = first + half if reach[first + half - 1] < values[row] else first
        length -= half
    for row in range(values.size):
        value = values[row]
        above = found[row] + np.int64(reach[found[row]] < value)
        above = reach.size - 1 if above >= reach.size else above
        below = above - 1 if above > 0 else above
        far_above, far_below = (value - reach[above]) ** 2, (value - reach[below]) ** 2
        nearer_below = (far_below < far_above) | ((far_below == far_above) & (order[below] < order[above]))
        found[row] = order[below if nearer_below else above]
