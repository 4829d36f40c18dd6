"""Products of codes: every level of the processor gives the same bits, those of whole numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import llvmlite.binding
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnncompress.runtime import arrays, dots, products
from gnncompress.runtime.levels import LEVELS, VARIABLE, Level
from gnncompress.runtime.model import ProgramModel
from gnncompress.runtime.operations import Linear
from gnncompress.runtime.program import Program
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
from tests.runtime.test_executor import WIDTH, features, small, some_edges

USABLE = [level for level in LEVELS if level.available]
EACH = pytest.mark.parametrize("level", USABLE, ids=lambda level: level.name)
some = settings(max_examples=25, deadline=None)
# Around the tiles of four rows by 64 columns.
rows_of = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 13, 40])
widths = st.sampled_from([1, 15, 16, 17, 48, 63, 64, 65, 80, 128, 150])
# Around the steps of two and four inputs, and the sums that float32 has: 514 times 255 times 128, 1024 times 128 twice.
inputs_of = st.sampled_from([1, 2, 3, 4, 5, 16, 17, 64, 100, 513, 514, 515, 1023, 1024, 1025, 2049, 3000])
zeros = st.sampled_from([-128, -3, 0, 1, 127])


@contextmanager
def forced(level: Level) -> Iterator[None]:
    """Products at a level."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, level.name)
        yield


def product(
    level: Level, x: np.ndarray, weight: np.ndarray, inputs: int, zero: int, numbers: np.ndarray,
    second: int = NONE, other: np.ndarray = NO_OTHER,
) -> np.ndarray:  # fmt: skip
    """The rounded product; the rows around it must stay as they are."""
    room = arrays.codes(len(x) + 2, weight.shape[1])
    room[...] = POISON
    totals, sums = np.full(len(x), POISON, np.float32), np.full((len(x), weight.shape[1]), POISON, np.int32)
    with forced(level):
        by = products.weight(weight, inputs, zero, bool(numbers[MINUS_ZERO].any()))
    assert by.packed.dtype == level.dtype
    fits = fit(numbers, second, 2.0**32, numbers[SCALE], numbers[SHIFT]) and other.dtype == np.int8
    products.bound(x, by, numbers, fits, second, other, room[1:-1], lambda: (sums, totals))()
    assert (room[[0, -1]] == POISON).all()
    return room[1:-1]


