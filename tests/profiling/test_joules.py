"""Readings as rows: names, watts, grams, and sources that stay true."""

from __future__ import annotations

import pytest
from codecarbon.input import DataSource

from gnncompress.errors import UsageError
from gnncompress.measurements import Measurement
from gnncompress.profiling.carbon import JOULES_PER_KWH, intensity
from gnncompress.profiling.energy import COMPONENTS, Reading, unavailable
from gnncompress.profiling.joules import co2_rows, energy_rows, name_of, reasons


def grams_a_kwh(country: str) -> float:
    """Codecarbon's own figure."""
    return float(DataSource().get_global_energy_mix_data()[country]["carbon_intensity"])


def test_the_processor_s_names_are_plain() -> None:
    assert [name_of("energy", one) for one in COMPONENTS] == ["energy", "energy_dram", "energy_ram", "energy_gpu"]
    assert name_of("power", "gpu") == "power_gpu"


def test_energy_and_power_of_each_component() -> None:
    readings = [Reading("cpu", 10.0, "rapl"), Reading("ram", 3.0, "estimated"), unavailable("gpu", "lost")]
    assert energy_rows("train", readings, 4.0) == [
        Measurement("train", "energy", 10.0, "J", "rapl"),
        Measurement("train", "power", 2.5, "W", "rapl"),
        Measurement("train", "energy_ram", 3.0, "J", "estimated"),
        Measurement("train", "power_ram", 0.75, "W", "estimated"),
        Measurement("train", "energy_gpu", None, "J", "unavailable"),
    ]


def test_no_power_over_no_time() -> None:
    rows = energy_rows("x", [Reading("cpu", 1.0, "rapl")], 0.0)
    assert rows == [Measurement("x", "energy", 1.0, "J", "rapl")]


def test_intensity_is_that_of_codecarbon_s_table() -> None:
    assert intensity("FRA") * JOULES_PER_KWH == pytest.approx(grams_a_kwh("FRA"), rel=1e-12)
    assert intensity("POL") > intensity("FRA") > 0
    assert JOULES_PER_KWH == 3_600_000


def test_a_kilowatt_hour_gives_the_country_s_grams_and_sources_stay_true() -> None:
    rows = energy_rows(
        "train",
        [
            Reading("cpu", 3.6e6, "rapl"),
            Reading("dram", 1.8e6, "pyrapl"),
            Reading("ram", 3.6e5, "estimated"),
            Reading("gpu", 7.2e6, "nvml"),
        ],
        60.0,
    )
    grams = grams_a_kwh("FRA")
    assert co2_rows(rows, "FRA") == [
        Measurement("train", "co2", pytest.approx(grams), "g", "computed"),
        Measurement("train", "co2_dram", pytest.approx(grams / 2), "g", "computed"),
        Measurement("train", "co2_ram", pytest.approx(grams / 10), "g", "estimated"),
        Measurement("train", "co2_gpu", pytest.approx(grams * 2), "g", "computed"),
    ]


def test_what_was_not_read_caused_unknown_grams_not_none_at_all() -> None:
    rows = [Measurement("x", "energy", None, "J", "unavailable"), Measurement("x", "duration", 1.0, "s")]
    assert co2_rows(rows, "FRA") == [Measurement("x", "co2", None, "g", "unavailable")]


def test_spreads_and_windows_are_no_energies_to_convert() -> None:
    rows = [
        Measurement("x", metric, 1.0, unit)
        for metric, unit in (("energy_spread", "J"), ("energy_window", "s"), ("power", "W"), ("energy_windows", "x"))
    ]
    assert co2_rows(rows, "FRA") == []


def test_no_country_no_grams() -> None:
    assert co2_rows([Measurement("x", "energy", 1.0, "J", "rapl")], "") == []


@pytest.mark.parametrize("country", ["FRX", "France", "fra", "FR", "_define"])
def test_an_unknown_country_is_refused_and_says_what_is_wanted(country: str) -> None:
    with pytest.raises(UsageError, match=f"unknown country '{country}': three letters are expected"):
        co2_rows([], country)


def test_near_misses_of_a_country_are_suggested() -> None:
    with pytest.raises(UsageError, match=r"did you mean .*FRA"):
        co2_rows([], "FRX")


def test_reasons_are_told_of_what_was_not_read() -> None:
    readings = [Reading("cpu", 1.0, "rapl"), unavailable("dram", "it wrapped"), Reading("gpu", None, "unavailable")]
    assert reasons(readings) == ["energy of dram: it wrapped"]
