from __future__ import annotations

import mmap
import time
from collections.abc import Callable

import numpy as np
import pytest

from gnncompress.profiling.energy import NoMeter, Reading
from gnncompress.profiling.environment import environment
from gnncompress.profiling.inference import profile_inference
from gnncompress.profiling.latency import Latency, Window, measure_latency
from gnncompress.profiling.memory import current_memory, peak_memory


def test_repetitions_and_seconds_are_both_least() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    assert len(measure_latency(call, Window(0, repetitions=50, seconds=0)).samples) == calls == 50
    started = time.perf_counter()
    latency = measure_latency(call, Window(0, repetitions=1, seconds=0.05))
    assert time.perf_counter() - started >= 0.05
    assert len(latency.samples) > 1


def test_median_and_p95_by_hand() -> None:
    latency = Latency(tuple(range(1, 102)))
    assert (latency.median, latency.p95) == (51, 96)


def test_peak_sees_memory_that_is_gone_again() -> None:
    before = current_memory()

    def call() -> None:
        block = np.frombuffer(mmap.mmap(-1, 64_000_000, mmap.MAP_PRIVATE), dtype=np.uint8)
        block[:] = 1  # new pages, whatever the heap has to spare
        time.sleep(0.05)
        del block

    peak = peak_memory(call)
    assert 60e6 < peak - before < 90e6
    assert current_memory() - before < 30e6


def test_peak_passes_errors_on() -> None:
    def fail() -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        peak_memory(fail)


class Meter(NoMeter):
    def stop(self) -> list[Reading]:
        return [Reading("cpu", 10.0, "pyrapl"), Reading("ram", 5.0, "estimated")]


def profiled(meter: NoMeter, spin: bool = True) -> dict[str, tuple[float | None, str]]:
    def prepare() -> Callable[[], object]:
        return (lambda: sum(range(20_000))) if spin else (lambda: time.sleep(0.002))

    rows = profile_inference(prepare, lambda: 1000, Window(3, 30, 0.2), meter)
    assert {row.phase for row in rows} == {"inference"}
    return {row.metric: (row.value, row.source) for row in rows}


def test_rows() -> None:
    rows = profiled(Meter())
    repetitions, median = rows["repetitions"][0], rows["latency_median"][0]
    assert repetitions is not None
    assert median is not None
    assert repetitions >= 30
    assert rows["throughput"] == (1000 / median, "computed")
    assert rows["energy"] == (10 / repetitions, "pyrapl")
    assert rows["energy_ram"] == (5 / repetitions, "estimated")
    assert rows["latency_p95"][0] >= median  # type: ignore[operator]
    assert rows["memory_baseline"][0] > 10e6  # type: ignore[operator]


def test_what_is_not_measured_is_unavailable() -> None:
    assert profiled(NoMeter())["energy"] == (None, "unavailable")


def test_cpu_tells_work_from_waiting() -> None:
    # On a machine that others share even a spinning process has less than a core, so one is held against the other.
    working, waiting = (profiled(NoMeter(), spin=spin)["cpu"][0] for spin in (True, False))
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

    profile_inference(lambda: call, lambda: 1, Window(warmup=1000, repetitions=1, seconds=0.001), NoMeter())
    assert 4 <= calls <= 8
