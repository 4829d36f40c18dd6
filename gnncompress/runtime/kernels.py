"""The compiled inner loops over rows of codes: gather, add up, rescale, round and clamp in one pass over memory.

Codes are int8; sums of codes int32; scales float32. What follows a sum is done at once, since on rows of a few dozen
codes memory is what takes the time. A kernel that is given ``first`` and ``last`` makes those rows of its output alone,
so that blocks of rows that fit into a cache may follow each other, or be shared out among threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from gnncompress.runtime.vectors import (
    LANES,
    gather_four,
    gather_one,
    round_codes,
    round_codes_add,
    round_product,
    round_product_add,
    round_product_again,
    round_sum,
    round_sum_add,
    round_sum_again,
)

# What follows the first rounding of a row.
NONE, AGAIN, ADD = range(3)

# With Python's rule for dividing by zero no loop that divides would be vectorized. A product and a sum may become one
# operation, rounded once; nothing else is reordered.
_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
_f = np.float32


@_compiled
def quantize(x, inverse, zero, low, high, out):  # type: ignore[no-untyped-def]
    """Write clamp(round(x inverse + zero)); return how many values were clamped, -1 if one is not finite."""
    clamped, odd = 0, 0
    for i in range(x.shape[0]):
        row, codes = x[i], out[i]
        codes[row.size :] = 0
        for c in range(row.size):
            v = np.rint(row[c] * inverse + zero)
            odd += 0 if np.isfinite(row[c]) else 1
            clamped += 1 if v < low or v > high else 0
            v = low if v < low else v
            v = high if v > high else v
            codes[c] = np.int8(np.int32(v))
    return -1 if odd else clamped


@_compiled
def rescale(x, numbers, out):  # type: ignore[no-untyped-def]
    """Write the codes of codes, rescaled, rounded and clamped."""
    for i in range(len(out)):
        round_codes(x, i, _f(0), _f(0), numbers, x, 0, out, i)


@_compiled
def add(x, other, numbers, out):  # type: ignore[no-untyped-def]
    """Write the codes of a sum of two."""
    for i in range(len(out)):
        round_codes_add(x, i, _f(0), _f(0), numbers, other, i, out, i)


@_compiled
def look_up(x, table, out):  # type: ignore[no-untyped-def]
    """Write table[x + 128, c], or of a table with one column table[x + 128, 0]."""
    one = table.shape[1] == 1
    for i in range(x.shape[0]):
        row, found = x[i], out[i]
        for c in range(row.size):
            found[c] = table[np.int64(row[c]) + 128, 0 if one else c]


@_compiled
def row_sums(x, out):  # type: ignore[no-untyped-def]
    """Write the sum of each row of codes."""
    for i in range(x.shape[0]):
        total, row = np.int32(0), x[i]
        for c in range(row.size):
            # As unsigned bytes, which processors have an instruction to add up for.
            total += np.int32(np.uint8(row[c]) ^ np.uint8(128))
        out[i] = _f(total - 128 * row.size)


@_compiled
def finish(sums, totals, numbers, second, other, out):  # type: ignore[no-untyped-def]
    """Write the codes of a product from its sums and from the totals of the rows of codes that were multiplied.

    ``second`` is NONE, AGAIN or ADD, which adds the rows of ``other``.
    """
    for i in range(len(out)):
        if second == AGAIN:
            round_product_again(sums, i, totals[i], _f(0), numbers, sums, 0, out, i)
        elif second == ADD:
            round_product_add(sums, i, totals[i], _f(0), numbers, other, i, out, i)
        else:
            round_product(sums, i, totals[i], _f(0), numbers, sums, 0, out, i)


@_compiled
def finish_values(sums, totals, zeros, scale, shift, out):  # type: ignore[no-untyped-def]
    """Write (sums - zeros total) scale + shift in floats: a product that no quantizer follows."""
    for i in range(out.shape[0]):
        row, values, total = sums[i], out[i], totals[i]
        for c in range(values.size):
            values[c] = (_f(row[c]) - zeros[c] * total) * scale[c] + shift[c]


@_compiled
def values_of(x, table, out):  # type: ignore[no-untyped-def]
    """Write table[x + 128, c], floats, or of a table with one column table[x + 128, 0]."""
    for i in range(out.shape[0]):
        row, found = x[i], out[i]
        for c in range(found.size):
            found[c] = table[np.int64(row[c]) + 128, c if table.shape[1] > 1 else 0]


@_compiled
def multiply_sparse(starts, columns, values, weight, start, first, last, sums, totals):  # type: ignore[no-untyped-def]
    """Write ``start`` plus the product of sparse rows, their values code - zero point, and a weight of codes."""
    for i in range(first, last):
        row, total = sums[i - first], np.int32(0)
        for c in range(row.size):
            row[c] = start[c]
        for k in range(starts[i], starts[i + 1]):
            value, weights = np.int32(values[k]), weight[columns[k]]
            total += value
            for c in range(row.size):
                row[c] += value * np.int32(weights[c])
        totals[i - first] = _f(total)


@_compiled
def _gather(sources, begin, end, x, sums):  # type: ignore[no-untyped-def]
    """Add the rows ``sources[begin:end]`` of codes up."""
    column, width = 0, sums.shape[1]
    while column + 4 * LANES <= width:
        gather_four(x, sources, begin, end, column, sums)
        column += 4 * LANES
    while column < width:
        gather_one(x, sources, begin, end, column, sums)
        column += LANES


@_compiled
def aggregate(starts, sources, x, zero, scale, shift, mean, numbers, second, other, first, last, out):  # type: ignore[no-untyped-def]
    """Write the codes of the sums, or means, of neighbours: sum of (x - zero) scale + shift; ``second`` as in finish."""
    sums = np.empty((1, x.shape[1]), np.int32)
    for i in range(first, last):
        begin, end = starts[i], starts[i + 1]
        _gather(sources, begin, end, x, sums)
        by = scale / _f(max(end - begin, 1)) if mean else scale
        base = shift - _f(end - begin) * zero * by
        if second == ADD:
            round_sum_add(sums, 0, by, base, numbers, other, i - first, out, i - first)
        elif second == AGAIN:
            round_sum_again(sums, 0, by, base, numbers, sums, 0, out, i - first)
        else:
            round_sum(sums, 0, by, base, numbers, sums, 0, out, i - first)


@_compiled
def aggregate_largest(starts, sources, x, nothing, first, last, out):  # type: ignore[no-untyped-def]
    """Write the largest of the neighbours' codes, ``nothing`` for a node without any."""
    for i in range(first, last):
        begin, end = starts[i], starts[i + 1]
        codes = out[i - first]
        for c in range(codes.size):
            codes[c] = np.int8(-128) if end > begin else nothing
        for k in range(begin, end):
            row = x[sources[k]]
            for c in range(codes.size):
                codes[c] = max(codes[c], row[c])


