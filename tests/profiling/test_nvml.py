"""Energy of GPUs against a fake of NVIDIA's library."""

from __future__ import annotations

import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gnncompress.errors import MeasurementError
from gnncompress.profiling.energy import Meters, NoMeter, Reading, open_meter, reads
from gnncompress.profiling.nvml import NvmlMeter, utilization
from gnncompress.profiling.rapl import RaplMeter
from tests.profiling.counters import zone


class NVMLError(Exception):
    pass


@dataclass
class Driver:
    """What the fake library says: millijoules and busy percent of each GPU, and which of them are lost."""

    joules: list[int] = field(default_factory=lambda: [1_000, 50_000])
    busy: list[int] = field(default_factory=lambda: [20, 60])
    lost: set[int] = field(default_factory=set)
    there: bool = True
    looks: int = 0

    def module(self) -> Any:
        fake: Any = types.ModuleType("pynvml")
        fake.NVMLError = NVMLError
        fake.nvmlInit = self._init
        fake.nvmlDeviceGetCount = lambda: len(self.joules)
        fake.nvmlDeviceGetHandleByIndex = lambda index: index
        fake.nvmlDeviceGetTotalEnergyConsumption = lambda gpu: self.joules[self._known(gpu)]
        fake.nvmlDeviceGetUtilizationRates = self._rates
        return fake

    def _init(self) -> None:
        if not self.there:
            raise NVMLError("Driver Not Loaded")

    def _known(self, gpu: int) -> int:
        if gpu in self.lost:
            raise NVMLError("GPU is lost")
        return gpu

    def _rates(self, gpu: int) -> Any:
        self.looks += 1
        return types.SimpleNamespace(gpu=self.busy[self._known(gpu)], memory=99)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", made.module())
    return made


def failed(readings: list[Reading]) -> str:
    (found,) = readings
    assert (found.component, found.joules, found.source) == ("gpu", None, "unavailable")
    return found.reason


def test_gpus_are_summed_in_joules(driver: Driver) -> None:
    meter = NvmlMeter()
    driver.joules = [2_000, 51_000]
    meter.start()
    driver.joules = [3_500, 51_250]
    assert meter.stop() == [Reading("gpu", 1.75, "nvml")]
    meter.start()
    driver.joules = [3_501, 51_251]
    assert meter.stop() == [Reading("gpu", 0.002, "nvml")], "a second window knows nothing of the first"


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_gpu_that_disappears_makes_it_unavailable(driver: Driver, when: str) -> None:
    meter = NvmlMeter()
    if when == "before":
        driver.lost.add(1)
    meter.start()
    driver.joules = [9_000, 90_000]
    driver.lost.add(1)
    reason = failed(meter.stop())
    assert reason.startswith("a GPU cannot be read any more")
    if when == "meanwhile":
        assert reason.endswith(" (GPU is lost)")


def test_a_gpu_that_was_lost_at_first_is_not_counted_from_its_driver_s_start(driver: Driver) -> None:
    meter = NvmlMeter()
    driver.lost.add(1)
    meter.start()
    driver.lost.clear()
    driver.joules = [9_000, 90_000]
    reason = failed(meter.stop())
    assert reason.startswith("a GPU cannot be read any more")
    assert "zip" not in reason, "words for users, not Python's"


@pytest.mark.parametrize("after", [[500, 50_500], [1_500, 10], [1_000, 50_000], [1_000, 60_000]])
def test_a_counter_that_is_set_back_or_does_not_move_is_unavailable(driver: Driver, after: list[int]) -> None:
    meter = NvmlMeter()
    meter.start()
    driver.joules = after
    assert failed(meter.stop()) == "the counter of a GPU did not move, or was set back"


def test_no_driver_is_refused(driver: Driver) -> None:
    driver.there = False
    with pytest.raises(MeasurementError, match=r"NVML reads no energy here \(Driver Not Loaded\)"):
        NvmlMeter()


