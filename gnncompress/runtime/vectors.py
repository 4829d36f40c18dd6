"""Vectors in the processor's registers: arrays read and written sixteen values at a time, and rows added up.

This module, ``rounding`` and ``dots`` are the ones that speak LLVM. Numba's own loops do the same two to five times
more slowly: they keep sums in memory, read the numbers of each channel again for every row, and ask row by row whether
arrays overlap. Rows of codes are whole vectors: ``padded`` says how wide an array must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16
INT, LONG, FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
BYTES, INTS, FLOATS = (ir.VectorType(kind, LANES) for kind in (ir.IntType(8), INT, FLOAT))
_OF = {types.int8: BYTES, types.int32: INTS, types.float32: FLOATS}


def padded(width: int) -> int:
    """Return the least number of whole vectors' codes that hold ``width``."""
    return -(-width // LANES) * LANES


class Array:
    """An array argument: vectors of it are loaded and stored at a row, None if it has none, and a column."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.builder, self.kind = builder, kind
        self.made = context.make_array(kind)(context, builder, value)

    def size(self, dimension: int) -> Any:
        """Return the length of a dimension."""
        return self.builder.extract_value(self.made.shape, dimension)

    def at(self, row: Any, column: Any) -> Any:
        """Return the address of a value."""
        if row is not None:
            column = self.builder.add(self.builder.mul(row, self.size(self.kind.ndim - 1)), column)
        return self.builder.gep(self.made.data, [column])

    def load(self, row: Any, column: Any, vector: Any = None) -> Any:
        """Return the vector that begins at a value."""
        vector = vector or _OF[self.kind.dtype]
        return self.builder.load(self.builder.bitcast(self.at(row, column), vector.as_pointer()), align=1)

    def load_some(self, row: Any, column: Any, wanted: Any) -> Any:
        """Return the vector of floats that begins at a value, zeros where it is not ``wanted``; those are not read."""
        pointer = self.builder.bitcast(self.at(row, column), FLOATS.as_pointer())
        kind = "p0" if str(pointer.type) == "ptr" else f"p0v{LANES}f32"  # as LLVM of this llvmlite writes it
        given = [pointer.type, INT, wanted.type, FLOATS]
        load = function(self.builder, f"llvm.masked.load.v{LANES}f32.{kind}", FLOATS, given)
        nothing = ir.Constant(FLOATS, [0.0] * LANES)
        return self.builder.call(load, [pointer, ir.Constant(INT, 4), wanted, nothing])

    def store(self, vector: Any, row: Any, column: Any) -> None:
        """Write a vector from a value on."""
        pointer = self.builder.bitcast(self.at(row, column), vector.type.as_pointer())
        self.builder.store(vector, pointer, align=1)


def arrays(context: Any, builder: Any, kinds: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return the arguments of a function, arrays as ``Array``."""
    return [
        Array(context, builder, kind, value) if isinstance(kind, types.Array) else value
        for kind, value in zip(kinds, values, strict=True)
    ]


def long(value: int) -> Any:
    """Return a constant."""
    return ir.Constant(LONG, value)


def splat(builder: Any, value: Any, vector: Any) -> Any:
    """Return a vector of one value."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(INT, LANES), [0] * LANES))


def function(builder: Any, name: str, result: Any, given: Sequence[Any]) -> Any:
    """Return one of LLVM's own functions."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, given), name)


def loop(builder: Any, begin: Any, end: Any, step: int = 1) -> Any:
    """Return the context of a loop, whose number is the first of what it gives."""
    return cgutils.for_range_slice(builder, begin, end, long(step), LONG)


def variable(builder: Any, kind: Any, value: Any) -> Any:
    """Return the place of a variable, which LLVM keeps in a register."""
    place = cgutils.alloca_once(builder, kind)
    builder.store(value, place)
    return place


def _gather(vectors: int) -> Any:
    """Return the function that adds up ``vectors`` vectors of rows."""

    @intrinsic
    def gather(context, x, sources, begin, end, start, column, sums, row):  # type: ignore[no-untyped-def]
        """Write to sums[row, column:] start + the sum over k in [begin, end) of x[sources[k], column:], int32."""
        signature = types.void(x, sources, types.int64, types.int64, types.int32, types.int64, sums, types.int64)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            x, sources, begin, end, start, column, sums, row = arrays(context, builder, signature.args, given)
            columns = [builder.add(column, long(number * LANES)) for number in range(vectors)]
            places = [variable(builder, INTS, splat(builder, start, INTS)) for _ in columns]
            with loop(builder, begin, end) as (k, _):
                source = builder.sext(builder.load(sources.at(None, k)), LONG)
                for place, at in zip(places, columns, strict=True):
                    found = builder.sext(x.load(source, at), INTS)
                    builder.store(builder.add(builder.load(place), found), place)
            for place, at in zip(places, columns, strict=True):
                sums.store(builder.load(place), row, at)
            return context.get_dummy_value()

        return signature, generate

    return gather


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


def _total(vectors: int) -> Any:
    """Return the function that adds up the codes in ``vectors`` vectors."""
    width = vectors * LANES
    codes, wide = ir.VectorType(ir.IntType(8), width), ir.VectorType(INT, width)

    @intrinsic
    def total(context, x, row, column):  # type: ignore[no-untyped-def]
        """Return the sum of x[row, column:] as if every code were 128 larger."""
        signature = types.int32(x, types.int64, types.int64)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            x, row, column = arrays(context, builder, signature.args, given)
            # Unsigned bytes, which processors have an instruction to add up for.
            found = builder.xor(x.load(row, column, codes), ir.Constant(codes, [128] * width))
            add_up = function(builder, f"llvm.vector.reduce.add.v{width}i32", INT, [wide])
            return builder.call(add_up, [builder.zext(found, wide)])

        return signature, generate

    return total


gather_one = _gather(1)
gather_four = _gather(4)
gather_floats_one = _gather_floats(1)
gather_floats_four = _gather_floats(4)
total_one = _total(1)
total_four = _total(4)
