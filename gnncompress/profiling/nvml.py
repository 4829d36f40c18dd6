"""Energy of NVIDIA GPUs from their own counters."""

from __future__ import annotations

from typing import Any

from gnncompress.errors import MeasurementError
from gnncompress.profiling.energy import EnergyMeter, Meters, Reading, unavailable
from gnncompress.profiling.sampling import Sampler

_INTERVAL = 0.1


def utilization(meter: EnergyMeter) -> float | None:
    """Return the utilization that a meter saw in its last window, in percent; None if it knows no GPU."""
    if isinstance(meter, Meters):
        return next((found for one in meter.meters if (found := utilization(one)) is not None), None)
    return meter.utilization if isinstance(meter, NvmlMeter) else None


class NvmlMeter:
    """The energy of all NVIDIA GPUs of the machine (Volta or newer), with their utilization meanwhile.

    ``utilization`` is the mean over the last window and the GPUs, in percent of the time that a kernel was running;
    None if it was never read.

    Raises:
        MeasurementError: if there is no driver, no GPU, or one without a counter.

    Source: NVML, nvmlDeviceGetTotalEnergyConsumption, in millijoules since the driver was loaded.
    """

    def __init__(self) -> None:
        import pynvml

        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            self._read()
        except pynvml.NVMLError as error:
            raise MeasurementError(f"NVML reads no energy here ({error})") from error
        if not self._gpus:
            raise MeasurementError("NVML reads no energy here (no GPU)")
        self._sampler = Sampler(self._look, _INTERVAL)
        self._start: list[int] = []
        self._seen: list[float] = []

    def start(self) -> None:
        """Open a window."""
        self._seen = []
        try:
            self._start = self._read()
        except self._nvml.NVMLError:
            self._start = []
        self._sampler.start()

    def stop(self) -> list[Reading]:
        """Close the window; a GPU that cannot be read any more makes it unavailable."""
        self._sampler.stop()
        if not self._start:
            return [unavailable("gpu", "a GPU cannot be read any more")]
        try:
            used = [after - before for before, after in zip(self._start, self._read(), strict=True)]
        except (self._nvml.NVMLError, ValueError) as error:
            return [unavailable("gpu", f"a GPU cannot be read any more ({error})")]
        if min(used) <= 0:
            return [unavailable("gpu", "the counter of a GPU did not move, or was set back")]
        return [Reading("gpu", sum(used) / 1e3, "nvml")]

    @property
    def utilization(self) -> float | None:
        """The mean utilization over the last window, in percent."""
        return sum(self._seen) / len(self._seen) if self._seen else None

    def _read(self) -> list[int]:
        return [self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) for gpu in self._gpus]

    def _look(self) -> None:
        try:
            found = [self._nvml.nvmlDeviceGetUtilizationRates(gpu).gpu for gpu in self._gpus]
        except self._nvml.NVMLError:
            return
        self._seen.append(sum(found) / len(found))
