"""``with profile(...)``: nested, failing, empty and written to a file."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gnncompress
from gnncompress.errors import MeasurementError, ResultsError, UsageError
from gnncompress.measurements import Measurement
from gnncompress.profiling.carbon import intensity
from gnncompress.profiling.energy import Reading, unavailable
from gnncompress.profiling.phase import profile
from tests.profiling.counters import zone


class Meter:
    """A meter that reads what it was given."""

    def __init__(self, *readings: Reading) -> None:
        self.readings, self.windows, self.open = list(readings), 0, False

    def start(self) -> None:
        self.open = True

    def stop(self) -> list[Reading]:
        assert self.open
        self.windows, self.open = self.windows + 1, False
        return self.readings


@pytest.fixture(autouse=True)
def no_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for counters, whatever this machine has."""
    folder = tmp_path / "powercap"
    folder.mkdir()
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(folder))
    return folder


def rows(cost: profile) -> dict[str, Measurement]:
    found = {row.metric: row for row in cost.measurements}
    assert len(found) == len(cost.measurements), "a metric twice"
    return found


def value(cost: profile, metric: str) -> float:
    found = rows(cost)[metric].value
    assert found is not None
    return found


def test_rows_of_a_block_and_their_units() -> None:
    with profile("training", energy="none") as cost:
        time.sleep(0.02)
    assert {row.phase for row in cost.measurements} == {"training"}
    assert {row.metric: row.unit for row in cost.measurements} == {
        "duration": "s",
        "cpu": "percent",
        "cpu_foreign": "percent",
        "context_switches_voluntary": "switches",
        "context_switches_involuntary": "switches",
        "memory_baseline": "bytes",
        "memory_peak": "bytes",
        "energy": "J",
    }
    assert 0.02 <= value(cost, "duration") < 5
    assert value(cost, "memory_baseline") > 10e6
    assert value(cost, "memory_peak") >= 0


def test_the_package_exports_it() -> None:
    assert gnncompress.profile is profile


def test_nothing_is_known_before_the_end() -> None:
    with profile(energy="none") as cost:
        assert cost.measurements == []
    assert {row.phase for row in cost.measurements} == {"profile"}


def test_the_outer_of_nested_blocks_holds_the_inner() -> None:
    with profile("outer", energy="none") as outer:
        time.sleep(0.02)
        with profile("inner", energy="none") as inner:
            until = time.process_time() + 0.05
            while time.process_time() < until:
                pass
        time.sleep(0.02)
    assert value(outer, "duration") >= value(inner, "duration") + 0.04
    used = [value(cost, "cpu") / 100 * value(cost, "duration") for cost in (outer, inner)]
    assert used[0] >= used[1] >= 0.049


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_passes_through_and_the_rows_are_there(error: BaseException) -> None:
    before, meter = threading.active_count(), Meter(Reading("cpu", 2.0, "rapl"))
    cost = profile("failing", meter=meter)
    with pytest.raises(type(error)) as raised, cost:
        raise error
    assert raised.value is error
    assert value(cost, "duration") > 0
    assert value(cost, "energy") == 2.0
    assert meter.windows == 1
    assert threading.active_count() == before, "no sampler may go on"


def test_an_empty_block_costs_no_joules_that_are_known(no_counters: Path) -> None:
    zone(no_counters, "intel-rapl:0", value=5)
    with profile("empty", country="FRA") as cost:
        pass
    found = rows(cost)
    for metric in ("energy", "co2", "cpu_foreign"):
        assert found[metric].value is None
        assert found[metric].source == "unavailable"
    assert "power" not in found
    assert value(cost, "duration") > 0
    (warning,) = cost.warnings
    assert warning.startswith("energy of cpu: ")
    assert "(package-0): did not move" in warning


def test_counters_are_read_over_the_block(no_counters: Path) -> None:
    package = zone(no_counters, "intel-rapl:0", value=5)
    with profile("busy") as cost:
        package.add(3_000_000)
        time.sleep(0.01)
    assert rows(cost)["energy"] == Measurement("busy", "energy", 3.0, "J", "rapl")


