"""The cost of inference: warm-up, latency, throughput, and energy over windows of repeated calls."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from gnncompress.errors import MeasurementError
from gnncompress.profiling import inference, latency
from gnncompress.profiling.energy import NoMeter, Reading, unavailable
from gnncompress.profiling.environment import environment
from gnncompress.profiling.inference import Profiled, profile_inference
from gnncompress.profiling.latency import Latency, WarmUp, Window, measure_latency, repeat, warm_up
from gnncompress.profiling.load import Load, Usage
from gnncompress.profiling.memory import current_memory, release

QUICK = Window(warmup=5, repetitions=3, seconds=0.0, energy_seconds=0.0, energy_windows=3)


class Calls:
    """A call that counts itself and, by a clock of its own, takes as long as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *durations: float) -> None:
        self.count, self.now, self._durations = 0, 0.0, durations
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def __call__(self) -> None:
        self.now += self._durations[min(self.count, len(self._durations) - 1)]
        self.count += 1


class Meter:
    """Gives the readings of one window after another."""

    def __init__(self, *windows: Sequence[Reading]) -> None:
        self.windows, self.started = list(windows), 0

    def start(self) -> None:
        self.started += 1

    def stop(self) -> Sequence[Reading]:
        return self.windows[self.started - 1]


def test_repetitions_and_seconds_are_both_least() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    assert len(measure_latency(call, Window(0, repetitions=50, seconds=0)).samples) == calls == 50
    started = time.perf_counter()
    found = measure_latency(call, Window(0, repetitions=1, seconds=0.05))
    assert time.perf_counter() - started >= 0.05
    assert len(found.samples) > 1


def test_each_call_is_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure_latency(Calls(monkeypatch, 0.5, 0.25, 1.0, 0.125), Window(repetitions=3, seconds=1.8))
    assert found.samples.tolist() == [0.5, 0.25, 1.0, 0.125]


def test_median_and_quantiles_by_hand() -> None:
    found = Latency(np.arange(1.0, 102.0))
    assert (found.median, found.quantile(0.95), found.quantile(0.99)) == (51, 96, 100)


def test_repeat_calls_once_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    assert repeat(Calls(monkeypatch, 0.0), 0.0) == 1
    assert repeat(Calls(monkeypatch, 0.5), 0.1) == 1
    assert repeat(Calls(monkeypatch, 0.5), 2.0) == 4
    assert repeat(Calls(monkeypatch, 0.5), 2.1) == 5


def test_a_stable_warm_up_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warm_up(Calls(monkeypatch, 1.0, 0.5), Window(warmup=300, seconds=100)) == WarmUp(10, True)


def test_a_warm_up_goes_on_until_two_groups_of_five_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = [4.0] * 5 + [2.0] * 5 + [1.0] * 5 + [1.04] * 5
    call = Calls(monkeypatch, *durations)
    assert warm_up(call, Window(warmup=300, seconds=100, budget=100)) == WarmUp(20, True)
    assert call.count == 20


