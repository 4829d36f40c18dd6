"""Energy through one interface, with pyRAPL and codecarbon behind it.

A reading says where it came from. ``auto`` takes measured energy or none: without readable counters codecarbon
can only estimate (processor power from load, memory as a constant), so an estimate is given when it is asked for
by name, and it is labelled as one. Processor and memory are always readings of their own.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gnncompress.errors import MeasurementError
from gnncompress.measurements import Source


@dataclass(frozen=True)
class Reading:
    """The energy of one component over a window: joules, or None when it could not be read."""

    component: str
    joules: float | None
    source: Source


UNAVAILABLE = Reading("cpu", None, "unavailable")


class EnergyMeter(Protocol):
    """Something that reads energy between ``start`` and ``stop``."""

    def start(self) -> None: ...  # noqa: D102

    def stop(self) -> list[Reading]: ...  # noqa: D102


class NoMeter:
    """The meter of a machine without one: every window reads as unavailable."""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> list[Reading]:
        """Return one unavailable reading."""
        return [UNAVAILABLE]


class PyRaplMeter:
    """Processor package and memory energy from Intel's counters, read by pyRAPL.

    Raises:
        MeasurementError: if pyRAPL finds no counters it may read.
    """

    def __init__(self) -> None:
        before = logging.root.level
        logging.root.setLevel(logging.ERROR)  # pyRAPL warns on the root logger when pymongo is not installed
        try:
            import pyRAPL
        finally:
            logging.root.setLevel(before)
        self._pyrapl = pyRAPL
        try:
            self._setup()
        except (pyRAPL.PyRAPLException, OSError, ValueError) as error:
            raise MeasurementError(
                f"pyRAPL reads no energy here ({type(error).__name__}); it needs an Intel processor and read "
                "permission on /sys/class/powercap/intel-rapl/*/energy_uj"
            ) from error
        self._measurement: Any = None

    def _setup(self) -> None:
        device = self._pyrapl.Device
        try:
            self._pyrapl.setup(devices=[device.PKG, device.DRAM])
        except (self._pyrapl.PyRAPLException, OSError, ValueError):
            self._pyrapl.setup(devices=[device.PKG])  # many processors have no counter for memory

    def start(self) -> None:
        """Open a window."""
        self._measurement = self._pyrapl.Measurement("window")
        self._measurement.begin()

    def stop(self) -> list[Reading]:
        """Close the window; a counter that wrapped meanwhile gives an unavailable reading."""
        self._measurement.end()
        result = self._measurement.result
        return [
            self._reading(component, values)
            for component, values in (("cpu", result.pkg), ("dram", result.dram))
            if component == "cpu" or values
        ]

    @staticmethod
    def _reading(component: str, microjoules: list[float | None] | None) -> Reading:
        values = [value for value in microjoules or [] if value is not None and value >= 0]
        if not values or len(values) != len(microjoules or []):
            return Reading(component, None, "unavailable")
        return Reading(component, sum(values) / 1e6, "pyrapl")


class CodeCarbonMeter:
    """Energy as codecarbon tells it: counters where it can read them, otherwise an estimate, labelled so.

    Offline and quiet: no network, no file, no log.

    Raises:
        MeasurementError: if codecarbon cannot start.
    """

    def __init__(self) -> None:
        logging.getLogger("codecarbon").disabled = True  # it speaks before it has read its log level
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from codecarbon import OfflineEmissionsTracker

            try:
                self._tracker: Any = OfflineEmissionsTracker(
                    country_iso_code="USA",  # only converts energy to CO2, which is not read here
                    tracking_mode="process",
                    output_methods=[],
                    log_level="critical",
                    allow_multiple_runs=True,
                )
                self._tracker.start_task("start-up")  # the first start probes the hardware for a second or two
                self._tracker.stop_task("start-up")
            except (OSError, RuntimeError, ValueError) as error:
                raise MeasurementError(f"codecarbon cannot start: {error}") from error

    def start(self) -> None:
        """Open a window."""
        self._tracker.start_task()

    def stop(self) -> list[Reading]:
        """Close the window and read processor, memory and, if there are any, GPUs."""
        emissions = self._tracker.stop_task()
        kwh = {"cpu": emissions.cpu_energy, "ram": emissions.ram_energy, "gpu": emissions.gpu_energy}
        sources: dict[str, Source] = {"cpu": self._cpu_source(), "ram": "estimated", "gpu": "nvml"}
        return [
            Reading(component, energy * 3.6e6, sources[component])
            for component, energy in kwh.items()
            if component != "gpu" or energy > 0
        ]

    def _cpu_source(self) -> Source:
        modes = {str(getattr(hardware, "_mode", "")) for hardware in self._tracker._hardware}
        return "rapl" if "intel_rapl" in modes else "estimated"


def auto_meter() -> EnergyMeter:
    """Return the best meter that measures; where nothing can be read, one that says so."""
    try:
        return PyRaplMeter()
    except MeasurementError:
        return NoMeter()


METERS: dict[str, Callable[[], EnergyMeter]] = {
    "auto": auto_meter,
    "pyrapl": PyRaplMeter,
    "codecarbon": CodeCarbonMeter,
    "none": NoMeter,
}