def sums_of(
    level: Level, x: np.ndarray, weight: np.ndarray, inputs: int, zero: int, has_zeros: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The sums of a product, and those of the rows; the row behind must stay as it is."""
    with forced(level):
        by = products.weight(weight, inputs, zero, has_zeros)
    sums, totals = np.full((len(x) + 1, weight.shape[1]), POISON, np.int32), np.full(len(x), POISON, np.float32)
    products.multiply(x, by, sums[:-1], totals)
    assert (sums[-1] == POISON).all()
    return sums[:-1], totals


@EACH
@some
@given(rows=rows_of, inputs=inputs_of, width=widths, zero=zeros, seed=SEEDS, has_zeros=st.booleans())
def test_sums_are_exact(
    level: Level, rows: int, inputs: int, width: int, zero: int, seed: int, has_zeros: bool
) -> None:
    rng = np.random.default_rng(seed)
    x, weight = random_codes(rng, rows, inputs), random_codes(rng, padded(inputs), width)
    weight[inputs:] = 0
    sums, totals = sums_of(level, x, weight, inputs, zero, has_zeros)
    left = x.astype(np.int64) - zero
    np.testing.assert_array_equal(sums, left @ weight.astype(np.int64))
    np.testing.assert_array_equal(totals, left[:, :inputs].sum(1) if has_zeros else np.zeros(rows))


@EACH
@pytest.mark.parametrize("zero", [-128, 0, 127])
@pytest.mark.parametrize(("code", "weight"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
@pytest.mark.parametrize("inputs", [512, 513, 514, 515, 1024, 1025, 2048, 4097, 60000])
def test_the_largest_sums_are_exact(level: Level, inputs: int, code: int, weight: int, zero: int) -> None:
    # All but one product push the sum to one side; odd sums beyond 2^24 are those that float32 has not.
    x, weights = arrays.codes(5, inputs), arrays.codes(padded(inputs), 80)
    x[...], weights[...] = 0, 0
    x[:, :inputs], weights[:inputs] = code, weight
    x[:, inputs // 2], weights[inputs // 2] = np.arange(-2, 3), 1
    sums, _ = sums_of(level, x, weights, inputs, zero, False)
    expected = (x.astype(np.int64) - zero)[:, :inputs] @ weights[:inputs].astype(np.int64)
    np.testing.assert_array_equal(sums, expected)


@EACH
def test_threads_share_a_weight(level: Level) -> None:
    rng = np.random.default_rng(0)
    x, weight = random_codes(rng, 400, 1500), random_codes(rng, padded(1500), 40)
    weight[1500:] = 0
    with forced(level):
        by = products.weight(weight, 1500, 5, True)
    sums, totals = np.empty((400, weight.shape[1]), np.int32), np.empty(400, np.float32)

    def part(begin: int) -> None:
        rows = slice(begin, begin + 50)
        products.multiply(x[rows], by, sums[rows], totals[rows])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(part, range(0, 400, 50)))
    left = x.astype(np.int64) - 5
    np.testing.assert_array_equal(sums, left @ weight.astype(np.int64))
    np.testing.assert_array_equal(totals, left[:, :1500].sum(1))


@pytest.mark.parametrize(("second", "kind"), SECONDS)
@some
@given(rows=rows_of, inputs=inputs_of, width=widths, zero=zeros, seed=SEEDS, exact=st.booleans(), plain=st.booleans())
def test_all_levels_give_the_codes_of_whole_numbers(
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
    found = {level.name: product(level, *given) for level in USABLE}
    portable = found[LEVELS[-1].name]

    left = x[:, :inputs].astype(np.int64) - zero
    number = numbers[:, :width].astype(np.float64)
    v = left @ weight[:inputs, :width].astype(np.int64) + number[MINUS_ZERO] * left.sum(1, keepdims=True)
    v = Span(v, v).scaled(number[SCALE], number[SHIFT])
    assert_within(portable[:, :width], rounded_twice(v, number, second, other[:, :width], slack_of(exact)))
    assert (portable[:, width:] == 0).all()
    for name, codes in found.items():
        np.testing.assert_array_equal(codes, portable, err_msg=name)


@EACH
@pytest.mark.parametrize("zero", [-128, 127])
@pytest.mark.parametrize(("code", "weight"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
def test_the_largest_products_do_not_saturate(level: Level, zero: int, code: int, weight: int) -> None:
    inputs = 4096
    x, weights = np.full((7, inputs), code, np.int8), np.full((inputs, 80), weight, np.int8)
    sum_of_all = inputs * (code - zero) * weight
    numbers = arrays.numbers(80, {SCALE: 2.0**-22, SHIFT: 0.25})
    found = product(level, x, weights, inputs, zero, numbers)
    assert (found == np.rint(sum_of_all * 2.0**-22 + 0.25)).all()


@pytest.mark.parametrize("second", [NONE, AGAIN])
@EACH
def test_values_beyond_all_whole_numbers_become_the_ends(level: Level, second: int) -> None:
    x = np.tile(np.array([[-3], [0], [2]], np.int8), (3, 16))
    numbers = arrays.numbers(64, {SCALE: 1e12, SCALE_2: 1e12})
    found = product(level, x, np.ones((16, 64), np.int8), 16, 0, numbers, second)
    assert found[:, 0].tolist() == [-128, 0, 127] * 3
    assert (found == found[:, :1]).all()


@pytest.mark.parametrize("second", [NONE, AGAIN, ADD])
@EACH
def test_halves_are_rounded_to_even(level: Level, second: int) -> None:
    x = np.zeros((8, 16), np.int8)
    x[:, 0] = [-5, -3, -2, -1, 1, 2, 3, 5]
    weight = np.zeros((16, 16), np.int8)
    weight[0] = 1
    numbers = arrays.numbers(16, {SCALE: 0.5, SCALE_2: 1})
    other = np.zeros((8, 16), np.int8) if second == ADD else NO_OTHER
    found = product(level, x, weight, 16, 0, numbers, second, other)
    assert found[:, 3].tolist() == [-2, -2, -1, 0, 0, 1, 2, 2]
    assert (found == found[:, :1]).all()


def test_weights_are_packed_by_steps_of_the_level() -> None:
    weight = np.arange(5 * 16, dtype=np.int8).reshape(5, 16)
    for level in LEVELS:
        packed = dots.packed(weight, level)
        steps = -(-5 // level.together)
        assert (packed.dtype, packed.shape) == (level.dtype, (steps, 16 * level.together))
        rows = packed.reshape(steps, 16, level.together).transpose(0, 2, 1).reshape(-1, 16)
        np.testing.assert_array_equal(rows[:5], weight)
        assert (rows[5:] == 0).all()


def without_avx512() -> str:
    """This processor's features but for those of AVX-512, as numba's setting has them."""
    found = llvmlite.binding.get_host_cpu_features()
    return ",".join(f"{'+' if has and 'avx512' not in name else '-'}{name}" for name, has in sorted(found.items()))


HAS_AVX2 = bool(llvmlite.binding.get_host_cpu_features().get("avx2"))


def dyadic() -> Program:
    """Products, rounded and not, of sums of neighbours; the same without fused multiply-add: nothing is cut off."""
    rng = np.random.default_rng(7)
    first, last = random_codes(rng, 16, 80), random_codes(rng, 80, 3)
    first[WIDTH:] = 0
    rounded, values = {MINUS_ZERO: -2, SCALE: 2.0**-7, SHIFT: 0.5}, {MINUS_ZERO: 3, SCALE: 0.25, SHIFT: 1}
    *before, _, _ = small().operations
    return Program(
        (
            *before,
            Linear("product", "sums", first, WIDTH, 3, arrays.numbers(80, rounded), 80),
            Linear("out", "product", last, 80, -5, arrays.numbers(3, values)[: SHIFT + 1], 3, floats=True),
        ),
        ("x", "edge_index"),
        "out",
        3,
    )


@pytest.mark.parametrize(
    ("processor", "feature_list", "level"),
    [
        pytest.param("generic", "", "exact-f32", id="generic"),
        pytest.param(
            "haswell",
            without_avx512(),
            "avx2",
            id="avx2",
            marks=pytest.mark.skipif(not HAS_AVX2, reason="this processor has no AVX2"),
        ),
    ],
)
def test_processors_without_wide_vectors_give_the_same(
    processor: str, feature_list: str, level: str, tmp_path: Path
) -> None:
    script = (
        "import sys, numpy as np\n"
        "from gnncompress.runtime.levels import level\n"
        "from gnncompress.runtime.model import ProgramModel\n"
        "from tests.runtime.test_executor import features, some_edges\n"
        "from tests.runtime.test_products import dyadic\n"
        "assert level().name == sys.argv[2]\n"
        "np.save(sys.argv[1], ProgramModel(dyadic())(features(90), some_edges(90, 300)).numpy())\n"
    )
    other = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": feature_list}
    kept = {name: value for name, value in os.environ.items() if name != VARIABLE}
    given = [sys.executable, "-c", script, str(tmp_path / "found.npy"), level]
    root = Path(__file__).parents[2]
    made = subprocess.run(given, env={**kept, **other}, cwd=root, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert "Warning" not in made.stderr
    wanted = ProgramModel(dyadic())(features(90), some_edges(90, 300)).numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), wanted)
