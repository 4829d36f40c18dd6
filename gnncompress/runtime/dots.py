"""Products of codes by the processor's dot product of four bytes (AVX-512 VNNI), rounded while in registers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gnncompress.runtime.arrays import empty
from gnncompress.runtime.rounding import ADD, AGAIN, NONE, First, Rounding, round_all
from gnncompress.runtime.vectors import (
    FLOATS,
    GROUP,
    INT,
    INTS,
    LANES,
    arrays,
    choose,
    function,
    has,
    long,
    loop,
    splat,
    strips,
    variable,
)

# Four rows by four vectors of columns: what is left to do with their sums fits into the processor's queues beside the
# products of the next tile. Six rows would fill the 32 registers, and then wait.
ROWS, VECTORS = 4, GROUP


@lru_cache
def available() -> bool:
    """Say whether this processor has the instruction."""
    return has("avx512vnni")


def packed(weight: np.ndarray) -> np.ndarray:
    """Return a weight [inputs, outputs] of codes as the instruction takes it, [inputs / 4 rounded up, outputs * 4]."""
    inputs, outputs = weight.shape
    fours = -(-inputs // 4)
    made = empty((fours, outputs * 4), torch.int8)
    filled = np.pad(weight, ((0, fours * 4 - inputs), (0, 0)))
    made[...] = filled.reshape(fours, 4, outputs).transpose(0, 2, 1).reshape(fours, -1)
    return made


def _tile(rows: int, vectors: int) -> Any:
    """Return the function that makes ``rows`` rows by ``vectors`` vectors of a rounded product."""

    @intrinsic
    def tile(context, x, row, weight, start, totals, zeros, numbers, clamps, second, other, out, column):  # type: ignore[no-untyped-def]
        """Write out[row:, column:], rounded sums that begin at ``start``; ``zeros``: whether totals count."""
        signature = types.void(
            x, types.int64, weight, start, totals, types.boolean, numbers, clamps, types.int64, other, out, types.int64
        )

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            x, row, weight, start, totals, zeros, table, clamps, second, other, out, column = arrays(
                context, builder, signature.args, given
            )
            targets = [builder.add(row, long(number)) for number in range(rows)]
            columns = [builder.add(column, long(number * LANES)) for number in range(vectors)]
            sums = _sums(builder, x, targets, weight, start, columns)

            def way(first: First, of: int) -> Callable[[], None]:
                def make() -> None:
                    scales = [splat(builder, builder.load(totals.at(None, long(at))), FLOATS) for at in range(rows)]
                    found = [[builder.load(place) for place in of_row] for of_row in sums]
                    rounding = Rounding(builder, table, clamps, columns, first, of, True)
                    round_all(rounding, found, scales, scales, other, targets, out)

                return make

            with builder.if_else(zeros) as (counted, not_counted):
                with counted:
                    choose(builder, second, {of: way("zeros", of) for of in (NONE, AGAIN, ADD)})
                with not_counted:
                    choose(builder, second, {of: way("plain", of) for of in (NONE, AGAIN, ADD)})
            return context.get_dummy_value()

        return signature, generate

    return tile


@intrinsic
def totals_of_many(context, x, row, less, totals):  # type: ignore[no-untyped-def]
    """Write to totals the sums of ROWS rows of codes from ``row`` on, each less a number; LANES numbers are written."""
    signature = types.void(x, types.int64, types.int64, totals)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        x, row, less, totals = arrays(context, builder, signature.args, given)
        rows = [builder.add(row, long(number)) for number in range(ROWS)]
        nothing = ir.Constant(INTS, [0] * LANES)
        places = [variable(builder, INTS, nothing) for _ in rows]
        dot = function(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, [INTS] * 3)
        ones = ir.Constant(INTS, [0x01010101] * LANES)

        def make(columns: list[Any]) -> None:
            kind = ir.VectorType(ir.IntType(8), len(columns) * LANES)
            for of_row, place in zip(rows, places, strict=True):
                found = builder.xor(x.load(of_row, columns[0], kind), ir.Constant(kind, [128] * kind.count))
                if len(columns) < GROUP:  # the rest of the register counts for nothing
                    order = ir.Constant(
                        ir.VectorType(INT, GROUP * LANES), [min(at, LANES) for at in range(GROUP * LANES)]
                    )
                    found = builder.shuffle_vector(found, ir.Constant(kind, [0] * kind.count), order)
                four = builder.bitcast(found, INTS)
                builder.store(builder.call(dot, [builder.load(place), four, ones]), place)

        strips(builder, x.size(1), make)
        found = added_up(builder, [builder.load(place) for place in places])
        flipped = builder.add(builder.mul(x.size(1), long(128)), less)
        found = builder.sub(found, splat(builder, builder.trunc(flipped, INT), INTS))
        totals.store(builder.sitofp(found, FLOATS), None, long(0))
        return context.get_dummy_value()

    return signature, generate


def added_up(builder: Any, vectors: list[Any]) -> Any:
    """Return a vector whose first numbers are the sums of the lanes of some vectors, LANES of them at most."""
    left, size = vectors, LANES // 2
    while size:
        # Blocks of 2 ``size`` lanes, each one vector's, become blocks of ``size``, those of two vectors in one.
        first = [at for at in range(2 * LANES) if at % (2 * size) < size]
        pairs = [(left[at], left[min(at + 1, len(left) - 1)]) for at in range(0, len(left), 2)]
        halves = [ir.Constant(ir.VectorType(INT, LANES), [at + offset for at in first]) for offset in (0, size)]
        left = [builder.add(*(builder.shuffle_vector(a, b, half) for half in halves)) for a, b in pairs]
        size //= 2
    return left[0]


def _sums(builder: Any, x: Any, rows: list[Any], weight: Any, start: Any, columns: list[Any]) -> list[list[Any]]:
    """Return the places of the sums of products of rows of x and columns of a weight, which begin at ``start``."""
    dot = function(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, [INTS] * 3)
    # The highest bit of each byte; hidden from LLVM, which would flip before it fills a register, and so with a part of
    # the processor that the products need.
    bits = ir.Constant(INTS, [-0x7F7F7F80] * LANES)
    flip = builder.asm(ir.FunctionType(INTS, [INTS]), "", "=x,0", [bits], True)
    sums = [[variable(builder, INTS, start.load(None, at)) for at in columns] for _ in rows]
    features = [x.at(row, long(0)) for row in rows]
    with loop(builder, long(0), weight.size(0)) as (k, _):
        weights = [weight.load(k, builder.shl(at, long(2)), INTS) for at in columns]
        offset = builder.shl(k, long(2))
        for of_row, feature in zip(sums, features, strict=True):
            address = builder.bitcast(builder.gep(feature, [offset]), INT.as_pointer())
            four = builder.xor(splat(builder, builder.load(address, align=1), INTS), flip)
            for place, found in zip(of_row, weights, strict=True):
                builder.store(builder.call(dot, [builder.load(place), four, found]), place)
    return sums


many_wide, one_wide, many_narrow, one_narrow = (_tile(rows, vectors) for vectors in (VECTORS, 1) for rows in (ROWS, 1))
