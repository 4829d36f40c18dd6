"""Energy through one interface, whatever reads it.

A reading says where it came from, and why if there is none. ``auto`` takes counters or nothing: without any, codecarbon
can only estimate (processor power from load, memory as a constant), so an estimate is given when it is asked for by
name, and labelled as one. Processor, memory and GPUs are always readings of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


def components(windows: Iterable[Iterable[Reading]]) -> list[str]:
    """Return every component that was read in any window, in the order of their first."""
    return list(dict.fromkeys(reading.component for readings in windows for reading in readings))


def reading_of(component: str, readings: Iterable[Reading]) -> Reading:
    """Return a component's reading; a window that has none does not have it available."""
    found = [reading for reading in readings if reading.component == component]
    return found[0] if found else unavailable(component, "one of the windows has none")


class EnergyMeter(Protocol):
    """Something that reads energy between ``start`` and ``stop``."""

    def start(self) -> None: ...  # noqa: D102

    def stop(self) -> list[Reading]: ...  # noqa: D102


class NoMeter:
    """The meter of a machine without one: every window reads as unavailable."""

    def __init__(self, reason: str = "", component: str = "cpu") -> None:
        self.reason, self.component = reason, component

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> list[Reading]:
        """Return one unavailable reading."""
        return [unavailable(self.component, self.reason)]


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
    """Return the meter of a name in ``METERS``, with the counters of NVIDIA GPUs if ``gpu``.

    Raises:
        MeasurementError: if that meter reads nothing here; ``auto`` and ``none`` never raise.
    """
    meter = METERS[name]()
    return Meters([meter, _gpus()]) if gpu and name not in _KNOW_GPUS else meter


def open_if_possible(name: str, gpu: bool = False) -> EnergyMeter:
    """Return what ``open_meter`` does, or, if that reads nothing here any more, a meter that says why."""
    try:
        return open_meter(name, gpu)
    except MeasurementError as error:
        return NoMeter(str(error))


def _gpus() -> EnergyMeter:
    from gnncompress.profiling.nvml import NvmlMeter

    try:
        return NvmlMeter()
    except MeasurementError as error:
        return NoMeter(str(error), "gpu")


def reads(meter: EnergyMeter) -> bool:
    """Say whether a meter may read anything at all."""
    return any(map(reads, meter.meters)) if isinstance(meter, Meters) else not isinstance(meter, NoMeter)
