"""Intervals of differences, and calls that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gnncompress.profiling.comparison import (
    Difference,
    difference,
    difference_of_scores,
    energies,
    interleaved,
    median_interval,
    pairs_needed,
)
from gnncompress.profiling.energy import NoMeter, Reading
from gnncompress.profiling.latency import Window

FAST = Window(warmup=3, seconds=0.001)


def test_a_difference_that_leaves_out_nothing_is_significant() -> None:
    assert Difference(0.1, 0.01, 0.2).significant
    assert Difference(-0.1, -0.2, -0.01).significant
    assert not Difference(0.1, -0.01, 0.2).significant
    ratio = Difference(np.log(2), 0.0, np.log(4)).as_ratio()
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 1, 4))


def test_the_interval_of_many_normal_values_is_that_of_theory() -> None:
    values = stats.norm.ppf((np.arange(4000) + 0.5) / 4000, 0.3)
    found = difference(values, 0.95)
    assert found.value == np.median(values)
    error = 1.96 * np.sqrt(np.pi / 2 / 4000)  # the standard error of a median
    assert (found.low, found.high) == pytest.approx((found.value - error, found.value + error), abs=1e-3)


def test_ends_are_order_statistics_by_hand() -> None:
    values = np.array([5.0, 1.0, 7.0, 2.0, 8.0, 3.0, 6.0, 4.0])
    assert pairs_needed(0.99) == 8
    share = (0.01 - 2 / 2**8) / (2 * 9 / 2**8 - 2 / 2**8)  # of the way from 2 / 256 to 18 / 256
    inwards = 7 * share / (1 + 6 * share)
    low, high = median_interval(values, 0.99)
    assert (low, high) == pytest.approx((1 + inwards, 8 - inwards))
    low, high = median_interval(values[:5], 0.99)  # 1, 2, 5, 7, 8: moved out by 0.58 times 7
    reach = 7 * (0.01**-0.25 / 2 - 1)
    assert (low, high) == pytest.approx((1 - reach, 8 + reach))


@pytest.mark.parametrize(("value", "rounds"), [(0.5, 20), (0.1, 5), (1 / 3, 9), (-2.0, 2)])
def test_values_that_are_all_alike_have_a_point_for_an_interval(value: float, rounds: int) -> None:
    assert difference(np.full(rounds, value), 0.99) == Difference(value, value, value)
    assert not difference(np.zeros(rounds), 0.99).significant


def test_an_interval_beyond_all_floats_is_infinite() -> None:
    ratio = Difference(0.0, -1e6, 1e6).as_ratio()
    assert (ratio.value, ratio.low, ratio.high) == (1, 0, float("inf"))


SIMULATED = 40_000
ROUNDS = (5, 8, 10, 20)
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
# Name, how values are drawn, and the median of what they are drawn from.
SHAPES: list[tuple[str, Draw, float]] = [
    ("normal", lambda rng, size: rng.normal(size=size), 0),
    ("uniform", lambda rng, size: rng.uniform(-1, 1, size), 0),
    ("heavy tails", lambda rng, size: rng.standard_t(2, size), 0),
    ("no mean", lambda rng, size: rng.standard_cauchy(size), 0),
    ("lognormal", lambda rng, size: rng.lognormal(0, 1, size), 1),
    ("lognormal, to the left", lambda rng, size: -rng.lognormal(0, 1, size), -1),
    ("exponential", lambda rng, size: rng.exponential(1, size), np.log(2)),
]


def missed(values: np.ndarray, median: float, confidence: float = 0.99) -> float:
    low, high = median_interval(values, confidence)
    return float(np.mean((low > median) | (high < median)))


@pytest.mark.parametrize(("name", "draw", "median"), SHAPES)
def test_intervals_leave_the_median_out_as_seldom_as_said(name: str, draw: Draw, median: float) -> None:
    rng = np.random.default_rng(1)
    for rounds in ROUNDS:
        assert missed(draw(rng, (SIMULATED, rounds)), median) < 0.0135, (
            rounds
        )  # 0.01 and 3.5 standard errors, and 0.002
        assert missed(draw(rng, (SIMULATED, rounds)), median, 0.9) < 0.115, rounds


# Seconds of calls that are alike: log-ratios of theirs differ from 0 by chance alone.
CALLS: list[tuple[str, Draw]] = [
    ("constant", lambda rng, size: np.full(size, 0.0167)),
    ("normal", lambda rng, size: 0.0167 * (1 + 0.03 * rng.normal(size=size))),
    ("lognormal", lambda rng, size: rng.lognormal(-4, 0.5, size)),
    ("rare delays", lambda rng, size: 0.0167 + 0.1 * (rng.random(size) < 0.2) * rng.random(size)),
    ("delays of any length", lambda rng, size: 0.0167 * (1 + 0.1 * rng.lognormal(0, 1.5, size))),
    ("two speeds, by place in memory", lambda rng, size: 0.0167 * np.where(rng.random(size) < 0.5, 1, 1.02)),
    ("a coarse clock", lambda rng, size: np.round(20 + 2 * rng.normal(size=size)) / 1000),
]


@pytest.mark.parametrize(("name", "draw"), CALLS)
def test_chance_is_called_a_difference_as_seldom_as_said(name: str, draw: Draw) -> None:
    rng = np.random.default_rng(2)
    for rounds in ROUNDS:
        a, b = draw(rng, (SIMULATED, rounds)), draw(rng, (SIMULATED, rounds))
        assert missed(np.log(b / a), 0.0) < 0.0135, rounds


@pytest.mark.parametrize(
    ("rounds", "noise", "factor"), [(5, 0.05, 7.5), (5, 0.03, 1.5), (10, 0.01, 1.05), (20, 0.01, 1.02)]
)
def test_real_differences_are_shown(rounds: int, noise: float, factor: float) -> None:
    rng = np.random.default_rng(3)
    ratios = np.log(factor) + noise * (rng.normal(size=(10_000, rounds)) - rng.normal(size=(10_000, rounds)))
    low, high = median_interval(ratios, 0.99)
    assert np.mean(low > 0) > 0.95
    assert np.median(np.exp(high - low)) < 1 + 9 * noise, "an interval that says how large the difference is"


def test_the_smallest_number_of_rounds_shows_a_large_difference_although_one_was_disturbed() -> None:
    ratio = difference(np.log([7.95, 7.947, 5.9, 7.953, 7.95]), 0.99).as_ratio()
    assert ratio.value == pytest.approx(7.95)
    assert 4.5 < ratio.low < 5.5
    assert 8 < ratio.high < 10


@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=40),
    st.floats(0.5, 0.9999),
    st.floats(-10, 10),
)
def test_an_interval_holds_the_median_and_moves_with_the_values(
    values: list[float], confidence: float, shift: float
) -> None:
    found = difference(np.array(values), confidence)
    assert found.low <= found.value + 1e-12
    assert found.high >= found.value - 1e-12
    moved = difference(np.array(values) + shift, confidence)
    assert (moved.low, moved.high) == pytest.approx((found.low + shift, found.high + shift), rel=1e-6, abs=1e-6)
    mirrored = difference(-np.array(values), confidence)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), rel=1e-9, abs=1e-9)


def test_a_bootstrap_of_scores_is_that_of_proportions() -> None:
    right_a, right_b = np.arange(400) % 2, (np.arange(400) % 4 > 0).astype(int)

    def gap(items: np.ndarray) -> float:
        return float(right_b[items].mean() - right_a[items].mean())

    found = difference_of_scores(gap, 400, 0.95)
    assert found is not None
    assert found.value == 0.25
    spread = 1.96 * (right_b - right_a).std() / 20
    assert (found.low, found.high) == pytest.approx((0.25 - spread, 0.25 + spread), abs=0.01)


def test_scores_of_the_same_predictions_do_not_differ() -> None:
    assert difference_of_scores(lambda items: 0.0, 50, 0.99) == Difference(0, 0, 0)


def test_items_without_a_score_have_no_difference() -> None:
    assert difference_of_scores(lambda items: None, 50, 0.99) is None


@settings(max_examples=20)
@given(st.integers(1, 30))
def test_resamples_without_a_score_are_left_out(items: int) -> None:
    def score(drawn: np.ndarray) -> float | None:
        return None if items > 1 and len(np.unique(drawn)) == 1 else 1.0

    assert difference_of_scores(score, items, 0.9, resamples=50) == Difference(1, 1, 1)


def spinning(milliseconds: float) -> Callable[[], object]:
    def call() -> None:
        until = time.perf_counter() + milliseconds / 1e3
        while time.perf_counter() < until:
            pass

    return call


def test_a_call_that_takes_twice_as_long_is_found_out() -> None:
    found = interleaved([lambda: spinning(1), lambda: spinning(2)], 8, 0.03, FAST)
    assert found.seconds.shape == (8, 2)
    faster = difference(found.log_ratios, 0.99).as_ratio()
    assert faster.value > 1.3
    assert faster.low > 1


def test_turns_change_and_every_round_makes_both_anew() -> None:
    order: list[str] = []
    made: list[str] = []

    def maker(name: str) -> Callable[[], Callable[[], object]]:
        def make() -> Callable[[], object]:
            made.append(name)
            return lambda: order.append(name)

        return make

    interleaved([maker("a"), maker("b")], 10, 0, Window(warmup=0))
    assert sorted(made) == ["a"] * 10 + ["b"] * 10
    assert len({tuple(made[i : i + 2]) for i in range(0, 20, 2)}) == 2, "the order is drawn"
    first = order[:10]
    assert first in (list("abbaabbaab"), list("baabbaabba"))


@pytest.mark.parametrize(("duration", "calls"), [(0.05, 10), (0.3, 4), (50.0, 2)])
def test_slow_calls_are_paired_as_often_as_the_budget_allows(
    monkeypatch: pytest.MonkeyPatch, duration: float, calls: int
) -> None:
    now, count = 0.0, 0

    def call() -> None:
        nonlocal now, count
        now, count = now + duration, count + 1

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    found = interleaved([lambda: call, lambda: call], 5, 0.1, Window(warmup=0, budget=5.0))
    assert count == 5 * calls
    assert found.seconds == pytest.approx(np.full((5, 2), duration))
    assert found.log_ratios == pytest.approx(np.zeros(5), abs=1e-9)


def test_comparing_slow_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def call() -> None:
        nonlocal now
        now += 16.0

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    interleaved([lambda: call, lambda: call], 20, 1.0, Window())
    assert now == 20 * (2 + 2) * 16.0, "one call to warm up and one that is timed, of each in each round"


class Counting:
    """A meter of 10 W, whose second component fails when told to."""

    def __init__(self, fails: int = -1) -> None:
        self.windows, self.fails = 0, fails

    def start(self) -> None:
        self.begun = time.perf_counter()

    def stop(self) -> list[Reading]:
        self.windows += 1
        dram = (
            Reading("dram", 1.0, "rapl") if self.windows != self.fails else Reading("dram", None, "unavailable", "gone")
        )
        return [Reading("cpu", 10 * (time.perf_counter() - self.begun), "rapl"), dram]


def test_energy_a_call_follows_its_time() -> None:
    found, notes = energies([spinning(1), spinning(3)], Counting(), 4, 0.05)
    assert notes == []
    joules, source = found["cpu"]
    assert joules.shape == (4, 2)
    assert source == "rapl"
    assert np.median(joules[:, 1] / joules[:, 0]) == pytest.approx(3, rel=0.4)


def test_a_component_that_failed_once_is_left_out_and_named() -> None:
    found, notes = energies([spinning(0.1), spinning(0.1)], Counting(fails=3), 3, 0.01)
    assert set(found) == {"cpu"}
    assert notes == ["energy of dram: gone"]


def test_without_a_meter_no_time_is_spent() -> None:
    started = time.perf_counter()
    assert energies([spinning(1), spinning(1)], NoMeter("none here"), 10, 10.0) == ({}, ["energy of cpu: none here"])
    assert time.perf_counter() - started < 1
