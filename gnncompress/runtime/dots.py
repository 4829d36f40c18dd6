"""Products of codes, rounded while in registers. How they are multiplied follows from the type of the packed weight.

int8: dot products of four bytes (AVX-512 VNNI); int16: of pairs of 16 bits (AVX2); float32: one input at a time, in
sums short enough to be exact. All add up in int32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gnncompress.runtime.arrays import empty
from gnncompress.runtime.gathering import total_of
from gnncompress.runtime.levels import Level
from gnncompress.runtime.rounding import ADD, AGAIN, NONE, First, Rounding, round_all
from gnncompress.runtime.vectors import (
    FLOAT,
    FLOATS,
    GROUP,
    INT,
    INTS,
    LANES,
    SHORT,
    SHORTS,
    arrays,
    choose,
    function,
    has,
    long,
    loop,
    pairs,
    splat,
    strips,
    variable,
)

# Four rows by four vectors of columns: what is left to do with their sums fits into the processor's queues beside the
# products of the next tile. Six rows would fill the 32 registers, and then wait. Where there are 16 registers, of half
# the size, four rows by one vector.
ROWS = 4
# Sums of so many products of codes are at most 2^24, and so are whole numbers that float32 has.
EXACT = 2**24 // 128**2
_WIDENED = {types.int16: SHORT, types.float32: FLOAT}


def packed(weight: np.ndarray, level: Level) -> np.ndarray:
    """Return a weight [inputs, outputs] as a level takes it, ``together`` inputs of each output side by side."""
    inputs, outputs = weight.shape
    steps = -(-inputs // level.together)
    filled = np.pad(weight, ((0, steps * level.together - inputs), (0, 0)))
    made = empty((steps, outputs * level.together), torch.from_numpy(np.empty(0, level.dtype)).dtype)
    made[...] = filled.reshape(steps, level.together, outputs).transpose(0, 2, 1).reshape(steps, -1)
    return made


def _group() -> int:
    """Return how many vectors of columns are in a tile."""
    return GROUP if has("avx512bw") else 1


def _rounded(rows: int) -> Any:
    """Return the function that makes ``rows`` rows of a rounded product."""

    @intrinsic
    def product(context, x, i, room, weight, start, zeros, less, totals, numbers, clamps, second, other, out):  # type: ignore[no-untyped-def]
        """Write rows of out from i on, rounded sums that begin at ``start``; ``zeros``: whether rows' totals count."""
        of_rounding = types.boolean, types.int64, totals, numbers, clamps, types.int64
        signature = types.void(x, types.int64, room, weight, start, *of_rounding, other, out)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            x, i, room, weight, start, zeros, less, totals, table, clamps, second, other, out = arrays(
                context, builder, signature.args, given
            )
            targets = [builder.add(i, long(number)) for number in range(rows)]
            features = _features(builder, x, targets, room, weight)
            with builder.if_then(zeros):
                _total(builder, x, targets, less, totals, weight)

            def make(columns: list[Any]) -> None:
                sums = _sums(builder, features, weight, start, columns)

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

            strips(builder, out.size(1), make, _group())
            return context.get_dummy_value()

        return signature, generate

    return product


def _unrounded(rows: int) -> Any:
    """Return the function that makes ``rows`` rows of a product's sums."""

    @intrinsic
    def product(context, x, i, room, weight, start, sums):  # type: ignore[no-untyped-def]
        """Write rows of sums from i on, which begin at ``start``."""
        signature = types.void(x, types.int64, room, weight, start, sums)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            x, i, room, weight, start, out = arrays(context, builder, signature.args, given)
            targets = [builder.add(i, long(number)) for number in range(rows)]
            features = _features(builder, x, targets, room, weight)

            def make(columns: list[Any]) -> None:
                for target, of_row in zip(targets, _sums(builder, features, weight, start, columns), strict=True):
                    for place, column in zip(of_row, columns, strict=True):
                        out.store(builder.load(place), target, column)

            strips(builder, out.size(1), make, _group())
            return context.get_dummy_value()

        return signature, generate

    return product