def test_without_counters_energy_is_unavailable_and_says_why() -> None:
    with profile("x") as cost:
        pass
    assert rows(cost)["energy"] == Measurement("x", "energy", None, "J", "unavailable")
    assert any(line.startswith("energy of cpu: no energy counters: ") for line in cost.warnings)


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_is_set_does_not_matter(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    with profile("x", meter=Meter(Reading("cpu", 1.0, "rapl"))) as cost:
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        time.sleep(0.02)
    assert 0.02 <= value(cost, "duration") < 5
    assert value(cost, "power") > 0.2


def test_energy_power_and_grams_with_their_sources() -> None:
    meter = Meter(Reading("cpu", 30.0, "rapl"), Reading("ram", 6.0, "estimated"), unavailable("gpu", "it is lost"))
    with profile("x", meter=meter, country="FRA") as cost:
        time.sleep(0.01)
    found, seconds, grams = rows(cost), value(cost, "duration"), intensity("FRA")
    expected = [
        Measurement("x", "energy", 30.0, "J", "rapl"),
        Measurement("x", "power", 30 / seconds, "W", "rapl"),
        Measurement("x", "energy_ram", 6.0, "J", "estimated"),
        Measurement("x", "power_ram", 6 / seconds, "W", "estimated"),
        Measurement("x", "energy_gpu", None, "J", "unavailable"),
        Measurement("x", "co2", 30 * grams, "g", "computed"),
        Measurement("x", "co2_ram", 6 * grams, "g", "estimated"),
        Measurement("x", "co2_gpu", None, "g", "unavailable"),
    ]
    assert cost.measurements[-len(expected) :] == expected
    assert "power_gpu" not in found
    assert "energy of gpu: it is lost" in cost.warnings


def test_a_profile_can_be_used_again() -> None:
    cost = profile("x", meter=Meter(Reading("cpu", 1.0, "rapl")))
    for _ in range(2):
        with cost:
            pass
        assert value(cost, "energy") == 1.0


def test_memory_of_a_block_is_seen_even_if_it_is_gone_at_the_end() -> None:
    with profile("x", energy="none", children=False) as cost:
        block = np.ones(64_000_000, dtype=np.uint8)
        time.sleep(0.5)
        del block
    assert 60e6 < value(cost, "memory_peak") < 120e6


def test_children_are_counted_unless_they_are_not_to() -> None:
    code = "block = b'x' * 64_000_000\nimport time\ntime.sleep(0.8)"
    with profile("x", energy="none") as outer, profile("x", energy="none", children=False) as alone:
        subprocess.run([sys.executable, "-c", code], check=True)
    assert value(outer, "memory_peak") > 60e6
    assert value(alone, "memory_peak") < 30e6
    assert value(alone, "cpu") > 0


def test_an_unknown_source_of_energy_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"unknown energy source 'rappl'; did you mean .*rapl"):
        profile("x", energy="rappl")


def test_an_unknown_country_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="unknown country 'France': three letters are expected"):
        profile("x", country="France")


def test_a_source_that_was_asked_for_by_name_must_read() -> None:
    before = threading.active_count()
    with pytest.raises(MeasurementError, match="no energy counters"), profile("x", energy="rapl"):
        pytest.fail("the block must not run")
    assert threading.active_count() == before


def test_a_meter_that_fails_to_start_leaves_no_sampler_behind() -> None:
    class Broken(Meter):
        def start(self) -> None:
            raise MeasurementError("broken")

    before = threading.active_count()
    with pytest.raises(MeasurementError, match="broken"), profile("x", meter=Broken()):
        pytest.fail("the block must not run")
    assert threading.active_count() == before


def test_a_meter_that_fails_to_stop_leaves_no_sampler_behind() -> None:
    class Broken(Meter):
        def stop(self) -> list[Reading]:
            raise MeasurementError("broken")

    before = threading.active_count()
    with pytest.raises(MeasurementError, match="broken"), profile("x", meter=Broken()):
        pass
    assert threading.active_count() == before


def test_rows_are_written_under_a_label(tmp_path: Path) -> None:
    file = tmp_path / "new" / "costs.csv"
    with profile("training", meter=Meter(Reading("cpu", 2.5, "rapl"))) as cost:
        pass
    cost.write(file)
    cost.write(str(file), "baseline")
    table = pd.read_csv(file)
    assert table["model"].unique().tolist() == ["training", "baseline"]
    assert table["metric"].tolist() == 2 * [row.metric for row in cost.measurements]
    assert table[table["metric"] == "energy"]["value"].tolist() == [2.5, 2.5]
    assert set(table["phase"]) == {"training"}


def test_rows_are_not_written_to_another_s_file(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n")
    with profile("x", energy="none") as cost:
        pass
    with pytest.raises(ResultsError, match="has not the columns"):
        cost.write(tmp_path / "other.csv")
