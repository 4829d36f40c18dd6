"""The compiled loops of models in floats: sums over neighbours, and products with sparse features or weights."""

from __future__ import annotations

import numpy as np

from gnncompress.runtime.compiling import compiled, inlined
from gnncompress.runtime.gathering import gather_floats_four, gather_floats_one
from gnncompress.runtime.vectors import LANES

_compiled = compiled("contract", "nsz")
_f = np.float32
# So many rows go through a sparse weight together, as vectors.
_TOGETHER = 4 * LANES


@inlined
def _add(x, sources, weights, begin, end, sums, row):  # type: ignore[no-untyped-def]
    """Add to a row of sums the rows ``sources[begin:end]``, each times its weight."""
    column, width = 0, sums.shape[1]
    while column + 4 * LANES <= width:
        gather_floats_four(x, sources, weights, begin, end, column, sums, row)
        column += 4 * LANES
    while column + LANES <= width:
        gather_floats_one(x, sources, weights, begin, end, column, sums, row)
        column += LANES
    if column < width:
        for k in range(begin, end):
            source, weight = sources[k], weights[k]
            for c in range(column, width):
                sums[row, c] += weight * x[source, c]


@_compiled
def add_up(starts, sources, weights, x, mean, first, last, out):  # type: ignore[no-untyped-def]
    """Write the sums, or means, of neighbours' rows, each times the weight of its edge."""
    for i in range(first, last):
        begin, end = starts[i], starts[i + 1]
        out[i - first] = 0
        _add(x, sources, weights, begin, end, out, i - first)
        if mean:
            out[i - first] /= _f(max(end - begin, 1))


@_compiled
def add_up_blocks(starts, sources, weights, heads, columns, x, mean, first, last, out):  # type: ignore[no-untyped-def]
    """Write the same for K weights an edge and head; see ``kernels.aggregate_weighted`` for the shapes."""
    kernels = weights.shape[1] // heads
    for i in range(first, last):
        begin, end = starts[i], starts[i + 1]
        values = out[i - first]
        values[:] = 0
        for e in range(begin, end):
            row = x[sources[e]]
            for h in range(heads):
                of_head = values[h * columns : (h + 1) * columns]
                for k in range(kernels):
                    weight = weights[e, h * kernels + k]
                    part = row[(h * kernels + k) * columns : (h * kernels + k + 1) * columns]
                    for c in range(columns):
                        of_head[c] += weight * part[c]
        if mean:
            values /= _f(max(end - begin, 1))


@_compiled
def multiply_sparse_rows(starts, columns, values, weight, bias, first, last, out):  # type: ignore[no-untyped-def]
    """Write the product of sparse rows and a dense weight [inputs, outputs], plus bias."""
    for i in range(first, last):
        out[i - first] = bias
        _add(weight, columns, values, starts[i], starts[i + 1], out, i - first)


@_compiled
def multiply_by_sparse(x, starts, inputs, values, bias, out):  # type: ignore[no-untyped-def]
    """Write the product of dense rows and a sparse weight, CSR by output, plus bias."""
    turned = np.zeros((x.shape[1], _TOGETHER), np.float32)
    sums = np.empty((1, _TOGETHER), np.float32)
    for block in range(0, len(out), _TOGETHER):
        rows = min(_TOGETHER, len(out) - block)
        for r in range(rows):
            for k in range(x.shape[1]):
                turned[k, r] = x[block + r, k]
        for o in range(out.shape[1]):
            sums[:] = bias[o]
            _add(turned, inputs, values, starts[o], starts[o + 1], sums, 0)
            for r in range(rows):
                out[block + r, o] = sums[0, r]
