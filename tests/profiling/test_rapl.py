"""Joules of counters that wrap, stick, jump and go away, all of them files that the tests write."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.errors import MeasurementError
from gnncompress.profiling import powercap, rapl
from gnncompress.profiling.energy import METERS, NoMeter, Reading
from gnncompress.profiling.powercap import Zone
from gnncompress.profiling.rapl import RaplMeter
from tests.profiling.counters import PERIOD, RANGE, Clock, FakeZone, zone

JOULE = 1_000_000
# A meter of zones as large as these samples by itself every 5 s only, so that a test does all of it.


def count(meter: RaplMeter, clock: Clock, *gains: dict[FakeZone, int] | list[tuple[FakeZone, int]]) -> list[Reading]:
    """Read a window in which zones gain microjoules, a sample after each round of them."""
    meter.start()
    for gained in gains:
        clock.now += 29.0
        for one, microjoules in gained:
            one.add(microjoules)
        meter.sample()
    return meter.stop()


def of(component: str, joules: float) -> Reading:
    return Reading(component, pytest.approx(joules, rel=1e-12), "rapl")


def failed(readings: list[Reading], component: str = "cpu") -> str:
    """Insist on no joules, not even none of them; return the reason."""
    (found,) = (one for one in readings if one.component == component)
    assert found.joules is None
    assert found.source == "unavailable"
    return found.reason


def test_joules_without_a_wrap(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0", value=5 * JOULE), Clock()
    assert count(RaplMeter(tmp_path, clock), clock, [(package, 12_345_678)]) == [of("cpu", 12.345678)]


def test_joules_over_one_wrap(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0", value=RANGE - 10), Clock()
    meter = RaplMeter(tmp_path, clock)
    readings = count(meter, clock, [(package, 7 * JOULE)])
    assert package.value == 7 * JOULE - 71, "10 up to the largest value, 61 to start over"
    assert readings == [of("cpu", 7.0)]


def test_joules_over_several_wraps_with_a_sample_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl, "_MOST_WATTS", 1e6)  # as much as no package takes, so that a sample gains all but a joule
    package, clock = zone(tmp_path, "intel-rapl:0", value=123), Clock()
    rounds = [[(package, PERIOD - JOULE)]] * 5
    assert count(RaplMeter(tmp_path, clock), clock, *rounds) == [of("cpu", 5 * (PERIOD - JOULE) / 1e6)]


def test_windows_do_not_add_up(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    meter = RaplMeter(tmp_path, clock)
    assert count(meter, clock, [(package, 3 * JOULE)]) == [of("cpu", 3.0)]
    package.add(100 * JOULE)
    assert count(meter, clock, [(package, 2 * JOULE)]) == [of("cpu", 2.0)]


def test_packages_and_their_memory_are_each_summed(tmp_path: Path) -> None:
    clock = Clock()
    zones = [
        zone(tmp_path, "intel-rapl:0", "package-0", RANGE),
        zone(tmp_path, "intel-rapl:1", "package-1", 77),
        zone(tmp_path, "intel-rapl:0:0", "dram", 65532610987 - 1, 65532610987),
        zone(tmp_path, "intel-rapl:1:0", "dram", 0, 65532610987),
    ]
    gains = list(zip(zones, (1 * JOULE, 20 * JOULE, 300_000, 4_000), strict=True))
    assert count(RaplMeter(tmp_path, clock), clock, gains) == [of("cpu", 21.0), of("dram", 0.304)]


def test_dies_of_a_package_are_summed(tmp_path: Path) -> None:
    clock = Clock()
    dies = [zone(tmp_path, f"intel-rapl:{die}", f"package-0-die-{die}") for die in (0, 1)]
    gains = [(dies[0], 1_500_000), (dies[1], 2_250_000)]
    assert count(RaplMeter(tmp_path, clock), clock, gains) == [of("cpu", 3.75)]


def test_parts_the_whole_board_and_another_drivers_view_are_not_counted(tmp_path: Path) -> None:
    clock = Clock()
    zones = [
        zone(tmp_path, place, name)
        for place, name in (
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:0:1", "uncore"),
            ("intel-rapl:1", "psys"),
            ("intel-rapl-mmio:0", "package-0"),
        )
    ]
    assert count(RaplMeter(tmp_path, clock), clock, [(one, 2 * JOULE) for one in zones]) == [of("cpu", 2.0)]


def test_a_nested_tree_is_read(tmp_path: Path) -> None:
    clock = Clock()
    package = zone(tmp_path, "intel-rapl/intel-rapl:0", "package-0")
    memory = zone(tmp_path, "intel-rapl/intel-rapl:0/intel-rapl:0:0", "dram")
    gains = [(package, 6 * JOULE), (memory, 2 * JOULE)]
    assert count(RaplMeter(tmp_path, clock), clock, gains) == [of("cpu", 6.0), of("dram", 2.0)]


@given(
    largest=st.sampled_from([RANGE, 65532610987]) | st.integers(4 * 10**10, 2**40),
    data=st.data(),
)
def test_whatever_is_gained_between_samples_adds_up(largest: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rapl, "_MOST_WATTS", 1e6)
        clock = Clock()
        package = zone(Path(folder), "intel-rapl:0", largest=largest)
        package.set(data.draw(st.integers(0, package.period - 1), label="before"))
        gains = data.draw(st.lists(st.integers(1, package.period - 1), min_size=1, max_size=20), label="gains")
        readings = count(RaplMeter(Path(folder), clock), clock, *([(package, gain)] for gain in gains))
    assert readings == [of("cpu", sum(gains) / 1e6)]


@pytest.mark.parametrize(
    ("largest", "interval"), [(2 * JOULE, 0.05), (1600 * JOULE, 0.2), (8000 * JOULE, 1.0), (RANGE, 5.0)]
)
def test_the_smallest_zone_says_how_often_to_sample(tmp_path: Path, largest: int, interval: float) -> None:
    zone(tmp_path, "intel-rapl:0")
    zone(tmp_path, "intel-rapl:0:0", "dram", largest=largest)
    assert RaplMeter(tmp_path)._sampler._interval == pytest.approx(interval)


def test_a_counter_that_goes_away_is_unavailable(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    memory = zone(tmp_path, "intel-rapl:0:0", "dram")
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    package.add(JOULE)
    memory.add(JOULE)
    clock.now += 1
    meter.sample()
    (package.path / "energy_uj").unlink()
    memory.add(JOULE)
    clock.now += 1
    readings = meter.stop()
    assert failed(readings) == f"{package.path} (package-0): cannot be read any more (FileNotFoundError)"
    assert of("dram", 2.0) in readings, "the other one is still good"


def test_a_counter_that_was_away_for_a_while_is_unavailable_for_that_window_only(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    (package.path / "energy_uj").unlink()
    clock.now += 1
    meter.sample()
    package.add(JOULE)
    clock.now += 1
    assert "cannot be read any more (FileNotFoundError)" in failed(meter.stop())
    assert count(meter, clock, [(package, JOULE)]) == [of("cpu", 1.0)]


def test_one_package_of_two_is_not_passed_off_as_both(tmp_path: Path) -> None:
    clock = Clock()
    zones = [zone(tmp_path, f"intel-rapl:{number}", f"package-{number}") for number in (0, 1)]
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    clock.now += 1
    zones[0].add(JOULE)
    zones[1].write("")
    assert "(package-1): cannot be read any more (ValueError)" in failed(meter.stop())


def test_a_counter_that_may_not_be_read_any_more_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    package.add(JOULE)
    clock.now += 1

    def refuse(_: Zone) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Zone, "read", refuse)
    assert failed(meter.stop()).endswith("(package-0): cannot be read any more (PermissionError)")


def test_a_counter_that_may_not_be_read_at_first_is_no_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    meter = RaplMeter(tmp_path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(Zone, "read", lambda _: int("none"))
        meter.start()
    package.add(JOULE)
    clock.now += 1
    assert "cannot be read any more (ValueError)" in failed(meter.stop())


@pytest.mark.parametrize("seconds", [0.1, 1.0])
def test_a_counter_that_sticks_is_unavailable(tmp_path: Path, seconds: float) -> None:
    zone(tmp_path, "intel-rapl:0", value=55)
    clock = Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    clock.now += seconds
    assert failed(meter.stop()).endswith(f"(package-0): did not move in {seconds:.2g} s")


def test_a_counter_that_moved_and_then_sticks_is_unavailable(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    package.add(JOULE)
    clock.now += 5
    meter.sample()
    clock.now += 0.25
    meter.sample()
    package.add(JOULE)  # that it moves again does not mend the window
    clock.now += 5
    assert failed(meter.stop()).endswith("did not move in 0.25 s")


def test_a_window_too_short_for_the_counter_is_unavailable_not_nothing(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0")
    clock = Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    clock.now += 0.0005
    assert failed(meter.stop()).endswith("did not move; the window is too short")


def test_a_counter_that_pauses_for_less_than_a_tenth_of_a_second_is_good(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    package.add(JOULE)
    clock.now += 5
    meter.sample()
    clock.now += 0.05
    assert meter.stop() == [of("cpu", 1.0)]


def test_a_counter_that_is_set_back_is_unavailable(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0", value=1000 * JOULE), Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    package.set(0)
    clock.now += 1
    assert failed(meter.stop()).endswith("(package-0): jumped by 261143 J in 1 s")


def test_a_counter_that_jumped_at_a_sample_between_is_unavailable(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    package.add(11_001 * JOULE)
    clock.now += 1
    meter.sample()
    package.add(JOULE)
    clock.now += 3600
    assert failed(meter.stop()).endswith("jumped by 11001 J in 1 s")


def test_two_kilowatts_are_no_jump(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    package.add(2_199 * JOULE)
    clock.now += 1
    assert meter.stop() == [of("cpu", 2_199.0)]


def test_a_memory_zone_that_cannot_be_read_is_unavailable_and_the_rest_is_read(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    memory = zone(tmp_path, "intel-rapl:0:0", "dram")
    memory.write("")
    readings = count(RaplMeter(tmp_path, clock), clock, [(package, JOULE)])
    assert [one.component for one in readings] == ["cpu", "dram"]
    assert readings[0] == of("cpu", 1.0)
    assert failed(readings, "dram").startswith(f"{memory.path} (dram): energy_uj: holds no number")


def test_one_memory_zone_of_two_is_not_passed_off_as_both(tmp_path: Path) -> None:
    clock = Clock()
    zones = [zone(tmp_path, f"intel-rapl:{number}", f"package-{number}") for number in (0, 1)]
    zones.append(zone(tmp_path, "intel-rapl:0:0", "dram"))
    zone(tmp_path, "intel-rapl:1:0", "dram").write("")
    readings = count(RaplMeter(tmp_path, clock), clock, [(one, JOULE) for one in zones])
    assert readings[0] == of("cpu", 2.0)
    assert "intel-rapl:1:0" in failed(readings, "dram")


def test_a_package_whose_counter_is_no_number_is_refused(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0").write("lots\n")
    with pytest.raises(MeasurementError, match=r"intel-rapl:0 \(package-0\): energy_uj: holds no number"):
        RaplMeter(tmp_path)


def test_a_package_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0")
    read = powercap.read_text

    def refuse(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(powercap, "read_text", refuse)
    with pytest.raises(
        MeasurementError, match=r"\(package-0\): energy_uj: permission denied; allow it with: sudo chmod"
    ):
        RaplMeter(tmp_path)


def test_a_package_that_cannot_be_read_leaves_the_memory(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0").write("lots\n")
    memory, clock = zone(tmp_path, "intel-rapl:0:0", "dram"), Clock()
    readings = count(RaplMeter(tmp_path, clock), clock, [(memory, JOULE)])
    assert "holds no number" in failed(readings)
    assert readings[1] == Reading("dram", 1.0, "rapl")


def test_a_sample_that_came_too_late_to_know_of_a_wrap_is_no_measurement(tmp_path: Path) -> None:
    package, clock = zone(tmp_path, "intel-rapl:0"), Clock()
    meter = RaplMeter(tmp_path, clock)
    meter.start()
    package.add(1000 * JOULE)
    clock.now += 140
    assert "was not read for 1.4e+02 s, in which it may have wrapped unseen" in failed(meter.stop())


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=f"no energy counters: {tmp_path} has no counter of a package; "):
        RaplMeter(tmp_path)


def test_memory_without_a_package_is_refused(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0:0", "dram")
    with pytest.raises(MeasurementError, match="has no counter of a package"):
        RaplMeter(tmp_path)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="nothing is not there, as in most virtual machines; 'gnncompress doct"):
        RaplMeter(tmp_path / "nothing")


def test_auto_takes_the_counters_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = zone(tmp_path, "intel-rapl:0")
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(tmp_path))
    for name in ("auto", "rapl"):
        meter = METERS[name]()
        assert isinstance(meter, RaplMeter)
        meter.start()
        package.add(JOULE)
        assert meter.stop() == [of("cpu", 1.0)]


def test_auto_without_counters_reads_nothing_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(tmp_path / "nothing"))
    meter = METERS["auto"]()
    assert isinstance(meter, NoMeter)
    meter.start()
    assert failed(meter.stop()).startswith(f"no energy counters: {tmp_path / 'nothing'} is not there")
    with pytest.raises(MeasurementError, match="no energy counters"):
        METERS["rapl"]()


def write_for(package: FakeZone, seconds: float) -> int:
    """Count on at about 5 W, so that 2 J start over every 0.4 s; return what was added, in microjoules."""
    total, last = 0, time.perf_counter()
    until = last + seconds
    while last < until:
        time.sleep(0.002)
        now = time.perf_counter()
        gained = 1 + min(round(5 * JOULE * (now - last)), JOULE)
        package.add(gained)
        total, last = total + gained, now
    return total


def test_the_thread_sees_every_wrap_of_a_counter_that_runs(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", value=1_900_000, largest=2 * JOULE)
    meter = RaplMeter(tmp_path)
    added: list[int] = []
    for _ in range(3):  # a machine that stops the writer for a tenth of a second stops the counter
        meter.start()
        writer = threading.Thread(target=lambda: added.append(write_for(package, 1.2)))
        writer.start()
        writer.join()
        (found,) = meter.stop()
        if "did not move" not in found.reason:
            break
    assert added[-1] > 4 * JOULE, "it must start over more than once"
    assert found == of("cpu", added[-1] / 1e6)
