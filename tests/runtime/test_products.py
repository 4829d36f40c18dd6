"""Products of codes: the processor's own instruction and torch give the same codes, those of numpy."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnncompress.runtime import arrays, dots, products, vectors
from gnncompress.runtime.model import ProgramModel
from gnncompress.runtime.rounding import ADD, AGAIN, MINUS_ZERO, NONE, SCALE, SCALE_2, SHIFT, fit
from gnncompress.runtime.vectors import padded
from tests.runtime.helpers import (
    NO_OTHER,
    POISON,
    SECONDS,
    SEEDS,
    Span,
    assert_within,
    random_codes,
    random_numbers,
    random_others,
    rounded_twice,
    slack_of,
)
from tests.runtime.test_executor import features, small, some_edges

needs_instruction = pytest.mark.skipif(not dots.available(), reason="this processor has no AVX-512 VNNI")
PATHS = [pytest.param(False, id="torch"), pytest.param(True, id="instruction", marks=needs_instruction)]
some = settings(max_examples=25, deadline=None)
# Around the tiles of six rows by 64 columns.
rows_of = st.sampled_from([0, 1, 2, 5, 6, 7, 12, 13, 40])
widths = st.sampled_from([1, 15, 16, 17, 48, 63, 64, 65, 80, 128, 150])
inputs_of = st.sampled_from([1, 3, 4, 16, 17, 64, 100])
zeros = st.sampled_from([-128, -3, 0, 1, 127])


@contextmanager
def path(instruction: bool) -> Iterator[None]:
    """Products on the processor's own instruction, or on torch."""
    with pytest.MonkeyPatch.context() as patch:
        if instruction:
            patch.delenv(products.PORTABLE, raising=False)
        else:
            patch.setenv(products.PORTABLE, "1")
        products.fast.cache_clear()
        yield
    products.fast.cache_clear()


@pytest.fixture
def undecided() -> Iterator[None]:
    """Let ``fast`` decide anew."""
    products.fast.cache_clear()
    yield
    products.fast.cache_clear()


def product(
    instruction: bool, x: np.ndarray, weight: np.ndarray, inputs: int, zero: int, numbers: np.ndarray,
    second: int = NONE, other: np.ndarray = NO_OTHER,
) -> np.ndarray:  # fmt: skip
    """The rounded product; the rows around it must stay as they are."""
    room = arrays.codes(len(x) + 2, weight.shape[1])
    room[...] = POISON
    totals, sums = np.full(len(x), POISON, np.float32), np.full((len(x), weight.shape[1]), POISON, np.int32)
    with path(instruction):
        by = products.weight(weight, inputs, zero, bool(numbers[MINUS_ZERO].any()))
        assert (by.packed is not None) == instruction
        fits = fit(numbers, second, 2.0**32, numbers[SCALE], numbers[SHIFT]) and other.dtype == np.int8
        products.bound(x, by, numbers, fits, second, other, room[1:-1], lambda: (sums, totals))()
    assert (room[[0, -1]] == POISON).all()
    return room[1:-1]


