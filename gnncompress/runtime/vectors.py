"""What is done to a row of codes, as vectors in the processor's registers: adding rows up, and rounding the sums again.

The one place that speaks LLVM, for any processor that LLVM knows. Numba's own loops do the same up to three times more
slowly: they keep sums in memory and ask, row by row, whether arrays overlap. Rows are whole vectors: ``padded`` says how
wide an array must be.
"""

from __future__ import annotations

from typing import Any, Literal

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16
# The rows of the array of numbers, one a channel, that rounding takes.
MINUS_ZERO, SCALE, SHIFT, LOW, HIGH, SCALE_2, SHIFT_2, OTHER, LOW_2, HIGH_2, NUMBERS = range(11)

_INT, _LONG, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()
_BYTES, _INTS, _FLOATS = (ir.VectorType(kind, LANES) for kind in (ir.IntType(8), _INT, _FLOAT))
_OF = {types.int8: _BYTES, types.int32: _INTS, types.float32: _FLOATS}


def padded(width: int) -> int:
    """Return the least number of whole vectors' codes that hold ``width``."""
    return -(-width // LANES) * LANES


class _Array:
    """An array argument: vectors of it are loaded and stored at a row and a column."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.builder, self.kind = builder, kind
        self.made = context.make_array(kind)(context, builder, value)

    def at(self, row: Any, column: Any) -> Any:
        if row is not None:
            width = self.builder.extract_value(self.made.shape, self.kind.ndim - 1)
            column = self.builder.add(self.builder.mul(row, width), column)
        return self.builder.gep(self.made.data, [column])

    def load(self, row: Any, column: Any) -> Any:
        vector = _OF[self.kind.dtype]
        return self.builder.load(self.builder.bitcast(self.at(row, column), vector.as_pointer()), align=1)

    def store(self, vector: Any, row: Any, column: Any) -> None:
        pointer = self.builder.bitcast(self.at(row, column), vector.type.as_pointer())
        self.builder.store(vector, pointer, align=1)


def _gather(vectors: int) -> Any:
    """Return the function that adds up ``vectors`` vectors of rows."""

    @intrinsic
    def gather(context, x, sources, begin, end, column, sums):  # type: ignore[no-untyped-def]
        """Write to sums[column:] the sum over k in [begin, end) of x[sources[k], column:], int32."""
        signature = types.void(x, sources, types.int64, types.int64, types.int64, sums)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            rows, numbers, out = (_Array(context, builder, signature.args[n], given[n]) for n in (0, 1, 5))
            begin, end, column = given[2:5]
            columns = [builder.add(column, ir.Constant(_LONG, number * LANES)) for number in range(vectors)]
            places = [cgutils.alloca_once(builder, _INTS) for _ in columns]
            for place in places:
                builder.store(ir.Constant(_INTS, [0] * LANES), place)
            with cgutils.for_range_slice(builder, begin, end, ir.Constant(_LONG, 1), _LONG) as (k, _):
                source = builder.sext(builder.load(numbers.at(None, k)), _LONG)
                for place, at in zip(places, columns, strict=True):
                    found = builder.sext(rows.load(source, at), _INTS)
                    builder.store(builder.add(builder.load(place), found), place)
            for place, at in zip(places, columns, strict=True):
                out.store(builder.load(place), None, at)
            return context.get_dummy_value()

        return signature, generate

    return gather


def _rounding(first: Literal["zeros", "plain", "row"], second: Literal["none", "again", "add"]) -> Any:
    """Return the function that turns row i of ``x`` into row r of ``out``, codes.

    first: v = x SCALE + SHIFT, ``zeros``: x + MINUS_ZERO a in place of x, ``row``: v = x a + b; rounded. second: ``none``;
    ``again``: v SCALE_2 + SHIFT_2; ``add``: clamped by LOW and HIGH, then v SCALE_2 + SHIFT_2 + other[j] OTHER; rounded.
    Then clamped: by LOW and HIGH if there is no second, else by LOW_2 and HIGH_2.
    """

    @intrinsic
    def round_row(context, x, i, a, b, numbers, other, j, out, r):  # type: ignore[no-untyped-def]
        signature = types.void(
            x, types.int64, types.float32, types.float32, numbers, other, types.int64, out, types.int64
        )

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            source, table, added, codes = (_Array(context, builder, signature.args[n], given[n]) for n in (0, 4, 5, 7))
            i, a, b, j, r = (given[n] for n in (1, 2, 3, 6, 8))
            multiply_add = _function(builder, "llvm.fmuladd", 3)
            nearest = _function(builder, "llvm.rint", 1)

            def number(which: int, column: Any) -> Any:
                return table.load(ir.Constant(_LONG, which), column)

            def clamp(v: Any, low: int, high: int, column: Any) -> Any:
                bound = number(low, column)
                v = builder.select(builder.fcmp_ordered("<", v, bound), bound, v)
                bound = number(high, column)
                return builder.select(builder.fcmp_ordered(">", v, bound), bound, v)

            width = builder.extract_value(codes.made.shape, 1)
            step = ir.Constant(_LONG, LANES)
            with cgutils.for_range_slice(builder, ir.Constant(_LONG, 0), width, step, _LONG) as (column, _):
                v = _floats(builder, source.load(i, column))
                if first == "row":
                    v = builder.call(multiply_add, [v, _splat(builder, a), _splat(builder, b)])
                else:
                    if first == "zeros":
                        v = builder.call(multiply_add, [number(MINUS_ZERO, column), _splat(builder, a), v])
                    v = builder.call(multiply_add, [v, number(SCALE, column), number(SHIFT, column)])
                v = builder.call(nearest, [v])
                if second == "add":
                    v = clamp(v, LOW, HIGH, column)
                if second != "none":
                    shift = number(SHIFT_2, column)
                    if second == "add":
                        own = _floats(builder, added.load(j, column))
                        shift = builder.call(multiply_add, [own, number(OTHER, column), shift])
                    v = builder.call(nearest, [builder.call(multiply_add, [v, number(SCALE_2, column), shift])])
                v = clamp(v, LOW, HIGH, column) if second == "none" else clamp(v, LOW_2, HIGH_2, column)
                codes.store(builder.trunc(builder.fptosi(v, _INTS), _BYTES), r, column)
            return context.get_dummy_value()

        return signature, generate

    return round_row


def _function(builder: Any, name: str, arguments: int) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * arguments)
    return cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{LANES}f32")


def _floats(builder: Any, vector: Any) -> Any:
    return vector if vector.type == _FLOATS else builder.sitofp(vector, _FLOATS)


def _splat(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


gather_one = _gather(1)
gather_four = _gather(4)
round_product = _rounding("zeros", "none")
round_product_again = _rounding("zeros", "again")
round_product_add = _rounding("zeros", "add")
round_codes = _rounding("plain", "none")
round_codes_add = _rounding("plain", "add")
round_sum = _rounding("row", "none")
round_sum_again = _rounding("row", "again")
round_sum_add = _rounding("row", "add")
