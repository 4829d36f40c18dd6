"""Rounding sums to codes, in registers: once, once more on another grid, or after a row of codes was added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gnncompress.runtime.gathering import gathered
from gnncompress.runtime.vectors import (
    FLOATS,
    INT,
    INTS,
    LANES,
    arrays,
    choose,
    first_lanes,
    function,
    long,
    narrowed,
    splat,
    strips,
)

First = Literal["zeros", "plain", "row"]
# What follows the first rounding of a row.
NONE, AGAIN, ADD = range(3)

# The rows of the array of numbers, one a channel, that rounding takes.
MINUS_ZERO, SCALE, SHIFT, LOW, HIGH, SCALE_2, SHIFT_2, OTHER, LOW_2, HIGH_2, NUMBERS = range(11)
NAMES = ("minus_zero", "scale", "shift", "low", "high", "scale2", "shift2", "other_scale", "low2", "high2")
# So many rows are rounded together, so that a channel's numbers are read once for all of them.
ROWS = 4


class Rounding:
    """What is done to a vector of channels, or to GROUP of them; made once for many rows, whose numbers are read once.

    first: v = x SCALE + SHIFT; ``zeros``: of x + MINUS_ZERO a in place of x; ``row``: v = x a + b; rounded. second:
    NONE; AGAIN: v SCALE_2 + SHIFT_2; ADD: clamped by LOW and HIGH, then v SCALE_2 + SHIFT_2 + other OTHER;
    rounded. Then clamped: by LOW and HIGH if there is no second, else by LOW_2 and HIGH_2; ``clamps`` are
    these as codes.

    ``fits`` says that all values surely fit into 32 bits, before they are clamped.
    """

    def __init__(
        self, builder: Any, table: Any, clamps: Any, columns: Sequence[Any], first: First, second: int, fits: bool
    ) -> None:
        self.builder, self.columns, self.first, self.second, self.fits = builder, columns, first, second, fits
        wanted = {"zeros": [MINUS_ZERO, SCALE, SHIFT], "plain": [SCALE, SHIFT], "row": []}[first]
        wanted = wanted + {NONE: [HIGH], AGAIN: [], ADD: [LOW, HIGH]}[second]
        wanted += [] if second == NONE else [SCALE_2, SHIFT_2, HIGH_2]
        wanted += [OTHER] if second == ADD else []
        self.numbers = [{which: table.load(long(which), column) for which in wanted} for column in columns]
        self.multiply_add = function(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS, [FLOATS] * 3)
        self.nearest = function(builder, f"llvm.rint.v{LANES}f32", FLOATS, [FLOATS])
        self.to_nearest = function(builder, f"llvm.lrint.v{LANES}i32.v{LANES}f32", INTS, [FLOATS])
        codes = ir.VectorType(ir.IntType(8), len(columns) * LANES)
        self.clamps = [clamps.load(long(end), columns[0], codes) for end in range(2)]

    def whole(self, which: int, sums: Any, a: Any, b: Any, other: Any, row: Any) -> Any:
        """Return a vector of sums, the group's ``which``-th, rounded; a, b are the row's numbers, other[row] is added.

        What may be large is clamped from above while floats: of a value beyond all whole numbers the processor makes
        the smallest one.
        """
        call, number = self.builder.call, self.numbers[which]
        v = floats(self.builder, sums)
        if self.first == "row":
            v = call(self.multiply_add, [v, a, b])
        else:
            if self.first == "zeros":
                v = call(self.multiply_add, [number[MINUS_ZERO], a, v])
            v = call(self.multiply_add, [v, number[SCALE], number[SHIFT]])
        if self.second == NONE:
            return call(self.to_nearest, [v if self.fits else self._at_most(v, number[HIGH])])
        v = call(self.nearest, [v])
        shift = number[SHIFT_2]
        if self.second == ADD:
            v = self._at_most(self._at_least(v, number[LOW]), number[HIGH])
            added = self._added(other, row, self.columns[which])
            shift = call(self.multiply_add, [added, number[OTHER], shift])
        v = call(self.multiply_add, [v, number[SCALE_2], shift])
        return call(self.to_nearest, [v if self.fits else self._at_most(v, number[HIGH_2])])

    def codes(self, whole: Sequence[Any]) -> Any:
        """Return the codes of a row's vectors, clamped, which costs a quarter for bytes."""
        found = narrowed(self.builder, whole)
        for name, end in zip(("smax", "smin"), self.clamps, strict=True):
            limit = function(self.builder, f"llvm.{name}.v{found.type.count}i8", found.type, [found.type] * 2)
            found = self.builder.call(limit, [found, end])
        return found

    def _added(self, other: Any, row: Any, column: Any) -> Any:
        """Return a vector of ``other``, zeros behind rows of floats, which are as wide as they are."""
        if other.kind.dtype != types.float32:
            return floats(self.builder, other.load(row, column))
        return other.load_some(row, column, first_lanes(self.builder, self.builder.sub(other.size(1), column)))

    def _at_least(self, v: Any, low: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered("<", v, low), low, v)

    def _at_most(self, v: Any, high: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered(">", v, high), high, v)


