"""Vectors in the processor's registers: arrays read and written sixteen values at a time.

This module, ``gathering``, ``features``, ``rounding`` and ``dots`` are the ones that speak LLVM. Numba's own loops do
the same two to five times more slowly: they keep sums in memory, read the numbers of each channel again for every row,
and ask row by row whether arrays overlap. Rows of codes are whole vectors: ``padded`` says how wide an array must be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial, reduce
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target

LANES = 16
# So many vectors side by side are a whole register of codes.
GROUP = 4
SHORT, INT, LONG, FLOAT = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
BYTES, INTS, FLOATS = (ir.VectorType(kind, LANES) for kind in (ir.IntType(8), INT, FLOAT))
SHORTS = ir.VectorType(SHORT, 2 * LANES)  # as long as INTS
_OF = {types.int8: BYTES, types.int32: INTS, types.float32: FLOATS}


def padded(width: int) -> int:
    """Return the least number of whole vectors' codes that hold ``width``."""
    return -(-width // LANES) * LANES


def has(feature: str) -> bool:
    """Say whether the processor that numba compiles for has a feature, by LLVM's name for it."""
    return f"+{feature}" in features_of_target().split(",")


@lru_cache
def features_of_target() -> str:
    """Return the features of that processor: this one's, unless numba's settings say otherwise."""
    return str(cpu_target.target_context.codegen().magic_tuple()[2])


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
        """Return the vector that begins at a value, zeros where it is not ``wanted``; those are not read."""
        vector = _OF[self.kind.dtype]
        pointer = self.builder.bitcast(self.at(row, column), vector.as_pointer())
        name = f"v{LANES}{'f' if vector == FLOATS else 'i'}{self.kind.dtype.bitwidth}"
        kind = "p0" if str(pointer.type) == "ptr" else f"p0{name}"  # as LLVM of this llvmlite writes it
        load = function(
            self.builder, f"llvm.masked.load.{name}.{kind}", vector, [pointer.type, INT, wanted.type, vector]
        )
        align = ir.Constant(INT, self.kind.dtype.bitwidth // 8)
        return self.builder.call(load, [pointer, align, wanted, ir.Constant(vector, [0] * LANES)])

    def load_codes(self, row: Any, column: Any, wanted: Any) -> Any:
        """Return the vector of codes that begins at one, anything where it is not ``wanted``.

        Nothing behind the array is read. Only there are bytes masked, one by one on processors without AVX-512.
        """
        builder = self.builder
        end = builder.gep(self.made.data, [self.made.nitems])
        left = builder.sub(builder.ptrtoint(end, LONG), builder.ptrtoint(self.at(row, column), LONG))
        found = cgutils.alloca_once(builder, BYTES)
        with builder.if_else(builder.icmp_signed(">=", left, long(LANES)), likely=True) as (inside, over):
            with inside:
                builder.store(self.load(row, column), found)
            with over:
                builder.store(self.load_some(row, column, wanted), found)
        return builder.load(found)

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


def first_lanes(builder: Any, number: Any) -> Any:
    """Return which lanes are among the first so many."""
    lanes = ir.Constant(INTS, list(range(LANES)))
    return builder.icmp_signed("<", lanes, splat(builder, builder.trunc(number, INT), INTS))


def choose(builder: Any, value: Any, ways: Mapping[int, Callable[[], None]]) -> None:
    """Add what is done for each of the values that a number may have."""
    for of, way in ways.items():
        with builder.if_then(builder.icmp_signed("==", value, ir.Constant(value.type, of))):
            way()


def strips(builder: Any, width: Any, make: Callable[[list[Any]], None], group: int = GROUP) -> None:
    """Add what is done to the columns of a row: of ``group`` vectors together, then of each that is left."""
    whole = builder.and_(width, long(-group * LANES)) if group > 1 else long(0)
    if group > 1:
        with loop(builder, long(0), whole, group * LANES) as (column, _):
            make([builder.add(column, long(number * LANES)) for number in range(group)])
    with loop(builder, whole, width, LANES) as (column, _):
        make([column])


def has_pairs() -> bool:
    """Say whether the processor has an instruction for ``pairs``."""
    return has("avx2")


def pairs(builder: Any, first: Any, second: Any) -> Any:
    """Return first[2 i] second[2 i] + first[2 i + 1] second[2 i + 1] of 2 LANES numbers of 16 bits each, int32."""
    if has("avx512bw"):
        return builder.call(function(builder, "llvm.x86.avx512.pmaddw.d.512", INTS, [SHORTS] * 2), [first, second])
    kind, made = ir.VectorType(SHORT, LANES), ir.VectorType(INT, LANES // 2)
    multiply = function(builder, "llvm.x86.avx2.pmadd.wd", made, [kind] * 2)
    halves = []
    for begin in (0, LANES):
        half = ir.Constant(INTS, list(range(begin, begin + LANES)))
        given = [builder.shuffle_vector(one, one, half) for one in (first, second)]
        halves.append(builder.call(multiply, given))
    return builder.shuffle_vector(*halves, ir.Constant(INTS, list(range(LANES))))


def narrowed(builder: Any, vectors: Sequence[Any]) -> Any:
    """Return whole numbers as bytes side by side, one vector or GROUP of them; what is beyond a byte saturates."""
    if len(vectors) == GROUP and has("avx512bw"):
        short, bytes_ = ir.VectorType(ir.IntType(16), 2 * LANES), ir.VectorType(ir.IntType(8), GROUP * LANES)
        to_short = function(builder, "llvm.x86.avx512.packssdw.512", short, [INTS] * 2)
        to_bytes = function(builder, "llvm.x86.avx512.packsswb.512", bytes_, [short] * 2)
        pairs = [builder.call(to_short, vectors[at : at + 2]) for at in (0, 2)]
        # Packing works on quarters of registers: four codes of each vector are side by side, and are taken apart here.
        found = builder.bitcast(builder.call(to_bytes, pairs), INTS)
        order = ir.Constant(INTS, [at % GROUP * GROUP + at // GROUP for at in range(LANES)])
        return builder.bitcast(builder.shuffle_vector(found, found, order), bytes_)
    found = list(vectors)
    for name, bound in (("smax", -128), ("smin", 127)):
        limit = function(builder, f"llvm.{name}.v{LANES}i32", INTS, [INTS] * 2)
        found = [builder.call(limit, [one, ir.Constant(INTS, [bound] * LANES)]) for one in found]
    return reduce(partial(_side_by_side, builder), [builder.trunc(one, BYTES) for one in found])


def _side_by_side(builder: Any, first: Any, second: Any) -> Any:
    """Return the values of ``first`` and then those of ``second``, which may be shorter."""
    a, b = first.type.count, second.type.count
    padding = ir.Constant(ir.VectorType(INT, a), [*range(b), *[0] * (a - b)])
    wide = builder.shuffle_vector(second, second, padding)
    return builder.shuffle_vector(first, wide, ir.Constant(ir.VectorType(INT, a + b), list(range(a + b))))
