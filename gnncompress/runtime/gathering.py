"""Rows added up in the processor's registers: of codes, of weighted codes that are rounded, of floats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gnncompress.runtime.vectors import (
    FLOAT,
    FLOATS,
    INT,
    INTS,
    LANES,
    LONG,
    SHORTS,
    arrays,
    first_lanes,
    function,
    has_pairs,
    long,
    loop,
    pairs,
    splat,
    strips,
    variable,
)


def gathered(builder: Any, x: Any, sources: Any, begin: Any, end: Any, start: Any, columns: Sequence[Any]) -> list[Any]:
    """Return start + the sum over k in [begin, end) of x[sources[k], columns], int32, the vectors of some columns."""
    places = [variable(builder, INTS, splat(builder, start, INTS)) for _ in columns]
    # Hidden from LLVM, which would unroll the loop and so have two numbers of turns to guess at each node, not one.
    begin = builder.asm(ir.FunctionType(LONG, [LONG]), "", "=r,0", [begin], True)
    with loop(builder, begin, end) as (k, _):
        source = builder.sext(builder.load(sources.at(None, k)), LONG)
        for place, at in zip(places, columns, strict=True):
            found = builder.sext(x.load(source, at), INTS)
            builder.store(builder.add(builder.load(place), found), place)
    return [builder.load(place) for place in places]


@intrinsic
def gather(context, x, sources, begin, end, start, sums, row):  # type: ignore[no-untyped-def]
    """Write to sums[row] start + the sum over k in [begin, end) of x[sources[k]], int32."""
    signature = types.void(x, sources, types.int64, types.int64, types.int32, sums, types.int64)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        x, sources, begin, end, start, sums, row = arrays(context, builder, signature.args, given)

        def make(columns: list[Any]) -> None:
            for found, column in zip(gathered(builder, x, sources, begin, end, start, columns), columns, strict=True):
                sums.store(found, row, column)

        strips(builder, sums.size(1), make)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def gather_products(context, weight, inputs, values, begin, end, sums, totals, row):  # type: ignore[no-untyped-def]
    """Write to sums[row] the sum over k in [begin, end) of values[k] weight[inputs[k]], to totals[row] of values[k]."""
    signature = types.void(weight, inputs, values, types.int64, types.int64, sums, totals, types.int64)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        weight, inputs, values, begin, end, sums, totals, row = arrays(context, builder, signature.args, given)

        def make(columns: list[Any]) -> None:
            places = [variable(builder, INTS, ir.Constant(INTS, [0] * LANES)) for _ in columns]
            total = variable(builder, INT, ir.Constant(INT, 0))
            with loop(builder, begin, end) as (k, _):
                of_input = builder.load(inputs.at(None, k))
                value = builder.load(values.at(None, k))
                builder.store(builder.add(builder.load(total), builder.sext(value, INT)), total)
                # Beside zeros, so that pairs are products: to multiply 32 bits takes processors twice as long.
                value = splat(builder, (builder.zext if has_pairs() else builder.sext)(value, INT), INTS)
                for place, at in zip(places, columns, strict=True):
                    codes = builder.sext(weight.load(of_input, at), INTS)
                    if has_pairs():
                        product = pairs(builder, *(builder.bitcast(one, SHORTS) for one in (value, codes)))
                    else:
                        product = builder.mul(value, codes)
                    builder.store(builder.add(builder.load(place), product), place)
            for place, at in zip(places, columns, strict=True):
                sums.store(builder.load(place), row, at)
            builder.store(builder.sitofp(builder.load(total), FLOAT), totals.at(None, row))

        strips(builder, sums.size(1), make)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def gather_weighted(  # type: ignore[no-untyped-def]
    context, x, sources, weights, begin, end, heads, columns, x_zero, x_scale, inverse, zero, low, high, sums, row
):
    """Write to sums[row] the sums of messages less their zero points; see ``kernels.aggregate_weighted``.

    LANES columns behind the last head's are written to as well.
    """
    given = [types.int64] * 4 + [types.float32] * 6
    signature = types.void(x, sources, weights, *given, sums, types.int64)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        x, sources, weights, begin, end, heads, columns, *numbers, sums, row = arrays(
            context, builder, signature.args, given
        )
        less = builder.mul(builder.sub(begin, end), builder.fptosi(numbers[3], LONG))
        less = splat(builder, builder.trunc(less, INT), INTS)
        x_zero, x_scale, inverse, zero, low, high = (splat(builder, number, FLOATS) for number in numbers)
        kernels = builder.udiv(weights.size(1), heads)
        nearest = function(builder, f"llvm.lrint.v{LANES}i32.v{LANES}f32", INTS, [FLOATS])

        def weighted(edge: Any, source: Any, part: Any, column: Any, wanted: Any) -> Any:
            weight = splat(builder, builder.load(weights.at(edge, part)), FLOATS)
            codes = x.load_codes(source, builder.add(builder.mul(part, columns), column), wanted)
            v = builder.fsub(builder.sitofp(builder.sext(codes, INTS), FLOATS), x_zero)
            return builder.fmul(builder.fmul(v, x_scale), weight)

        def add(message: Any, total: Any) -> None:
            v = builder.fadd(builder.fmul(message, inverse), zero)
            # The ends are whole numbers: to clamp and then round gives what the simulation's other order does.
            v = builder.select(builder.fcmp_ordered("<", v, low), low, v)
            v = builder.select(builder.fcmp_ordered(">", v, high), high, v)
            builder.store(builder.add(builder.load(total), builder.call(nearest, [v])), total)

        with loop(builder, long(0), heads) as (head, _), loop(builder, long(0), columns, LANES) as (column, _):
            wanted = first_lanes(builder, builder.sub(columns, column))
            total = variable(builder, INTS, less)
            with builder.if_else(builder.icmp_signed("==", kernels, long(1))) as (one, many):
                with one, loop(builder, begin, end) as (edge, _):
                    source = builder.sext(builder.load(sources.at(None, edge)), LONG)
                    add(weighted(edge, source, head, column, wanted), total)
                with many, loop(builder, begin, end) as (edge, _):
                    source = builder.sext(builder.load(sources.at(None, edge)), LONG)
                    message = variable(builder, FLOATS, ir.Constant(FLOATS, [0.0] * LANES))
                    with loop(builder, long(0), kernels) as (kernel, _):
                        part = builder.add(builder.mul(head, kernels), kernel)
                        v = weighted(edge, source, part, column, wanted)
                        builder.store(builder.fadd(builder.load(message), v), message)
                    add(builder.load(message), total)
            sums.store(builder.load(total), row, builder.add(builder.mul(head, columns), column))
        return context.get_dummy_value()

    return signature, generate


def _gather_floats(vectors: int) -> Any:
    """Return the function that adds up ``vectors`` vectors of weighted rows of floats."""

    @intrinsic
    def gather(context, x, sources, weights, begin, end, column, sums, row):  # type: ignore[no-untyped-def]
        """Add to sums[row, column:] the sum over k in [begin, end) of weights[k] x[sources[k], column:]."""
        signature = types.void(x, sources, weights, types.int64, types.int64, types.int64, sums, types.int64)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            x, sources, weights, begin, end, column, sums, row = arrays(context, builder, signature.args, given)
            multiply_add = function(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, [FLOATS] * 3)
            columns = [builder.add(column, long(number * LANES)) for number in range(vectors)]
            places = [variable(builder, FLOATS, sums.load(row, at)) for at in columns]
            with loop(builder, begin, end) as (k, _):
                source = builder.load(sources.at(None, k))
                source = source if source.type == LONG else builder.sext(source, LONG)
                weight = splat(builder, builder.load(weights.at(None, k)), FLOATS)
                for place, at in zip(places, columns, strict=True):
                    found = builder.call(multiply_add, [weight, x.load(source, at), builder.load(place)])
                    builder.store(found, place)
            for place, at in zip(places, columns, strict=True):
                sums.store(builder.load(place), row, at)
            return context.get_dummy_value()

        return signature, generate

    return gather


def total_of(builder: Any, x: Any, row: Any, column: Any, vectors: int) -> Any:
    """Return the sum of the codes in some vectors of a row as if every code were 128 larger."""
    width = vectors * LANES
    codes, wide = ir.VectorType(ir.IntType(8), width), ir.VectorType(INT, width)
    # Unsigned bytes, which processors have an instruction to add up for.
    found = builder.xor(x.load(row, column, codes), ir.Constant(codes, [128] * width))
    add_up = function(builder, f"llvm.vector.reduce.add.v{width}i32", INT, [wide])
    return builder.call(add_up, [builder.zext(found, wide)])


def _total(vectors: int) -> Any:
    """Return the function that adds up the codes in ``vectors`` vectors."""

    @intrinsic
    def total(context, x, row, column):  # type: ignore[no-untyped-def]
        """Return the sum of x[row, column:] as if every code were 128 larger."""
        signature = types.int32(x, types.int64, types.int64)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            x, row, column = arrays(context, builder, signature.args, given)
            return total_of(builder, x, row, column, vectors)

        return signature, generate

    return total


gather_floats_one = _gather_floats(1)
gather_floats_four = _gather_floats(4)
total_one = _total(1)
total_four = _total(4)
