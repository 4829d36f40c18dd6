"""What the doctor says of machines with and without counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from gnncompress.profiling import doctor, powercap
from gnncompress.profiling.energy import METERS, NoMeter, Reading


def zone(root: Path, place: str, name: str, value: str = "1000") -> None:
    (root / place).mkdir(parents=True)
    for file, text in (("name", name), ("energy_uj", value), ("max_energy_range_uj", "262143328850")):
        (root / place / file).write_text(text + "\n")


@pytest.fixture
def counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty powercap folder; meters that are slow to open answer at once."""
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(tmp_path))
    monkeypatch.setattr(doctor, "_LOOK", 0.001)
    for name in ("pyrapl", "codecarbon"):
        monkeypatch.setitem(METERS, name, lambda: NoMeter("not looked at"))
    return tmp_path


def findings() -> dict[str, doctor.Finding]:
    return {one.what: one for one in doctor.examine()}


def test_a_machine_without_counters(counters: Path) -> None:
    found = findings()
    assert not found["energy counters"].works
    assert str(counters) in found["energy counters"].seen
    assert "virtual machines rarely have counters" in found["energy counters"].advice
    assert not found["--energy rapl"].works
    assert not found["--energy auto"].works
    assert "unavailable" in found["--energy auto"].seen
    assert found["clock"].works


def test_every_zone_is_shown_and_what_is_not_counted(counters: Path) -> None:
    zone(counters, "intel-rapl:0", "package-0")
    zone(counters, "intel-rapl:0:0", "core")
    zone(counters, "intel-rapl:0:1", "dram")
    found = findings()
    assert found["counter intel-rapl:0 (package-0)"].seen == "cpu: 262,143 J, then from 0"
    assert found["counter intel-rapl:0:0 (core)"].seen.startswith("not counted")
    assert found["counter intel-rapl:0:1 (dram)"].works
    assert not found["--energy auto"].works, "since the counters stand still"


def test_a_counter_that_stands_still_is_no_energy(counters: Path) -> None:
    zone(counters, "intel-rapl:0", "package-0")
    found = findings()["--energy rapl"]
    assert not found.works
    assert "did not move" in found.seen


def test_what_may_not_be_read_comes_with_the_way_to_allow_it(counters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(counters, "intel-rapl:0", "package-0")
    read = powercap.read_text

    def refuse(path: Path) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(powercap, "read_text", refuse)
    found = findings()
    package = found["counter intel-rapl:0 (package-0)"]
    assert (package.works, package.seen) == (False, "cpu: energy_uj: permission denied")
    assert "sudo chmod a+r" in package.advice
    assert "permission denied" in found["--energy rapl"].seen


def test_an_estimate_is_called_one(counters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Estimate(NoMeter):
        def stop(self) -> list[Reading]:
            return [Reading("cpu", 0.005, "estimated")]

    monkeypatch.setitem(METERS, "codecarbon", Estimate)
    found = findings()["--energy codecarbon"]
    assert found.works
    assert found.seen == "cpu 5 W (estimated)"
    assert "no measurement" in found.advice
