"""Energy from Intel's counters, read by pyRAPL."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

from gnncompress.errors import MeasurementError
from gnncompress.profiling.energy import Reading, unavailable

# In so many seconds at 500 W the smallest counters, of 65 kJ, wrap; pyRAPL takes what is left for the energy.
_LONGEST = 130.0


class PyRaplMeter:
    """Processor package and memory energy as pyRAPL reads them; it knows neither AMD's zones nor dies nor wraps.

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
                "permission on /sys/class/powercap/intel-rapl/*/energy_uj; 'gnncompress doctor' says more"
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
        self._started = time.perf_counter()
        with contextlib.suppress(self._pyrapl.PyRAPLException, OSError, ValueError):  # stop tells
            self._measurement.begin()

    def stop(self) -> list[Reading]:
        """Close the window; a counter that wrapped meanwhile gives an unavailable reading."""
        seconds = time.perf_counter() - self._started
        try:
            self._measurement.end()
        except (self._pyrapl.PyRAPLException, OSError, ValueError, AttributeError, TypeError) as error:
            return [unavailable("cpu", f"pyRAPL cannot read its counters any more ({type(error).__name__})")]
        if seconds >= _LONGEST:
            return [
                unavailable("cpu", f"a counter may have wrapped in {seconds:.0f} s, which pyRAPL cannot tell; use rapl")
            ]
        result = self._measurement.result
        return [
            self._reading(component, values)
            for component, values in (("cpu", result.pkg), ("dram", result.dram))
            if component == "cpu" or values
        ]

    @staticmethod
    def _reading(component: str, microjoules: list[float | None] | None) -> Reading:
        values = [value for value in microjoules or [] if value is not None and value > 0]
        if not values or len(values) != len(microjoules or []):
            return unavailable(component, "a counter wrapped or did not move, of which pyRAPL knows nothing; use rapl")
        return Reading(component, sum(values) / 1e6, "pyrapl")
