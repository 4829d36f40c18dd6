"""Features become codes: the compiled loops against numpy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnncompress.runtime import features
from tests.runtime.helpers import ROWS, SEEDS, WIDTHS, Room, Span, assert_within

f = np.float32
some = settings(max_examples=25, deadline=None)


def quantized(x: np.ndarray, inverse: float, zero: int, low: int, high: int) -> tuple[int, np.ndarray]:
    room = Room(*x.shape)
    limits = (f(limit) for limit in (inverse, zero, low, high))
    return features.quantize(x, *limits, room.out), room.codes()


@some
@given(
    rows=ROWS,
    width=WIDTHS,
    seed=SEEDS,
    inverse=st.floats(0.5, 40, width=32),
    zero=st.integers(-128, 127),
    bits=st.integers(2, 8),
    size=st.floats(0.1, 5),
)
def test_values_are_rounded_and_those_beyond_the_range_counted(
    rows: int, width: int, seed: int, inverse: float, zero: int, bits: int, size: float
) -> None:
    x = np.random.default_rng(seed).normal(0, size, (rows, width)).astype(f)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    clamped, found = quantized(x, inverse, zero, low, high)
    with_floats = np.rint(x * f(inverse) + f(zero))
    assert clamped == (with_floats < low).sum() + (with_floats > high).sum()
    np.testing.assert_array_equal(found, np.clip(with_floats, low, high))
    exact = Span(*[x.astype(np.float64) * inverse + zero] * 2)
    assert_within(found, exact.rounded(1e-3).clamped(low, high))


def test_halves_are_rounded_to_even_and_the_largest_floats_are_finite() -> None:
    largest = np.finfo(f).max
    x = np.array([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, largest, -largest, 1e-45]], f)
    clamped, found = quantized(x, 2.0, 0, -4, 3)
    assert found.tolist() == [[-4, -3, -1, 1, 3, 3, 3, -4, 0]]
    assert clamped == 4
    assert quantized(x, 1.0, 0, -128, 127)[1].tolist() == [[-2, -2, 0, 0, 2, 2, 127, -128, 0]]


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 18), (4, 3)])
def test_a_value_that_is_not_finite_is_told(bad: float, row: int, column: int) -> None:
    x = np.zeros((5, 19), f)
    assert quantized(x, 1.0, 0, -128, 127)[0] == 0
    x[row, column] = bad
    assert quantized(x, 1.0, 0, -128, 127)[0] == -1


@pytest.mark.parametrize("shape", [(1700, 7), (3, 9000), (1, 8192), (2, 8193), (600, 16), (20000, 1)])
def test_many_values_are_quantized_piece_by_piece(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(0, 2, shape).astype(f)
    clamped, found = quantized(x, 40.0, 3, -100, 100)
    wanted = np.rint(x * f(40) + f(3))
    np.testing.assert_array_equal(found, np.clip(wanted, -100, 100))
    assert clamped == (np.abs(wanted) > 100).sum() > 0
    x[-1, -1] = np.nan
    assert quantized(x, 40.0, 3, -100, 100)[0] == -1
    x[-1, -1], x[0, 0] = 0, np.inf
    assert quantized(x, 40.0, 3, -100, 100)[0] == -1


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_rows_and_columns_of_csr_are_checked(kind: type) -> None:
    starts, columns = np.array([0, 2, 2, 5], kind), np.array([0, 3, 1, 2, 3], kind)
    assert features.is_csr(starts, columns, 4)
    assert features.is_csr(np.zeros(1, kind), np.zeros(0, kind), 4)
    assert features.is_csr(np.zeros(3, kind), np.zeros(0, kind), 0)
    assert not features.is_csr(starts, columns, 3)
    for at, of_starts, wrong in ((0, True, 1), (3, True, 4), (1, True, 3), (2, False, -1), (4, False, 4)):
        changed = (starts if of_starts else columns).copy()
        changed[at] = wrong
        assert not features.is_csr(*((changed, columns) if of_starts else (starts, changed)), 4)


def test_centred_codes_have_more_than_eight_bits() -> None:
    out = np.zeros(3, np.int16)
    features.centred(np.array([-128, 0, 127, 5], np.int8), np.int16(127), out)
    assert out.tolist() == [-255, -127, 0]
