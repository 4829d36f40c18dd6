"""Energy through one interface, whatever reads it.

A reading says where it came from, and why if there is none. ``auto`` takes counters or nothing: without any, codecarbon
can only estimate (processor power from load, memory as a constant), so an estimate is given when it is asked for by
name, and labelled as one. Processor, memory and GPUs are always readings of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gnncompress.errors import MeasurementError, UsageError
from gnncompress.measurements import Source
from gnncompress.registry import unknown

COMPONENTS = ("cpu", "dram", "ram", "gpu")


@dataclass(frozen=True)
class Reading:
    """The energy of one component over a window: joules, or None and the reason why it could not be read.

    ``component`` is cpu (the processor's packages), dram (memory, by a counter), ram (memory, estimated) or gpu.
    """

    component: str
    joules: float | None
    source: Source
    reason: str = ""


def unavailable(component: str, reason: str) -> Reading:
    """Return the reading of what could not be read."""
    return Reading(component, None, "unavailable", reason)


class EnergyMeter(Protocol):
    """Something that reads energy between ``start`` and ``stop``."""

    def start(self) -> None: ...  # noqa: D102

    def stop(self) -> list[Reading]: ...  # noqa: D102


class NoMeter:
    """The meter of a machine without one: every window reads as unavailable."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> list[Reading]:
        """Return one unavailable reading."""
        return [unavailable("cpu", self.reason)]


class Meters:
    """Several meters, each of components of its own, as one."""

    def __init__(self, meters: Sequence[EnergyMeter]) -> None:
        self.meters = meters

    def start(self) -> None:
        """Open a window of each."""
        for meter in self.meters:
            meter.start()

    def stop(self) -> list[Reading]:
        """Close the windows, the last opened first."""
        readings = [meter.stop() for meter in reversed(self.meters)]
        return [reading for of_one in reversed(readings) for reading in of_one]


def _rapl() -> EnergyMeter:
    from gnncompress.profiling.rapl import RaplMeter

    return RaplMeter()


def _pyrapl() -> EnergyMeter:
    from gnncompress.profiling.pyrapl import PyRaplMeter

    return PyRaplMeter()


def _codecarbon() -> EnergyMeter:
    from gnncompress.profiling.carbon import CodeCarbonMeter

    return CodeCarbonMeter()


def _auto() -> EnergyMeter:
    try:
        return _rapl()
    except MeasurementError as error:
        return NoMeter(str(error))


METERS: dict[str, Callable[[], EnergyMeter]] = {
    "auto": _auto,
    "rapl": _rapl,
    "pyrapl": _pyrapl,
    "codecarbon": _codecarbon,
    "none": NoMeter,
}
_KNOW_GPUS = ("codecarbon", "none")


def insist_on_meter(name: str) -> None:
    """Insist on the name of a meter.

    Raises:
        UsageError: with near-miss suggestions.
    """
    if name not in METERS:
        raise UsageError(unknown("energy source", name, METERS))


def open_meter(name: str, gpu: bool = False) -> EnergyMeter:
    """Return the meter of a name in ``METERS``, with the counters of NVIDIA GPUs if ``gpu`` and if there are any.

    Raises:
        MeasurementError: if that meter reads nothing here; ``auto`` and ``none`` never raise.
    """
    meter = METERS[name]()
    if not gpu or name in _KNOW_GPUS:
        return meter
    from gnncompress.profiling.nvml import NvmlMeter

    try:
        return Meters([meter, NvmlMeter()])
    except MeasurementError:
        return meter


def reads(meter: EnergyMeter) -> bool:
    """Say whether a meter may read anything at all."""
    return any(map(reads, meter.meters)) if isinstance(meter, Meters) else not isinstance(meter, NoMeter)
