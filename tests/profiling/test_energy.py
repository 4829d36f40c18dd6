"""Energy meters against fake counters: this machine may have none, and a test must know what they say."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from gnncompress.errors import MeasurementError, UsageError
from gnncompress.profiling.carbon import CodeCarbonMeter
from gnncompress.profiling.energy import METERS, NoMeter, Reading, insist_on_meter, open_meter, reads, unavailable
from gnncompress.profiling.pyrapl import PyRaplMeter


def fake_pyrapl(pkg: list[float | None] | None, dram: list[float] | None, counters: set[str]) -> Any:
    """A module with pyRAPL's interface whose counters read what they are told to."""
    module: Any = types.ModuleType("pyRAPL")

    class PyRAPLException(Exception):  # noqa: N818
        pass

    class Device:
        PKG, DRAM = "pkg", "dram"

    class Measurement:
        def __init__(self, label: str) -> None:
            self.result = types.SimpleNamespace(pkg=pkg, dram=dram if module.devices == ["pkg", "dram"] else None)

        def begin(self) -> None: ...

        def end(self) -> None: ...

    def setup(devices: list[str]) -> None:
        if not set(devices) <= counters:
            raise PyRAPLException
        module.devices = devices

    module.PyRAPLException, module.Device, module.Measurement, module.setup = (
        PyRAPLException,
        Device,
        Measurement,
        setup,
    )
    return module


def read(monkeypatch: pytest.MonkeyPatch, **fake: Any) -> list[Reading]:
    monkeypatch.setitem(sys.modules, "pyRAPL", fake_pyrapl(**fake))
    meter = PyRaplMeter()
    meter.start()
    return meter.stop()


def test_pyrapl_sums_sockets_and_keeps_memory_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = read(monkeypatch, pkg=[1.5e6, 0.5e6], dram=[2.5e5, 2.5e5], counters={"pkg", "dram"})
    assert readings == [Reading("cpu", 2.0, "pyrapl"), Reading("dram", 0.5, "pyrapl")]


def test_pyrapl_without_a_memory_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, pkg=[1e6], dram=[9.0], counters={"pkg"}) == [Reading("cpu", 1.0, "pyrapl")]


@pytest.mark.parametrize("pkg", [None, [], [None], [1e6, None], [-5.0], [1e6, -5.0], [0.0], [1e6, 0.0]])
def test_a_counter_that_wrapped_or_stood_is_unavailable_not_zero(pkg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (reading,) = read(monkeypatch, pkg=pkg, dram=None, counters={"pkg"})
    assert reading == unavailable("cpu", "a counter wrapped or did not move, of which pyRAPL knows nothing; use rapl")


def test_memory_that_wrapped_leaves_the_processor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, dram = read(monkeypatch, pkg=[1e6], dram=[-1.0], counters={"pkg", "dram"})
    assert cpu == Reading("cpu", 1.0, "pyrapl")
    assert (dram.component, dram.joules, dram.source) == ("dram", None, "unavailable")


def test_pyrapl_that_cannot_read_any_more_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_pyrapl([1e6], None, {"pkg"})

    def end(_: Any) -> None:
        raise FileNotFoundError(2, "gone")

    fake.Measurement.end = end
    monkeypatch.setitem(sys.modules, "pyRAPL", fake)
    meter = METERS["pyrapl"]()
    meter.start()
    assert meter.stop() == [unavailable("cpu", "pyRAPL cannot read its counters any more (FileNotFoundError)")]


def test_pyrapl_without_counters_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyRAPL", fake_pyrapl(None, None, set()))
    with pytest.raises(MeasurementError, match=r"pyRAPL reads no energy here \(PyRAPLException\); it needs"):
        PyRaplMeter()


def test_pyrapl_is_taken_only_if_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pyRAPL", fake_pyrapl([1.0], None, {"pkg"}))
    assert isinstance(METERS["auto"](), NoMeter)
    assert isinstance(METERS["pyrapl"](), PyRaplMeter)


def test_real_pyrapl_on_a_machine_without_counters() -> None:
    if Path("/sys/class/powercap/intel-rapl").exists():
        pytest.skip("this machine has counters")
    with pytest.raises(MeasurementError, match="pyRAPL reads no energy here"):
        PyRaplMeter()


def test_no_meter_reads_nothing_and_says_why() -> None:
    for meter, reason in ((NoMeter(), ""), (NoMeter("no counters"), "no counters")):
        meter.start()
        assert meter.stop() == [Reading("cpu", None, "unavailable", reason)]
        assert not reads(meter)


def test_codecarbon_is_quiet_and_labels_its_estimate(tmp_path: Path) -> None:
    code = (
        "import time\nfrom gnncompress.profiling.carbon import CodeCarbonMeter\n"
        "meter = CodeCarbonMeter()\nmeter.start()\nuntil = time.perf_counter() + 0.5\n"
        "while time.perf_counter() < until: pass\n"
        "for r in meter.stop(): print(r.component, r.source, r.joules > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines["ram"] == "estimated True"
    assert lines["cpu"].split()[0] in ("estimated", "rapl")
    assert list(tmp_path.iterdir()) == []


def test_codecarbon_source_follows_its_mode() -> None:
    meter = CodeCarbonMeter.__new__(CodeCarbonMeter)
    emissions = types.SimpleNamespace(cpu_energy=1e-6, ram_energy=2e-6, gpu_energy=3e-6)
    for mode, source in (("intel_rapl", "rapl"), ("cpu_load", "estimated"), ("constant", "estimated")):
        meter._tracker = types.SimpleNamespace(
            _hardware=[types.SimpleNamespace(_mode=mode)], stop_task=lambda: emissions
        )
        assert [(r.component, r.source, r.joules) for r in meter.stop()] == [
            ("cpu", source, pytest.approx(3.6)),
            ("ram", "estimated", pytest.approx(7.2)),
            ("gpu", "nvml", pytest.approx(10.8)),
        ]


def test_every_meter_has_a_name() -> None:
    assert list(METERS) == ["auto", "rapl", "pyrapl", "codecarbon", "none"]
    assert isinstance(open_meter("none"), NoMeter)


def test_an_unknown_meter_is_refused_with_near_misses() -> None:
    for name in METERS:
        insist_on_meter(name)
    with pytest.raises(UsageError, match=r"unknown energy source 'pyrap'; did you mean pyrapl"):
        insist_on_meter("pyrap")


def test_codecarbon_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import codecarbon

    def refuse(**_: Any) -> None:
        raise RuntimeError("another instance is running")

    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", refuse)
    with pytest.raises(MeasurementError, match="codecarbon cannot start: another instance is running"):
        METERS["codecarbon"]()
