"""Products of codes by the processor's dot product of four bytes (AVX-512 VNNI), rounded while in registers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import llvmlite.binding
import numpy as np
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gnncompress.runtime.arrays import empty
from gnncompress.runtime.rounding import Rounding, Second
from gnncompress.runtime.vectors import FLOATS, INT, INTS, LANES, LONG, arrays, function, long, loop, splat, variable

# Six rows by four vectors of columns: with four vectors of weights, one of features and a few numbers that fills the
# 32 registers.
ROWS, VECTORS = 6, 4


@lru_cache
def available() -> bool:
    """Say whether this processor has the instruction."""
    try:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512vnni"))
    except RuntimeError:  # LLVM does not know this kind of processor
        return False


def packed(weight: np.ndarray) -> np.ndarray:
    """Return a weight [inputs, outputs] of codes as the instruction takes it, [inputs / 4, outputs * 4]."""
    inputs, outputs = weight.shape
    made = empty((inputs // 4, outputs * 4), torch.int8)
    made[...] = weight.reshape(inputs // 4, 4, outputs).transpose(0, 2, 1).reshape(inputs // 4, -1)
    return made


def _tile(rows: int, vectors: int, second: Second) -> Any:
    """Return the function that makes ``rows`` rows by ``vectors`` vectors of a rounded product."""

    @intrinsic
    def tile(context, x, row, weight, start, totals, numbers, other, out, column):  # type: ignore[no-untyped-def]
        """Write out[row:, column:], rounded sums that begin at ``start``."""
        signature = types.void(x, types.int64, weight, start, totals, numbers, other, out, types.int64)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            x, row, weight, start, totals, table, other, out, column = arrays(context, builder, signature.args, given)
            dot = function(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, [INTS] * 3)
            flip = ir.Constant(INT, -0x7F7F7F80)  # the highest bit of each of four bytes
            targets = [builder.add(row, long(number)) for number in range(rows)]
            columns = [builder.add(column, long(number * LANES)) for number in range(vectors)]
            sums = [[variable(builder, INTS, start.load(None, at)) for at in columns] for _ in targets]
            features = [x.at(target, long(0)) for target in targets]
            with loop(builder, long(0), weight.size(0)) as (k, _):
                weights = [weight.load(k, builder.shl(at, ir.Constant(LONG, 2)), INTS) for at in columns]
                offset = builder.shl(k, ir.Constant(LONG, 2))
                for of_row, feature in zip(sums, features, strict=True):
                    address = builder.bitcast(builder.gep(feature, [offset]), INT.as_pointer())
                    four = splat(builder, builder.xor(builder.load(address, align=1), flip), INTS)
                    for place, found in zip(of_row, weights, strict=True):
                        builder.store(builder.call(dot, [builder.load(place), four, found]), place)
            scales = [splat(builder, builder.load(totals.at(None, target)), FLOATS) for target in targets]
            for number, at in enumerate(columns):
                rounding = Rounding(builder, table, at, "zeros", second)
                for target, of_row, scale in zip(targets, sums, scales, strict=True):
                    found = rounding.codes(builder.load(of_row[number]), scale, None, other, target, at)
                    out.store(found, target, at)
            return context.get_dummy_value()

        return signature, generate

    return tile


def of(second: Second) -> tuple[Any, Any, Any, Any]:
    """Return the functions for many rows by VECTORS vectors, one row by as many, many rows by one, and one by one."""
    return tuple(_tile(rows, vectors, second) for vectors in (VECTORS, 1) for rows in (ROWS, 1))
