"""Processor time: what is this process tree's own, and what is others'."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import namedtuple

import psutil
import pytest

from gnncompress.measurements import Measurement
from gnncompress.profiling.load import FOREIGN, Load, Usage

SPIN = "import time\nuntil = time.process_time() + {}\nwhile time.process_time() < until: pass\n"


def spin(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_difference_of_two_moments_by_hand() -> None:
    load = Load.between(Usage(10.0, 1.0, 100.0, 5, 50), Usage(12.0, 2.5, 104.0, 8, 90))
    assert load == Load(seconds=2.0, cpu_seconds=1.5, foreign_seconds=2.5, voluntary=3, involuntary=40)
    assert load.foreign == 125
    assert load.measurements("train") == [
        Measurement("train", "cpu", 75.0, "percent"),
        Measurement("train", "cpu_foreign", 125.0, "percent"),
        Measurement("train", "context_switches_voluntary", 3, "switches"),
        Measurement("train", "context_switches_involuntary", 40, "switches"),
    ]


def test_coarse_clocks_give_no_negative_load() -> None:
    assert Load.between(Usage(0, 0, 0, 0, 0), Usage(1, 0.5, 0.49, 0, 0)).foreign == 0


def test_short_windows_say_nothing_of_others() -> None:
    short = Load(0.49, 0.2, 0.4, 0, 0)
    assert short.foreign is None
    assert short.warnings() == []
    assert short.measurements("x")[1] == Measurement("x", "cpu_foreign", None, "percent", "unavailable")
    assert short.measurements("x")[0].value == pytest.approx(100 * 0.2 / 0.49), "of itself it knows"
    assert Load(0.5, 0.2, 0.4, 0, 0).foreign == 80


def test_no_time_at_all_is_no_division_by_nothing() -> None:
    assert [row.value for row in Load(0.0, 0.0, 0.0, 0, 0).measurements("x")] == [None, None, 0, 0]


def test_warning_from_a_tenth_of_a_core() -> None:
    assert Load(1.0, 0.0, FOREIGN / 100 - 0.001, 0, 0).warnings() == []
    assert Load(1.0, 0.0, 0.62, 0, 0).warnings() == [
        "other processes took more than 10 % of a core meanwhile (cpu_foreign says how much), so timings and the "
        "machine's energy are not this one's alone; measure again on a quiet machine"
    ]
    assert len(Load(1.0, 0.0, 0.1, 0, 0).warnings()) == 1


def test_a_busy_process_beside_us_is_seen() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as busy:
        try:
            assert busy.stdout is not None
            busy.stdout.readline()
            before = Usage.now()
            time.sleep(0.8)
            load = Load.between(before, Usage.now())
        finally:
            busy.kill()
    assert load.foreign is not None
    assert load.foreign > 50
    assert load.cpu_seconds < 0.4, "it is not ours before it has ended"
    assert len(load.warnings()) == 1


def test_own_work_is_not_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", "user nice system idle iowait irq softirq steal")
    # A machine on which nothing but this process runs, though it has been idle too.
    monkeypatch.setattr(
        psutil, "cpu_times", lambda: times(time.process_time(), 0, 0, time.time(), time.time(), 0, 0, 0)
    )
    before = Usage.now()
    spin(0.3)
    while time.perf_counter() - before.wall < 0.5:
        time.sleep(0.01)
    load = Load.between(before, Usage.now())
    assert load.cpu_seconds >= 0.3
    assert load.foreign == pytest.approx(0, abs=2)


def test_what_the_kernel_and_the_hypervisor_take_is_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", "user nice system idle iowait irq softirq steal guest guest_nice")
    monkeypatch.setattr(psutil, "cpu_times", lambda: times(1, 2, 4, 1000, 2000, 8, 16, 32, 4000, 8000))
    assert Usage.now().machine == 63


def test_systems_that_tell_less_are_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", "user system idle")
    monkeypatch.setattr(psutil, "cpu_times", lambda: times(1, 4, 1000))
    assert Usage.now().machine == 5


def test_own_children_that_ended_are_our_own() -> None:
    before = Usage.now()
    subprocess.run([sys.executable, "-c", SPIN.format(0.3)], check=True)
    load = Load.between(before, Usage.now())
    assert load.cpu_seconds >= 0.29
    assert load.voluntary + load.involuntary > 0


def test_waiting_is_a_voluntary_switch_and_no_work() -> None:
    before = Usage.now()
    for _ in range(20):
        time.sleep(0.001)
    load = Load.between(before, Usage.now())
    assert load.voluntary >= 20
    assert load.seconds >= 0.02