def test_one_slow_call_among_five_does_not_keep_it_from_being_stable(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = [1.0] * 7 + [50.0] + [1.0]
    assert warm_up(Calls(monkeypatch, *durations), Window(warmup=300, seconds=100, budget=200)) == WarmUp(10, True)


def growing() -> Iterator[float]:
    return (1.1**number for number in range(100))


def test_a_warm_up_that_never_becomes_stable_ends_after_so_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Calls(monkeypatch, *growing())
    assert warm_up(call, Window(warmup=40, seconds=1e9, budget=1e9)) == WarmUp(40, False)
    assert call.count == 40


def test_a_warm_up_of_slow_calls_ends_after_ten_times_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warm_up(Calls(monkeypatch, 1.0), Window(warmup=300, seconds=0.65)) == WarmUp(7, False)
    assert warm_up(Calls(monkeypatch, 3.4), Window(warmup=300, seconds=1.0)) == WarmUp(3, False)


def test_a_warm_up_takes_half_of_the_budget_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warm_up(Calls(monkeypatch, 2.0), Window(warmup=300, seconds=100, budget=16)) == WarmUp(4, False)
    assert warm_up(Calls(monkeypatch, 1000.0), Window()) == WarmUp(1, False)


def test_slow_calls_are_timed_until_the_budget_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    for duration, calls in ((0.5, 30), (1.0, 20), (3.0, 7), (7.0, 3), (1000.0, 3)):
        assert len(measure_latency(Calls(monkeypatch, duration), Window()).samples) == calls
    assert len(measure_latency(Calls(monkeypatch, 1000.0), Window(repetitions=1)).samples) == 1
    assert len(measure_latency(Calls(monkeypatch, 1.0), Window(seconds=100.0)).samples) == 20


@pytest.mark.parametrize("duration", [0.01, 0.2, 0.5, 1.2, 4.0, 9.0, 16.0, 1000.0])
def test_measuring_a_call_is_bounded_however_slow_it_is(monkeypatch: pytest.MonkeyPatch, duration: float) -> None:
    window, call = Window(), Calls(monkeypatch, duration)
    found, rows = run(Meter(*[[Reading("cpu", 1.0, "rapl")]] * 3), call, window)
    energy = window.energy_windows * (window.energy_seconds + duration)
    assert call.now <= duration + max(window.budget + duration, 5 * duration) + energy
    samples = rows["repetitions"][0]
    assert samples == len(found.samples["latency"]) >= 3
    few = "inference: calls are slow, so that fewer than 30 were timed within 20 s (repetitions says how many)"
    assert (few in found.warnings) == (samples < 30)  # type: ignore[operator]
    assert (samples < 30) == (duration > 0.5)  # type: ignore[operator]


def run(
    meter: object = None, call: Callable[[], object] = lambda: None, window: Window = QUICK
) -> tuple[Profiled, dict[str, tuple[float | None, str, str]]]:
    found = profile_inference(lambda: call, lambda: 1000, window, meter or NoMeter())  # type: ignore[arg-type]
    assert {row.phase for row in found.measurements} == {"inference"}
    rows = {row.metric: (row.value, row.unit, row.source) for row in found.measurements}
    assert len(rows) == len(found.measurements), "a metric twice"
    return found, rows


def test_rows_and_samples() -> None:
    found, rows = run(call=lambda: sum(range(2_000)), window=Window(20, 30, 0.05, 0.0, 3))
    samples = found.samples["latency"]
    assert rows["repetitions"] == (len(samples), "calls", "measured")
    assert len(samples) >= 30
    assert rows["latency_median"] == (float(np.median(samples)), "s", "measured")
    assert rows["latency_p95"] == (float(np.quantile(samples, 0.95)), "s", "measured")
    assert rows["latency_p99"] == (float(np.quantile(samples, 0.99)), "s", "measured")
    assert rows["throughput"] == (1000 / np.median(samples), "items/s", "computed")
    assert 10 <= rows["warmup"][0] <= 20  # type: ignore[operator]
    assert rows["cpu"][0] > 0  # type: ignore[operator]
    assert rows["cpu_foreign"] == (None, "percent", "unavailable"), "too short a window"
    assert rows["memory_baseline"][0] > 10e6  # type: ignore[operator]
    assert rows["items_per_call"] == (1000, "items", "computed")
    assert {"memory_peak", "memory_peak_sampled", "context_switches_voluntary"} < set(rows)


def test_memory_of_what_was_prepared_is_counted() -> None:
    def prepare() -> Callable[[], object]:
        block = np.ones(64_000_000, dtype=np.uint8)
        return lambda: block[0]

    found = profile_inference(prepare, lambda: 1, QUICK, NoMeter())
    peaks = {row.metric: row.value for row in found.measurements}
    assert 60e6 < peaks["memory_peak"] < 90e6  # type: ignore[operator]


def test_what_only_the_first_call_takes_is_no_memory_of_the_model() -> None:
    kept: list[np.ndarray] = []

    def call() -> None:
        if not kept:  # as an import does, or a kernel that is compiled
            kept.append(np.ones(64_000_000, dtype=np.uint8))

    release()  # what other tests left would be given back meanwhile, and hide what the first call takes
    before = current_memory()
    found = profile_inference(lambda: call, lambda: 1, QUICK, NoMeter())
    rows = {row.metric: row.value for row in found.measurements}
    assert rows["memory_baseline"] - before > 60e6  # type: ignore[operator]
    assert rows["memory_peak"] < 10e6  # type: ignore[operator]
    assert rows["memory_peak_sampled"] < 10e6  # type: ignore[operator]


def test_the_rehearsal_is_over_when_memory_is_measured() -> None:
    alive: list[weakref.ref[object]] = []

    class Model:
        def __call__(self) -> None:
            assert sum(other() is not None for other in alive) == 1

    def prepare() -> Callable[[], object]:
        model = Model()
        alive.append(weakref.ref(model))
        return model

    profile_inference(prepare, lambda: 1, QUICK, NoMeter())
    assert len(alive) == 2


def test_memory_of_a_call_is_seen_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def peaks() -> tuple[float, float]:
        found = profile_inference(lambda: lambda: np.ones(64_000_000, dtype=np.uint8), lambda: 1, QUICK, NoMeter())
        rows = {row.metric: row.value for row in found.measurements}
        return rows["memory_peak"], rows["memory_peak_sampled"]  # type: ignore[return-value]

    exact, _ = peaks()
    assert 62e6 < exact < 70e6
    monkeypatch.setattr(inference, "reset_peak", lambda: False)
    peak, sampled = peaks()
    assert peak == sampled, "without the kernel's figure samples have to do"


def test_a_window_without_a_component_makes_it_unavailable() -> None:
    cpu, dram = Reading("cpu", 1.0, "rapl"), Reading("dram", 1.0, "rapl")
    found, rows = run(Meter([cpu, dram], [cpu], [dram, cpu]))
    assert rows["energy"][2] == "rapl"
    assert rows["energy_dram"] == (None, "J", "unavailable")
    assert rows["latency_median"][0] > 0  # type: ignore[operator]
    assert "energy of dram: one of the windows has none" in found.warnings


def test_a_meter_that_fails_takes_nothing_else_along() -> None:
    class Broken(Meter):
        def stop(self) -> list[Reading]:
            raise MeasurementError("the meter broke")

    found, rows = run(Broken())
    assert rows["energy"] == (None, "J", "unavailable")
    assert rows["latency_median"][0] > 0  # type: ignore[operator]
    assert "the meter broke" in found.warnings


def test_cpu_tells_work_from_waiting() -> None:
    # On a machine that others share even a spinning process has less than a core, so one is held against the other.
    window = Window(3, 30, 0.2)
    working, waiting = (
        run(call=call, window=window)[1]["cpu"][0] for call in (lambda: sum(range(20_000)), lambda: time.sleep(0.002))
    )
    assert working > 2 * waiting  # type: ignore[operator]


def test_environment_says_what_a_reader_needs() -> None:
    found = environment("cpu", 1)
    assert found["device"] == "cpu"
    assert found["threads"] == 1
    assert all(found["packages"].values())
    assert found["cores"] >= 1
    assert found["processor"]


def test_warm_up_of_a_slow_call_ends_early() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.01)

    run(call=call, window=Window(warmup=1000, repetitions=1, seconds=0.001))
    assert 4 <= calls <= 8