def round_all(
    rounding: Rounding,
    sums: Sequence[Sequence[Any]],
    scales: Sequence[Any],
    shifts: Sequence[Any],
    other: Any,
    targets: Sequence[Any],
    out: Any,
) -> None:
    """Write to ``targets``, rows of ``out``, the codes of vectors of ``sums``, by row and by the group's columns."""
    whole: list[list[Any]] = [[] for _ in targets]
    # Column by column, so that a channel's numbers stay in registers.
    for which in range(len(rounding.columns)):
        for found, of_row, scale, shift, target in zip(whole, sums, scales, shifts, targets, strict=True):
            found.append(rounding.whole(which, of_row[which], scale, shift, other, target))
    for found, target in zip(whole, targets, strict=True):
        out.store(rounding.codes(found), target, rounding.columns[0])


def floats(builder: Any, vector: Any) -> Any:
    """Return a vector of whole numbers or floats as floats."""
    return vector if vector.type == FLOATS else builder.sitofp(vector, FLOATS)


def _rows(rows: int, first: First, seconds: Sequence[int]) -> Any:
    """Return the function that turns ``rows`` rows of ``x`` from i on into rows of ``out`` from r on."""

    @intrinsic
    def round_rows(context, x, i, a, b, numbers, clamps, second, other, out, r):  # type: ignore[no-untyped-def]
        """Round; ``a`` and ``b`` have a number for each row of x, ``other`` has a row for each row of out."""
        signature = types.void(x, types.int64, a, b, numbers, clamps, types.int64, other, out, types.int64)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            x, i, a, b, table, clamps, second, other, out, r = arrays(context, builder, signature.args, given)
            sources = [builder.add(i, long(number)) for number in range(rows)]
            targets = [builder.add(r, long(number)) for number in range(rows)]
            undefined = ir.Constant(FLOATS, ir.Undefined)

            def of_row(array: Any, row: Any, used: bool) -> Any:
                return splat(builder, builder.load(array.at(None, row)), FLOATS) if used else undefined

            scales = [of_row(a, row, first != "plain") for row in sources]
            shifts = [of_row(b, row, first == "row") for row in sources]

            def way(of: int) -> Callable[[], None]:
                def make(columns: list[Any]) -> None:
                    rounding = Rounding(builder, table, clamps, columns, first, of, False)
                    sums = [[x.load(source, column) for column in columns] for source in sources]
                    round_all(rounding, sums, scales, shifts, other, targets, out)

                return lambda: strips(builder, out.size(1), make)

            choose(builder, second, {of: way(of) for of in seconds})
            return context.get_dummy_value()

        return signature, generate

    return round_rows


def _neighbours(rows: int, fits: bool) -> Any:
    """Return the function that adds up the neighbours' codes of ``rows`` nodes, and rounds the sums."""

    @intrinsic
    def round_neighbours(context, starts, sources, x, i, zero, by, base, numbers, clamps, second, other, out, r):  # type: ignore[no-untyped-def]
        """Write rows of out from r on: nodes' from i on; ``by`` and ``base`` have each node's scale and shift."""
        how = numbers, clamps, types.int64
        signature = types.void(starts, sources, x, types.int64, types.int64, by, base, *how, other, out, types.int64)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            starts, sources, x, i, zero, by, base, table, clamps, second, other, out, r = arrays(
                context, builder, signature.args, given
            )
            targets = [builder.add(r, long(number)) for number in range(rows)]
            ends = [builder.load(starts.at(None, builder.add(i, long(number)))) for number in range(rows + 1)]
            # What the zero points add up to is taken off in whole numbers: floats would lose digits at large hubs.
            less = [builder.mul(builder.sub(begin, end), zero) for begin, end in pairwise(ends)]
            less = [builder.trunc(one, INT) for one in less]
            scales, shifts = (
                [splat(builder, builder.load(array.at(None, long(number))), FLOATS) for number in range(rows)]
                for array in (by, base)
            )

            def make(columns: list[Any]) -> None:
                sums = [
                    gathered(builder, x, sources, begin, end, start, columns)
                    for (begin, end), start in zip(pairwise(ends), less, strict=True)
                ]

                def way(of: int) -> Callable[[], None]:
                    def make() -> None:
                        rounding = Rounding(builder, table, clamps, columns, "row", of, fits)
                        round_all(rounding, sums, scales, shifts, other, targets, out)

                    return make

                choose(builder, second, {of: way(of) for of in (NONE, AGAIN, ADD)})

            strips(builder, out.size(1), make)
            return context.get_dummy_value()

        return signature, generate

    return round_neighbours


round_neighbours, round_neighbours_one = _neighbours(ROWS, False), _neighbours(1, False)
round_fitting_neighbours = _neighbours(ROWS, True)


def fit(numbers: np.ndarray, second: int, size: float, scale: Any, shift: Any) -> bool:
    """Say whether values surely fit into 32 bits before they are clamped: of sums of up to ``size``, codes added."""
    v = size * np.abs(scale) + np.abs(shift)
    if second == ADD:
        v = np.abs(numbers[[LOW, HIGH]]).max(0)
    if second != NONE:
        v = v * np.abs(numbers[SCALE_2]) + np.abs(numbers[SHIFT_2]) + 128 * np.abs(numbers[OTHER])
    return bool(np.all(v < 0.99 * 2**31))


def of(first: First, *seconds: int) -> tuple[Any, Any]:
    """Return the functions for ROWS rows and for one; one of ``seconds`` follows, which they are told."""
    return _rows(ROWS, first, seconds), _rows(1, first, seconds)
