"""The sampling thread: how often, how dear, and what becomes of errors."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from gnncompress.profiling.sampling import SHARE, Sampler


def wait_for(condition: Callable[[], object]) -> None:
    until = time.perf_counter() + 5
    while not condition() and time.perf_counter() < until:
        time.sleep(0.005)
    assert condition()


def test_dear_samples_are_taken_less_often() -> None:
    calls, used = 0, 0.0

    def sample() -> None:
        nonlocal calls, used
        began = time.thread_time()
        while time.thread_time() - began < 0.002:
            pass
        calls, used = calls + 1, used + time.thread_time() - began

    began = time.perf_counter()
    with Sampler(sample, 0.001):
        time.sleep(1.0)
    wall = time.perf_counter() - began
    # One after a millisecond, then one in 0.4 s: not the thousand that was asked for, nor the five hundred that fit.
    assert 1 <= calls <= 2 + wall / (0.002 / SHARE)
    assert used < 0.02 * wall


def test_cheap_samples_are_taken_at_the_interval() -> None:
    moments: list[float] = []
    with Sampler(lambda: moments.append(time.perf_counter()), 0.02):
        wait_for(lambda: len(moments) >= 10)
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert min(gaps) > 0.015


def test_the_first_sample_comes_after_an_interval() -> None:
    calls: list[int] = []
    with Sampler(lambda: calls.append(1), 60):
        time.sleep(0.05)
    assert calls == []


def test_stop_does_not_wait_for_the_interval() -> None:
    sampler = Sampler(lambda: None, 60)
    sampler.start()
    began = time.perf_counter()
    sampler.stop()
    assert time.perf_counter() - began < 5


def test_nothing_is_sampled_after_stop() -> None:
    calls: list[int] = []
    sampler = Sampler(lambda: calls.append(1), 0.001)
    sampler.start()
    wait_for(lambda: calls)
    sampler.stop()
    seen = len(calls)
    time.sleep(0.05)
    assert len(calls) == seen


def test_errors_end_the_sampling_and_are_raised_by_stop() -> None:
    calls: list[int] = []

    def sample() -> None:
        calls.append(1)
        raise ValueError("broken")

    sampler = Sampler(sample, 0.001)
    sampler.start()
    wait_for(lambda: calls)
    time.sleep(0.05)
    with pytest.raises(ValueError, match="broken"):
        sampler.stop()
    assert calls == [1]


def test_it_can_be_started_again_even_after_an_error() -> None:
    calls: list[int] = []

    def sample() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("broken")

    sampler = Sampler(sample, 0.001)
    sampler.start()
    wait_for(lambda: calls)
    with pytest.raises(ValueError, match="broken"):
        sampler.stop()
    for _ in range(2):
        seen = len(calls)
        sampler.start()
        wait_for(lambda seen=seen: len(calls) > seen)
        sampler.stop()


def test_no_thread_is_left_and_stopping_twice_does_no_harm() -> None:
    before = threading.active_count()
    sampler = Sampler(lambda: None, 0.001)
    sampler.stop()
    sampler.start()
    assert threading.active_count() == before + 1
    sampler.stop()
    sampler.stop()
    assert threading.active_count() == before