@pytest.mark.parametrize("instruction", PATHS)
@some
@given(rows=rows_of, inputs=inputs_of, width=widths, zero=zeros, seed=SEEDS, has_zeros=st.booleans())
def test_sums_are_exact(
    instruction: bool, rows: int, inputs: int, width: int, zero: int, seed: int, has_zeros: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, weight = random_codes(rng, rows, inputs), random_codes(rng, padded(inputs), width)
    weight[inputs:] = 0
    with path(instruction):
        by = products.weight(weight, inputs, zero, has_zeros)
    sums, totals = np.full((rows, weight.shape[1]), POISON, np.int32), np.full(rows, POISON, np.float32)
    products.multiply(x, by, sums, totals)
    left = x.astype(np.int64) - zero
    np.testing.assert_array_equal(sums, left @ weight.astype(np.int64))
    np.testing.assert_array_equal(totals, left[:, :inputs].sum(1) if has_zeros else np.zeros(rows))


@pytest.mark.parametrize(("second", "kind"), SECONDS)
@some
@given(rows=rows_of, inputs=inputs_of, width=widths, zero=zeros, seed=SEEDS, exact=st.booleans(), plain=st.booleans())
def test_both_paths_give_the_codes_of_whole_numbers(
    second: int, kind: type, rows: int, inputs: int, width: int, zero: int, seed: int, exact: bool, plain: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, weight = random_codes(rng, rows, inputs), random_codes(rng, padded(inputs), width)
    weight[inputs:] = 0
    numbers = random_numbers(rng, width, 256.0 * 128 * inputs, exact)
    if plain:
        numbers[MINUS_ZERO] = 0
    other = random_others(rng, rows, width, second, kind)
    given = x, weight, inputs, zero, numbers, second, other
    by_torch = product(False, *given)

    left = x[:, :inputs].astype(np.int64) - zero
    number = numbers[:, :width].astype(np.float64)
    v = left @ weight[:inputs, :width].astype(np.int64) + number[MINUS_ZERO] * left.sum(1, keepdims=True)
    v = Span(v, v).scaled(number[SCALE], number[SHIFT])
    assert_within(by_torch[:, :width], rounded_twice(v, number, second, other[:, :width], slack_of(exact)))
    assert (by_torch[:, width:] == 0).all()
    if dots.available():
        np.testing.assert_array_equal(product(True, *given), by_torch)


@pytest.mark.parametrize("instruction", PATHS)
@pytest.mark.parametrize("zero", [-128, 127])
@pytest.mark.parametrize(("code", "weight"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
def test_the_largest_products_do_not_saturate(instruction: bool, zero: int, code: int, weight: int) -> None:
    inputs = 4096
    x, weights = np.full((7, inputs), code, np.int8), np.full((inputs, 80), weight, np.int8)
    sum_of_all = inputs * (code - zero) * weight
    numbers = arrays.numbers(80, {SCALE: 2.0**-22, SHIFT: 0.25})
    found = product(instruction, x, weights, inputs, zero, numbers)
    assert (found == np.rint(sum_of_all * 2.0**-22 + 0.25)).all()


@pytest.mark.parametrize("second", [NONE, AGAIN])
@pytest.mark.parametrize("instruction", PATHS)
def test_values_beyond_all_whole_numbers_become_the_ends(instruction: bool, second: int) -> None:
    x = np.tile(np.array([[-3], [0], [2]], np.int8), (3, 16))
    numbers = arrays.numbers(64, {SCALE: 1e12, SCALE_2: 1e12})
    found = product(instruction, x, np.ones((16, 64), np.int8), 16, 0, numbers, second)
    assert found[:, 0].tolist() == [-128, 0, 127] * 3
    assert (found == found[:, :1]).all()


@pytest.mark.parametrize("second", [NONE, AGAIN, ADD])
@pytest.mark.parametrize("instruction", PATHS)
def test_halves_are_rounded_to_even(instruction: bool, second: int) -> None:
    x = np.zeros((8, 16), np.int8)
    x[:, 0] = [-5, -3, -2, -1, 1, 2, 3, 5]
    weight = np.zeros((16, 16), np.int8)
    weight[0] = 1
    numbers = arrays.numbers(16, {SCALE: 0.5, SCALE_2: 1})
    other = np.zeros((8, 16), np.int8) if second == ADD else NO_OTHER
    found = product(instruction, x, weight, 16, 0, numbers, second, other)
    assert found[:, 3].tolist() == [-2, -2, -1, 0, 0, 1, 2, 2]
    assert (found == found[:, :1]).all()


@pytest.mark.usefixtures("undecided")
@pytest.mark.parametrize("value", ["1", "0", "yes"])
def test_the_environment_keeps_products_to_torch(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNCOMPRESS_PORTABLE", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not products.fast()
        assert products.weight(np.zeros((16, 16), np.int8), 16, 0, False).packed is None


@needs_instruction
@pytest.mark.usefixtures("undecided")
def test_a_processor_with_the_instruction_uses_it_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNNCOMPRESS_PORTABLE", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert products.fast()
        assert products.weight(np.zeros((16, 16), np.int8), 16, 0, False).packed is not None


@pytest.mark.usefixtures("undecided")
def test_a_processor_without_the_instruction_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNNCOMPRESS_PORTABLE", raising=False)
    monkeypatch.setattr(dots, "available", lambda: False)
    codes = np.ones((16, 16), np.int8)
    with pytest.warns(RuntimeWarning, match=r"no AVX-512 VNNI: integer products run through torch\._int_mm"):
        by = products.weight(codes, 16, 0, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert products.weight(codes, 16, 0, False).packed is None
        assert not products.fast()
    assert by.packed is None
    sums = np.zeros((2, 16), np.int32)
    products.multiply(np.ones((2, 16), np.int8), by, sums, np.zeros(2, np.float32))
    assert (sums == 16).all()


@pytest.mark.parametrize(
    ("features", "wanted"), [("+avx2,+avx512vnni", True), ("+avx2,-avx512vnni", False), ("", False)]
)
def test_the_instruction_is_asked_for(features: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "features_of_target", lambda: features)
    assert dots.available.__wrapped__() is wanted


def test_processors_without_wide_vectors_give_the_same(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np\n"
        "from gnncompress.runtime import dots\n"
        "from gnncompress.runtime.model import ProgramModel\n"
        "from tests.runtime.test_executor import features, small, some_edges\n"
        "assert not dots.available()\n"
        "np.save(sys.argv[1], ProgramModel(small())(features(90), some_edges(90, 300)).numpy())\n"
    )
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    given = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "found.npy")]
    root = Path(__file__).parents[2]
    made = subprocess.run(given, env={**os.environ, **plain}, cwd=root, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    wanted = ProgramModel(small())(features(90), some_edges(90, 300)).numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), wanted)