def _features(builder: Any, x: Any, rows: list[Any], room: Any, weight: Any) -> list[Any]:
    """Return where each row's codes begin, as the weight is to be multiplied by; wider ones are put into ``room``."""
    if weight.kind.dtype == types.int8:
        return [x.at(row, long(0)) for row in rows]
    wide = _WIDENED[weight.kind.dtype]
    for number, row in enumerate(rows):

        def make(columns: list[Any], row: Any = row, number: int = number) -> None:
            width = len(columns) * LANES
            codes = x.load(row, columns[0], ir.VectorType(ir.IntType(8), width))
            widened = builder.sext(codes, ir.VectorType(SHORT, width))
            if wide == FLOAT:
                widened = builder.sitofp(widened, ir.VectorType(FLOAT, width))
            room.store(widened, long(number), columns[0])

        strips(builder, x.size(1), make)
    return [room.at(long(number), long(0)) for number in range(len(rows))]


def _total(builder: Any, x: Any, rows: list[Any], less: Any, totals: Any, weight: Any) -> None:
    """Write to totals the sums of rows of codes, each less a number; LANES numbers are written by VNNI."""
    less = builder.add(builder.mul(x.size(1), long(128)), less)  # codes count for 128 more
    if weight.kind.dtype == types.int8 and len(rows) > 1:
        _total_by_fours(builder, x, rows, less, totals)
        return
    for number, row in enumerate(rows):
        total = variable(builder, INT, builder.trunc(builder.neg(less), INT))

        def make(columns: list[Any], row: Any = row, total: Any = total) -> None:
            found = total_of(builder, x, row, columns[0], len(columns))
            builder.store(builder.add(builder.load(total), found), total)

        strips(builder, x.size(1), make)
        builder.store(builder.sitofp(builder.load(total), FLOAT), totals.at(None, long(number)))


def _total_by_fours(builder: Any, x: Any, rows: list[Any], less: Any, totals: Any) -> None:
    nothing = ir.Constant(INTS, [0] * LANES)
    places = [variable(builder, INTS, nothing) for _ in rows]
    dot = function(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, [INTS] * 3)
    ones = ir.Constant(INTS, [0x01010101] * LANES)

    def make(columns: list[Any]) -> None:
        kind = ir.VectorType(ir.IntType(8), len(columns) * LANES)
        for of_row, place in zip(rows, places, strict=True):
            found = builder.xor(x.load(of_row, columns[0], kind), ir.Constant(kind, [128] * kind.count))
            if len(columns) < GROUP:  # the rest of the register counts for nothing
                order = ir.Constant(ir.VectorType(INT, GROUP * LANES), [min(at, LANES) for at in range(GROUP * LANES)])
                found = builder.shuffle_vector(found, ir.Constant(kind, [0] * kind.count), order)
            four = builder.bitcast(found, INTS)
            builder.store(builder.call(dot, [builder.load(place), four, ones]), place)

    strips(builder, x.size(1), make)
    found = added_up(builder, [builder.load(place) for place in places])
    found = builder.sub(found, splat(builder, builder.trunc(less, INT), INTS))
    totals.store(builder.sitofp(found, FLOATS), None, long(0))


def added_up(builder: Any, vectors: list[Any]) -> Any:
    """Return a vector whose first numbers are the sums of the lanes of some vectors, LANES of them at most."""
    left, size = vectors, LANES // 2
    while size:
        # Blocks of 2 ``size`` lanes, each one vector's, become blocks of ``size``, those of two vectors in one.
        first = [at for at in range(2 * LANES) if at % (2 * size) < size]
        both = [(left[at], left[min(at + 1, len(left) - 1)]) for at in range(0, len(left), 2)]
        halves = [ir.Constant(ir.VectorType(INT, LANES), [at + offset for at in first]) for offset in (0, size)]
        left = [builder.add(*(builder.shuffle_vector(a, b, half) for half in halves)) for a, b in both]
        size //= 2
    return left[0]