def test_no_gpu_is_refused(driver: Driver) -> None:
    driver.joules = []
    with pytest.raises(MeasurementError, match=r"NVML reads no energy here \(no GPU\)"):
        NvmlMeter()


def test_a_gpu_without_a_counter_is_refused(driver: Driver) -> None:
    driver.lost.add(0)
    with pytest.raises(MeasurementError, match=r"\(GPU is lost\)"):
        NvmlMeter()


def test_utilization_is_the_mean_over_gpus_and_looks(driver: Driver) -> None:
    meter = NvmlMeter()
    assert meter.utilization is None
    meter._look()
    driver.busy = [100, 100]
    meter._look()
    assert meter.utilization == 70
    driver.lost.add(0)
    meter._look()
    assert meter.utilization == 70, "what cannot be read is no zero"


def test_utilization_is_read_meanwhile_and_of_the_last_window(driver: Driver) -> None:
    meter = NvmlMeter()
    meter.start()
    until = time.perf_counter() + 5
    while not driver.looks and time.perf_counter() < until:
        time.sleep(0.01)
    meter.stop()
    assert meter.utilization == utilization(meter) == 40
    meter.start()
    assert meter.utilization is None
    meter.stop()


def test_auto_reads_processor_and_gpus_in_this_order(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = zone(tmp_path, "intel-rapl:0")
    memory = zone(tmp_path, "intel-rapl:0:0", "dram")
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(tmp_path))
    meter = open_meter("auto", gpu=True)
    assert isinstance(meter, Meters)
    assert reads(meter)
    meter.start()
    package.add(3_000_000)
    memory.add(2_000_000)
    driver.joules = [1_500, 50_500]
    assert meter.stop() == [Reading("cpu", 3.0, "rapl"), Reading("dram", 2.0, "rapl"), Reading("gpu", 1.0, "nvml")]


def test_auto_reads_gpus_where_the_processor_cannot_be_read(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(tmp_path))
    meter = open_meter("auto", gpu=True)
    assert reads(meter)
    meter.start()
    driver.joules = [1_500, 50_500]
    cpu, gpu = meter.stop()
    assert (cpu.component, cpu.joules, cpu.source) == ("cpu", None, "unavailable")
    assert gpu == Reading("gpu", 1.0, "nvml")


def test_gpus_are_read_only_if_asked_for_and_there(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone(tmp_path, "intel-rapl:0")
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(tmp_path))
    assert isinstance(open_meter("auto"), RaplMeter)
    assert isinstance(open_meter("none", gpu=True), NoMeter)
    driver.there = False
    cpu, gpu = open_meter("auto", gpu=True).meters  # type: ignore[attr-defined]
    assert isinstance(cpu, RaplMeter)
    assert [(one.component, one.source) for one in gpu.stop()] == [("gpu", "unavailable")]


def test_utilization_is_found_among_several_meters(driver: Driver) -> None:
    gpus = NvmlMeter()
    both = Meters([NoMeter(), gpus])
    assert utilization(both) is None
    gpus._look()
    assert utilization(both) == 40
    assert utilization(NoMeter()) is None
    assert utilization(Meters([NoMeter()])) is None


def test_meters_are_stopped_in_reverse_and_read_in_order() -> None:
    events: list[str] = []

    class Meter:
        def __init__(self, name: str) -> None:
            self.name = name

        def start(self) -> None:
            events.append(f"start {self.name}")

        def stop(self) -> list[Reading]:
            events.append(f"stop {self.name}")
            return [Reading(self.name, 1.0, "measured"), Reading(self.name, 2.0, "measured")]

    meters = Meters([Meter("a"), Meter("b")])
    meters.start()
    assert [(one.component, one.joules) for one in meters.stop()] == [("a", 1.0), ("a", 2.0), ("b", 1.0), ("b", 2.0)]
    assert events == ["start a", "start b", "stop b", "stop a"]


def test_meters_of_nothing_read_nothing() -> None:
    assert not reads(Meters([NoMeter(), NoMeter()]))
