"""The compiled inner loops over rows of codes: gather, add up, rescale, round and clamp in one pass over memory.

Codes are int8; sums of codes int32; scales float32. What follows a sum is done at once, since on rows of a few dozen
codes memory is what takes the time. A kernel that is given ``first`` and ``last`` makes those rows of its output alone,
so that blocks of rows that fit into a cache may follow each other, or be shared out among threads.
"""

from __future__ import annotations

import numpy as np

from gnncompress.runtime.compiling import compiled, inlined
from gnncompress.runtime.gathering import gather, gather_products, gather_weighted, total_four, total_one
from gnncompress.runtime.rounding import (
    ADD,
    AGAIN,
    HIGH,
    HIGH_2,
    LOW,
    LOW_2,
    NONE,
    ROWS,
    of,
    round_fitting_neighbours,
    round_neighbours,
    round_neighbours_one,
)
from gnncompress.runtime.vectors import LANES

_compiled = compiled("contract", "nsz")
# What the simulation does to one value at a time is done in its order, rounded as often: ranges that come from products
# of codes put many values on the very verge between two codes.
_faithful = compiled()
_f = np.float32
_NOTHING = np.zeros(0, np.float32)

_product_rows, _product_row = of("zeros", NONE, AGAIN, ADD)
_sum_rows, _sum_row = of("row", NONE, AGAIN, ADD)
_codes_rows, _codes_row = of("plain", NONE, ADD)


@inlined
def clamps_of(numbers, second):  # type: ignore[no-untyped-def]
    """Return the bounds of what is made, as codes."""
    low, high = (LOW, HIGH) if second == NONE else (LOW_2, HIGH_2)
    made = np.empty((2, numbers.shape[1]), np.int8)
    for c in range(numbers.shape[1]):
        made[0, c], made[1, c] = np.int8(numbers[low, c]), np.int8(numbers[high, c])
    return made


@_compiled
def rescale(x, numbers, out):  # type: ignore[no-untyped-def]
    """Write the codes of codes, rescaled, rounded and clamped."""
    clamps, i = clamps_of(numbers, NONE), 0
    while i + ROWS <= len(out):
        _codes_rows(x, i, _NOTHING, _NOTHING, numbers, clamps, NONE, x, out, i)
        i += ROWS
    while i < len(out):
        _codes_row(x, i, _NOTHING, _NOTHING, numbers, clamps, NONE, x, out, i)
        i += 1


@_compiled
def add(x, other, numbers, out):  # type: ignore[no-untyped-def]
    """Write the codes of a sum of two."""
    clamps, i = clamps_of(numbers, ADD), 0
    while i + ROWS <= len(out):
        _codes_rows(x, i, _NOTHING, _NOTHING, numbers, clamps, ADD, other, out, i)
        i += ROWS
    while i < len(out):
        _codes_row(x, i, _NOTHING, _NOTHING, numbers, clamps, ADD, other, out, i)
        i += 1


@_compiled
def look_up(x, table, width, out):  # type: ignore[no-untyped-def]
    """Write table[x + 128, c], or of a table with one column table[x + 128, 0], in ``width`` columns."""
    one = table.shape[1] == 1
    for i in range(x.shape[0]):
        row, found = x[i], out[i]
        for c in range(width):
            found[c] = table[np.int64(row[c]) + 128, 0 if one else c]
        found[width:] = 0


@inlined
def row_sum(x, i, less):  # type: ignore[no-untyped-def]
    """Return the sum of a row of codes, less a number."""
    width = x.shape[1]
    total, column = np.int32(-128 * width - less), 0
    while column + 4 * LANES <= width:
        total += total_four(x, i, column)
        column += 4 * LANES
    while column < width:
        total += total_one(x, i, column)
        column += LANES
    return _f(total)


@_compiled
def row_sums(x, less, out):  # type: ignore[no-untyped-def]
    """Write the sum of each row of codes, less a number."""
    for i in range(len(out)):
        out[i] = row_sum(x, i, less)


@_compiled
def finish(sums, totals, numbers, second, other, out):  # type: ignore[no-untyped-def]
    """Write the codes of a product from its sums and from the totals of the rows of codes that were multiplied.

    ``second`` is NONE, AGAIN or ADD, which adds the rows of ``other``.
    """
    clamps, i = clamps_of(numbers, second), 0
    while i + ROWS <= len(out):
        _product_rows(sums, i, totals, totals, numbers, clamps, second, other, out, i)
        i += ROWS
    while i < len(out):
        _product_row(sums, i, totals, totals, numbers, clamps, second, other, out, i)
        i += 1


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
    one = table.shape[1] == 1
    for i in range(out.shape[0]):
        row, found = x[i], out[i]
        for c in range(found.size):
            found[c] = table[np.int64(row[c]) + 128, 0 if one else c]


@_compiled
def multiply_sparse(starts, columns, values, weight, first, last, sums, totals):  # type: ignore[no-untyped-def]
    """Write the product of sparse rows, their values code - zero point, and a weight of codes, and the rows' sums."""
    for i in range(first, last):
        gather_products(weight, columns, values, starts[i], starts[i + 1], sums, totals, i - first)