def _sums(builder: Any, features: list[Any], weight: Any, start: Any, columns: list[Any]) -> list[list[Any]]:
    """Return the places of the sums of products of rows and columns of a weight, which begin at ``start``."""
    sums = [[variable(builder, INTS, start.load(None, at)) for at in columns] for _ in features]
    add = {types.int8: _add_fours, types.int16: _add_pairs, types.float32: _add_floats}[weight.kind.dtype]
    add(builder, features, weight, columns, sums)
    return sums


def _add_fours(builder: Any, features: list[Any], weight: Any, columns: list[Any], sums: list[list[Any]]) -> None:
    dot = function(builder, "llvm.x86.avx512.vpdpbusd.512", INTS, [INTS] * 3)
    # The highest bit of each byte; hidden from LLVM, which would flip before it fills a register, and so with a part of
    # the processor that the products need.
    bits = ir.Constant(INTS, [-0x7F7F7F80] * LANES)
    flip = builder.asm(ir.FunctionType(INTS, [INTS]), "", "=x,0", [bits], True)
    with loop(builder, long(0), weight.size(0)) as (k, _):
        weights = [weight.load(k, builder.shl(at, long(2)), INTS) for at in columns]
        for of_row, feature in zip(sums, features, strict=True):
            address = builder.bitcast(builder.gep(feature, [builder.shl(k, long(2))]), INT.as_pointer())
            four = builder.xor(splat(builder, builder.load(address, align=1), INTS), flip)
            for place, found in zip(of_row, weights, strict=True):
                builder.store(builder.call(dot, [builder.load(place), four, found]), place)


def _add_pairs(builder: Any, features: list[Any], weight: Any, columns: list[Any], sums: list[list[Any]]) -> None:
    with loop(builder, long(0), weight.size(0)) as (k, _):
        weights = [weight.load(k, builder.shl(at, long(1)), SHORTS) for at in columns]
        for of_row, feature in zip(sums, features, strict=True):
            address = builder.bitcast(builder.gep(feature, [builder.shl(k, long(1))]), INT.as_pointer())
            pair = builder.bitcast(splat(builder, builder.load(address, align=1), INTS), SHORTS)
            for place, found in zip(of_row, weights, strict=True):
                builder.store(builder.add(builder.load(place), pairs(builder, pair, found)), place)


def _add_floats(builder: Any, features: list[Any], weight: Any, columns: list[Any], sums: list[list[Any]]) -> None:
    multiply_add = function(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, [FLOATS] * 3)
    inputs, nothing = weight.size(0), ir.Constant(FLOATS, [0.0] * LANES)
    with loop(builder, long(0), inputs, EXACT) as (begin, _):
        end = builder.add(begin, long(EXACT))
        end = builder.select(builder.icmp_signed("<", end, inputs), end, inputs)
        parts = [[variable(builder, FLOATS, nothing) for _ in columns] for _ in features]
        with loop(builder, begin, end) as (k, _):
            weights = [weight.load(k, at) for at in columns]
            for of_row, feature in zip(parts, features, strict=True):
                value = splat(builder, builder.load(builder.gep(feature, [k])), FLOATS)
                for place, found in zip(of_row, weights, strict=True):
                    builder.store(builder.call(multiply_add, [value, found, builder.load(place)]), place)
        for of_row, found in zip(sums, parts, strict=True):
            for place, part in zip(of_row, found, strict=True):
                whole = builder.fptosi(builder.load(part), INTS)
                builder.store(builder.add(builder.load(place), whole), place)


round_many, round_one = _rounded(ROWS), _rounded(1)
add_up_many, add_up_one = _unrounded(ROWS), _unrounded(1)