@_compiled
def aggregate_weighted(  # type: ignore[no-untyped-def]
    starts, sources, weights, heads, columns, x, x_zero, x_scale, inverse, zero, low, high, scale, shift, mean,
    numbers, second, other, first, last, out
):  # fmt: skip
    """Write the codes of sums, or means, of neighbours' messages, each of which is rounded to codes first.

    message[h, c] = clamp(round(inverse sum over k of weights[h, k] x_scale (x[h, k, c] - x_zero) + zero))

    Shapes: weights [edges, heads * K] in the order of the edges, x [nodes, heads * K * columns or more], out [rows,
    heads * columns or more].
    """
    kernels = weights.shape[1] // heads
    sums = np.zeros((1, out.shape[1]), np.int32)
    message = np.empty(columns, np.float32)
    for i in range(first, last):
        begin, end = starts[i], starts[i + 1]
        sums[:] = 0
        for e in range(begin, end):
            row = x[sources[e]]
            for h in range(heads):
                of_head = sums[0, h * columns : (h + 1) * columns]
                message[:] = 0
                for k in range(kernels):
                    weight = weights[e, h * kernels + k]
                    part = row[(h * kernels + k) * columns : (h * kernels + k + 1) * columns]
                    for c in range(columns):
                        message[c] += weight * (x_scale * (_f(part[c]) - x_zero))
                for c in range(columns):
                    v = np.rint(message[c] * inverse + zero)
                    v = low if v < low else v
                    v = high if v > high else v
                    of_head[c] += np.int32(v)
        by = scale / _f(max(end - begin, 1)) if mean else scale
        base = shift - _f(end - begin) * zero * by
        if second == ADD:
            round_sum_add(sums, 0, by, base, numbers, other, i - first, out, i - first)
        elif second == AGAIN:
            round_sum_again(sums, 0, by, base, numbers, sums, 0, out, i - first)
        else:
            round_sum(sums, 0, by, base, numbers, sums, 0, out, i - first)


@_compiled
def pool(starts, x, low, high, scale, shift, mean, out):  # type: ignore[no-untyped-def]
    """Write the sums, or means, over the rows of each graph of min(max(x, low), high) scale + shift.

    Shapes: starts [graphs + 1], x [nodes, C] codes, out [graphs, C].
    """
    sums = np.empty(x.shape[1], np.int64)
    for g in range(starts.size - 1):
        begin, end = starts[g], starts[g + 1]
        sums[:] = 0
        for i in range(begin, end):
            row = x[i]
            for c in range(row.size):
                sums[c] += min(max(row[c], low[c]), high[c])
        number = _f(end - begin)
        by = _f(1) / max(number, _f(1)) if mean else _f(1)
        for c in range(out.shape[1]):
            out[g, c] = (_f(sums[c]) * scale[c] + number * shift[c]) * by


@_compiled
def pool_largest(starts, x, table, out):  # type: ignore[no-untyped-def]
    """Write table[c] of the largest code of each graph's rows, 0 for a graph without nodes; table must not fall."""
    largest = np.empty(x.shape[1], np.int8)
    for g in range(starts.size - 1):
        begin, end = starts[g], starts[g + 1]
        largest[:] = -128
        for i in range(begin, end):
            row = x[i]
            for c in range(row.size):
                largest[c] = max(largest[c], row[c])
        for c in range(out.shape[1]):
            column = c if table.shape[1] > 1 else 0
            out[g, c] = table[np.int64(largest[c]) + 128, column] if end > begin else _f(0)


@_compiled
def by_target(targets, sources, nodes, starts, ordered, order):  # type: ignore[no-untyped-def]
    """Sort edges by target, in the order they come: write starts [nodes + 1], sources and the edges' numbers.

    Return whether all of both lie in [0, nodes).
    """
    starts[:] = 0
    for e in range(targets.size):
        if not (0 <= targets[e] < nodes and 0 <= sources[e] < nodes):
            return False
        starts[targets[e] + 1] += 1
    for i in range(nodes):
        starts[i + 1] += starts[i]
    place = starts[:-1].copy()
    for e in range(targets.size):
        at = place[targets[e]]
        place[targets[e]] = at + 1
        ordered[at] = sources[e]
        order[at] = e
    return True