@inlined
def _round_sums(sums, by, base, rows, numbers, clamps, second, other, out, r):  # type: ignore[no-untyped-def]
    """Round ROWS rows of sums, or fewer, each with a scale and a shift of its own."""
    if rows == ROWS:
        _sum_rows(sums, 0, by, base, numbers, clamps, second, other, out, r)
    else:
        for row in range(rows):
            _sum_row(sums, row, by, base, numbers, clamps, second, other, out, r + row)


@_compiled
def aggregate(starts, sources, x, zero, scale, shift, mean, numbers, second, fits, other, first, last, out):  # type: ignore[no-untyped-def]
    """Write the codes of sums, or means, of neighbours: sum of (x - zero) scale + shift; ``second`` as in finish.

    ``fits`` says that all values surely fit into 32 bits, which makes them cheaper to clamp.
    """
    by, base = np.full(ROWS, scale, np.float32), np.full(ROWS, shift, np.float32)
    whole_zero, clamps = np.int64(zero), clamps_of(numbers, second)
    i = first
    while i < last:
        many = i + ROWS <= last
        if mean:
            for row in range(ROWS if many else 1):
                by[row] = scale / _f(max(starts[i + row + 1] - starts[i + row], 1))
        given = starts, sources, x, i, whole_zero, by, base, numbers, clamps, second, other, out, i - first
        if many and fits:
            round_fitting_neighbours(*given)
        elif many:
            round_neighbours(*given)
        else:
            round_neighbours_one(*given)
        i += ROWS if many else 1


@_compiled
def aggregate_largest(starts, sources, x, nothing, width, first, last, out):  # type: ignore[no-untyped-def]
    """Write the largest of the neighbours' codes in ``width`` columns, ``nothing`` for a node without any."""
    for i in range(first, last):
        begin, end = starts[i], starts[i + 1]
        codes = out[i - first]
        codes[:width] = np.int8(-128) if end > begin else nothing
        codes[width:] = 0
        for k in range(begin, end):
            row = x[sources[k]]
            for c in range(width):
                codes[c] = max(codes[c], row[c])


@_faithful
def aggregate_weighted(  # type: ignore[no-untyped-def]
    starts, sources, weights, heads, columns, x, x_zero, x_scale, inverse, zero, low, high, scale, shift, mean,
    numbers, second, other, first, last, out
):  # fmt: skip
    """Write the codes of sums, or means, of neighbours' messages, each of which is rounded to codes first.

    message[h, c] = clamp(round(inverse sum over k of weights[h, k] x_scale (x[h, k, c] - x_zero) + zero))

    Shapes: weights [edges, heads * K] in the order of the edges, x [nodes, heads * K * columns or more], out [rows,
    heads * columns or more].
    """
    sums = np.zeros((ROWS, out.shape[1] + LANES), np.int32)
    by, base = np.empty(ROWS, np.float32), np.full(ROWS, shift, np.float32)
    clamps = clamps_of(numbers, second)
    for block in range(first, last, ROWS):
        rows = min(ROWS, last - block)
        for i in range(rows):
            begin, end = starts[block + i], starts[block + i + 1]
            of_messages = heads, columns, x_zero, x_scale, inverse, zero, low, high
            gather_weighted(x, sources, weights, begin, end, *of_messages, sums, i)
            by[i] = scale / _f(max(end - begin, 1)) if mean else scale
        _round_sums(sums, by, base, rows, numbers, clamps, second, other, out, block - first)


@_compiled
def pool(starts, nodes, x, scale, shift, mean, out):  # type: ignore[no-untyped-def]
    """Write the sums, or means, over the nodes of each graph of x scale + shift.

    Shapes: starts [graphs + 1], nodes [nodes] by graph, x [nodes, C or more] codes, scale, shift [C], out [graphs, C].
    """
    sums = np.empty((1, x.shape[1]), np.int32)
    for g in range(starts.size - 1):
        begin, end = starts[g], starts[g + 1]
        gather(x, nodes, begin, end, np.int32(0), sums, 0)
        number = _f(end - begin)
        by = _f(1) / max(number, _f(1)) if mean else _f(1)
        for c in range(out.shape[1]):
            out[g, c] = (_f(sums[0, c]) * scale[c] + number * shift[c]) * by


@_compiled
def pool_largest(starts, nodes, x, table, out):  # type: ignore[no-untyped-def]
    """Write table[c] of the largest code of each graph's nodes, 0 for a graph without any; table must not fall."""
    largest = np.empty(x.shape[1], np.int8)
    one = table.shape[1] == 1
    for g in range(starts.size - 1):
        begin, end = starts[g], starts[g + 1]
        largest[:] = -128
        for k in range(begin, end):
            row = x[nodes[k]]
            for c in range(row.size):
                largest[c] = max(largest[c], row[c])
        for c in range(out.shape[1]):
            out[g, c] = table[np.int64(largest[c]) + 128, 0 if one else c] if end > begin else _f(0)


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
