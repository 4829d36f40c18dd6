"""The power of an idle machine: measured once a start of it, never while others work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gnncompress.profiling import idle
from gnncompress.profiling.energy import Reading, unavailable
from gnncompress.profiling.idle import idle_power
from gnncompress.profiling.load import Load, Usage


class Meter:
    """Counts its windows; reads 40 J of the processor and no GPU in each."""

    def __init__(self) -> None:
        self.windows = 0
        self.readings = [Reading("cpu", 40.0, "rapl"), Reading("dram", 4.0, "rapl")]

    def start(self) -> None:
        self.windows += 1

    def stop(self) -> list[Reading]:
        return self.readings


WATTS = [Reading("cpu", 4.0, "rapl"), Reading("dram", 0.4, "rapl")]


class Machine:
    """A machine of which the test says who else works, how long a window takes and when it is started anew."""

    def __init__(self, folder: Path) -> None:
        self.boot, self.file = folder / "boot_id", folder / "cache" / "idle-power.json"
        self.slept: list[float] = []
        self.seconds, self.foreign = 10.0, 0.0
        self.restart("first")

    def restart(self, name: str) -> None:
        self.boot.write_text(f"{name}\n")

    def load(self, before: Usage, after: Usage) -> Load:
        return Load(self.seconds, 0.0, self.foreign * self.seconds, 0, 0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(idle, "_BOOT", made.boot)
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(made.file.parent))
    monkeypatch.setattr(Load, "between", made.load)
    monkeypatch.setattr(time, "sleep", made.slept.append)
    return made


def test_power_is_joules_over_the_seconds_that_it_took(machine: Machine) -> None:
    machine.seconds = 12.5
    assert idle_power(Meter(), "rapl", 10.0)[0][0] == Reading("cpu", 3.2, "rapl")
    assert machine.slept == [10.0]


def test_it_is_measured_once(machine: Machine) -> None:
    meter = Meter()
    first, again, shorter = (idle_power(meter, "rapl", seconds) for seconds in (10.0, 10.0, 0.5))
    assert first == again == shorter == (WATTS, [])
    assert meter.windows == 1
    (entry,) = json.loads(machine.file.read_text()).values()
    assert entry["boot"] == "first"


def test_other_counters_have_an_idle_power_of_their_own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    for folder in ("/one", "/other", "/one"):
        monkeypatch.setenv("GNNCOMPRESS_POWERCAP", folder)
        assert idle_power(meter, "rapl", 10.0) == (WATTS, [])
    assert meter.windows == 2


def test_it_is_measured_again_after_the_machine_was_started_anew(machine: Machine) -> None:
    meter = Meter()
    idle_power(meter, "rapl", 10.0)
    machine.restart("second")
    meter.readings = [Reading("cpu", 80.0, "rapl")]
    assert idle_power(meter, "rapl", 10.0) == ([Reading("cpu", 8.0, "rapl")], [])
    idle_power(meter, "rapl", 10.0)
    assert meter.windows == 2


def test_it_is_measured_again_for_a_longer_window(machine: Machine) -> None:
    meter = Meter()
    for seconds in (10.0, 20.0, 10.0, 20.0):
        idle_power(meter, "rapl", seconds)
    assert machine.slept == [10.0, 20.0]
    assert meter.windows == 2


def test_each_meter_has_its_own(machine: Machine) -> None:
    one, other = Meter(), Meter()
    other.readings = [Reading("cpu", 50.0, "estimated")]
    for _ in range(2):
        assert idle_power(one, "rapl", 10.0)[0] == WATTS
        assert idle_power(other, "codecarbon", 10.0)[0] == [Reading("cpu", 5.0, "estimated")]
    assert (one.windows, other.windows) == (1, 1)


def test_it_is_told_and_not_kept_when_others_were_at_work(machine: Machine) -> None:
    meter = Meter()
    machine.foreign = 0.62
    watts, said = idle_power(meter, "rapl", 10.0)
    busy = "idle power: other processes took more than 10 % of a core, so the machine was not idle"
    assert said == [busy]
    assert [(one.component, one.joules, one.source, one.reason) for one in watts] == [
        (one.component, None, "unavailable", busy) for one in WATTS
    ]
    assert not machine.file.exists()
    machine.foreign = 0.0
    assert idle_power(meter, "rapl", 10.0) == (WATTS, [])
    assert meter.windows == 2
    assert machine.file.exists()


def test_it_is_not_kept_when_nobody_knows_whether_others_were_at_work(machine: Machine) -> None:
    machine.seconds = 0.2
    assert idle_power(Meter(), "rapl", 0.2)[0][0].joules == pytest.approx(200)
    assert not machine.file.exists()


def test_a_machine_whose_start_is_unknown_keeps_nothing(machine: Machine) -> None:
    machine.boot.unlink()
    meter = Meter()
    for _ in range(2):
        assert idle_power(meter, "rapl", 10.0) == (WATTS, [])
    assert meter.windows == 2
    assert not machine.file.exists()


def without(key: str) -> Callable[[str], str]:
    def damage(text: str) -> str:
        content = json.loads(text)
        del next(iter(content.values()))[key]
        return json.dumps(content)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "null",
        lambda text: '{"rapl": 5}',
        lambda text: text.replace('"joules"', '"calories"'),
        lambda text: text.replace("10.0", '"ten"'),
        without("boot"),
        without("seconds"),
        without("watts"),
    ],
)
def test_a_damaged_cache_is_measured_again_and_mended(machine: Machine, damage: Callable[[str], str]) -> None:
    meter = Meter()
    idle_power(meter, "rapl", 10.0)
    machine.file.write_text(damage(machine.file.read_text()))
    for _ in range(2):
        assert idle_power(meter, "rapl", 10.0) == (WATTS, [])
    assert meter.windows == 2


def test_a_cache_of_bytes_that_are_no_text_is_measured_again(machine: Machine) -> None:
    machine.file.parent.mkdir()
    machine.file.write_bytes(b"\xff\xfe\x00")
    assert idle_power(Meter(), "rapl", 10.0) == (WATTS, [])


def test_a_cache_that_cannot_be_written_does_no_harm(machine: Machine) -> None:
    machine.file.parent.write_text("a file where the folder should be")
    assert idle_power(Meter(), "rapl", 10.0) == (WATTS, [])


def test_what_could_not_be_read_says_why_and_is_tried_again(machine: Machine) -> None:
    meter = Meter()
    meter.readings = [unavailable("cpu", "it jumped")]
    assert idle_power(meter, "rapl", 10.0)[0] == [unavailable("cpu", "it jumped")]
    meter.readings = [Reading("cpu", 40.0, "rapl"), Reading("dram", 4.0, "rapl")]
    assert idle_power(meter, "rapl", 10.0)[0] == WATTS