def unstable(monkeypatch: pytest.MonkeyPatch, stable: bool) -> list[str]:
    monkeypatch.setattr(inference, "warm_up", lambda call, window: WarmUp(40, stable))
    return run()[0].warnings


def test_a_warm_up_that_was_not_stable_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unstable(monkeypatch, False) == ["inference: calls were not yet stable after a warm-up of 40"]
    assert unstable(monkeypatch, True) == []


def test_others_at_work_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Load, "between", lambda before, after: Load(2.0, 1.0, 1.0, 0, 0))
    monkeypatch.setattr(inference, "warm_up", lambda call, window: WarmUp(40, True))
    found, rows = run(Meter(*[[Reading("cpu", 1.0, "rapl")]] * 3))
    (warning,) = found.warnings
    assert warning.startswith("other processes took more than 10 % of a core meanwhile")
    assert rows["cpu_foreign"] == rows["energy_cpu_foreign"] == (50.0, "percent", "measured")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let three windows hold 10, 20 and 40 calls and take 2, 3 and 5 s; return how long each was asked to be."""
    calls, asked = iter((10, 20, 40)), []
    seconds = iter((1.0, 2.0, 3.0, 5.0, 10.5))  # latency, three windows, all of them

    def fake(call: Callable[[], object], least: float) -> int:
        asked.append(least)
        return next(calls)

    monkeypatch.setattr(inference, "repeat", fake)
    monkeypatch.setattr(inference, "warm_up", lambda call, window: WarmUp(10, True))
    monkeypatch.setattr(Usage, "now", lambda: Usage(0.0, 0.0, 0.0, 0, 0))
    monkeypatch.setattr(Load, "between", lambda before, after: Load(next(seconds), 0.0, 0.0, 0, 0))
    return asked


def test_energy_is_the_median_over_windows_with_its_spread_and_power(exact: list[float]) -> None:
    windows = [
        [Reading("cpu", 20.0, "rapl"), Reading("ram", 1.0, "estimated")],
        [Reading("cpu", 60.0, "rapl"), Reading("ram", 4.0, "estimated")],
        [Reading("cpu", 100.0, "rapl"), Reading("ram", 2.0, "estimated")],
    ]
    found, rows = run(Meter(*windows), window=Window(5, 3, 0.0, 7.5, 3))
    assert exact == [7.5, 7.5, 7.5]
    # A call takes 2, 3 and 2.5 J; with memory 0.1, 0.2 and 0.05 J.
    assert rows["energy"] == (2.5, "J", "rapl")
    assert rows["energy_spread"] == (1.0, "J", "rapl")
    assert rows["power"] == (18.0, "W", "rapl")
    assert rows["energy_ram"] == (pytest.approx(0.1), "J", "estimated")
    assert rows["energy_spread_ram"] == (pytest.approx(0.15), "J", "estimated")
    assert rows["power_ram"] == (pytest.approx(0.7), "W", "estimated")
    assert rows["energy_window"] == (2.0, "s", "measured")
    assert rows["energy_windows"] == (3, "windows", "measured")
    assert rows["energy_repetitions"] == (70, "calls", "measured")
    assert rows["energy_cpu_foreign"] == (0.0, "percent", "measured")
    assert found.samples["energy"].tolist() == [20.0, 60.0, 100.0]
    assert found.samples["energy_ram"].tolist() == [1.0, 4.0, 2.0]
    assert found.samples["energy_calls"].tolist() == [10, 20, 40]
    assert found.samples["energy_seconds"].tolist() == [2.0, 3.0, 5.0]
    assert found.warnings == []


def test_a_component_of_which_a_window_failed_is_unavailable_and_says_why(exact: list[float]) -> None:
    windows = [
        [Reading("cpu", 20.0, "rapl"), Reading("dram", 1.0, "rapl")],
        [Reading("cpu", 60.0, "rapl"), unavailable("dram", "it jumped")],
        [Reading("cpu", 100.0, "rapl"), unavailable("dram", "it jumped")],
    ]
    found, rows = run(Meter(*windows))
    assert rows["energy"] == (2.5, "J", "rapl")
    assert rows["energy_dram"] == (None, "J", "unavailable")
    assert not {"power_dram", "energy_spread_dram"} & set(rows)
    assert found.warnings == ["energy of dram: it jumped"], "once"
    np.testing.assert_array_equal(found.samples["energy_dram"], [1.0, np.nan, np.nan])


def test_without_a_meter_no_windows_are_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "repeat", lambda call, seconds: pytest.fail("nothing is read"))
    found, rows = run(NoMeter("no counters"))
    assert rows["energy"] == (None, "J", "unavailable")
    assert set(found.samples) == {"latency"}
    assert not {"power", "energy_windows", "energy_spread"} & set(rows)


def test_windows_are_those_that_the_documentation_names() -> None:
    assert Window() == Window(
        warmup=300, repetitions=30, seconds=1.0, energy_seconds=10.0, energy_windows=3, budget=20.0
    )
    assert latency._GROUP == 5
