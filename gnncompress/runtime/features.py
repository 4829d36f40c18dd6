"""Features become codes: values are quantized as they follow each other, then sent to rows; sparse ones are checked."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gnncompress.runtime.compiling import compiled
from gnncompress.runtime.vectors import (
    BYTES,
    FLOATS,
    INT,
    INTS,
    LANES,
    LONG,
    arrays,
    first_lanes,
    function,
    long,
    loop,
    splat,
    variable,
)

_compiled = compiled("contract", "nsz")
# The simulation's order of operations, rounded as often.
_faithful = compiled()
# So many values are quantized before their codes are sent to rows.
_TOGETHER = 8192


@intrinsic
def quantize_flat(context, x, begin, end, inverse, zero, low, high, out, found):  # type: ignore[no-untyped-def]
    """Write to out[0] and after clamp(round(x inverse + zero)) of x[begin:end], and LANES codes behind at most.

    Add to found[0] how many values were clamped and write to found[1] the largest bits without sign of any: those of
    values that are not finite are the largest.
    """
    signature = types.void(x, types.int64, types.int64, *[types.float32] * 4, out, found)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        x, begin, end, *numbers, out, found = arrays(context, builder, signature.args, given)
        inverse, zero, low, high = (splat(builder, number, FLOATS) for number in numbers)
        nothing = ir.Constant(INTS, [0] * LANES)
        clamped, largest = variable(builder, INTS, nothing), variable(builder, INTS, nothing)
        nearest = function(builder, f"llvm.rint.v{LANES}f32", FLOATS, [FLOATS])
        bound = function(builder, f"llvm.smax.v{LANES}i32", INTS, [INTS] * 2)
        with loop(builder, begin, end, LANES) as (at, _):
            inside = first_lanes(builder, builder.sub(end, at))
            value = x.load_some(None, at, inside)
            bits = builder.and_(builder.bitcast(value, INTS), ir.Constant(INTS, [0x7FFFFFFF] * LANES))
            builder.store(builder.call(bound, [builder.load(largest), bits]), largest)
            v = builder.call(nearest, [builder.fadd(builder.fmul(value, inverse), zero)])
            below, above = builder.fcmp_ordered("<", v, low), builder.fcmp_ordered(">", v, high)
            outside = builder.and_(builder.or_(below, above), inside)
            builder.store(builder.add(builder.load(clamped), builder.zext(outside, INTS)), clamped)
            v = builder.select(above, high, builder.select(below, low, v))
            out.store(builder.trunc(builder.fptosi(v, INTS), BYTES), None, builder.sub(at, begin))
        for which, place, how in ((0, clamped, "add"), (1, largest, "smax")):
            reduce = function(builder, f"llvm.vector.reduce.{how}.v{LANES}i32", INT, [INTS])
            value = builder.sext(builder.call(reduce, [builder.load(place)]), LONG)
            address = found.at(None, long(which))
            if how == "add":
                value = builder.add(value, builder.load(address))
            else:
                more = builder.icmp_signed(">", value, builder.load(address))
                value = builder.select(more, value, builder.load(address))
            builder.store(value, address)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def spread(context, codes, width, out, first, last):  # type: ignore[no-untyped-def]
    """Write to the rows [first, last) of out the codes that follow each other, ``width`` a row, zeros behind."""
    signature = types.void(codes, types.int64, out, types.int64, types.int64)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        codes, width, out, first, last = arrays(context, builder, signature.args, given)
        with loop(builder, long(0), out.size(1), LANES) as (column, _):
            inside = first_lanes(builder, builder.sub(width, column))
            with loop(builder, first, last) as (row, _):
                at = builder.add(builder.mul(builder.sub(row, first), width), column)
                found = builder.select(inside, codes.load(None, at), ir.Constant(BYTES, [0] * LANES))
                out.store(found, row, column)
        return context.get_dummy_value()

    return signature, generate


@_faithful
def quantize(x, inverse, zero, low, high, out):  # type: ignore[no-untyped-def]
    """Write clamp(round(x inverse + zero)); return how many values were clamped, -1 if one is not finite."""
    found, values, width = np.zeros(2, np.int64), x.reshape(-1), x.shape[1]
    rows = max(_TOGETHER // max(width, 1), 1)
    codes = np.empty(rows * width + LANES, np.int8)
    for first in range(0, len(x), rows):
        last = min(first + rows, len(x))
        quantize_flat(values, first * width, last * width, inverse, zero, low, high, codes, found)
        spread(codes, width, out, first, last)
    return found[0] if found[1] < 0x7F800000 else np.int64(-1)


@_compiled
def is_csr(starts, columns, width):  # type: ignore[no-untyped-def]
    """Say whether rows and columns are those that a CSR tensor of so many columns may have."""
    if starts[0] != 0 or starts[-1] != columns.size:
        return False
    falling = outside = 0
    for i in range(starts.size - 1):
        falling += starts[i + 1] < starts[i]
    for k in range(columns.size):
        outside += (columns[k] < 0) | (columns[k] >= width)
    return falling + outside == 0


@_compiled
def centred(codes, zero, out):  # type: ignore[no-untyped-def]
    """Write codes less their zero point, of 16 bits."""
    for k in range(out.size):
        out[k] = np.int16(codes[k]) - zero
