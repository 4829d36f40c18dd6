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


def test_the_interval_of_a_mean_is_about_that_of_a_t_test() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 200)
    found = difference(values, 0.95)
    expected = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    assert found.value == values.mean()
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)


def test_values_that_are_all_alike_have_a_point_for_an_interval() -> None:
    assert difference(np.full(20, 0.5), 0.99) == Difference(0.5, 0.5, 0.5)
    assert not difference(np.zeros(20), 0.99).significant


@pytest.mark.parametrize("values", [5, 10, 20])
def test_chance_is_called_a_difference_as_often_as_said(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnncompress.profiling.comparison._RESAMPLES", 999)
    rng = np.random.default_rng(1)
    false = sum(difference(rng.normal(0, 1, values), 0.95, seed).significant for seed in range(400))
    assert 5 <= false <= 35, "20 are expected"


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
