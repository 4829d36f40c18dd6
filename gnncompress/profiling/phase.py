"""What a block of code costs: ``with profile("training") as cost``."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from gnncompress.errors import UsageError
from gnncompress.measurements import Measurement
from gnncompress.profiling.energy import EnergyMeter, insist_on_meter, open_meter
from gnncompress.profiling.joules import co2_rows, energy_rows, reasons
from gnncompress.profiling.load import Load, Usage
from gnncompress.profiling.memory import TreeMemory
from gnncompress.profiling.records import append_rows
from gnncompress.profiling.sampling import Sampler

_INTERVAL = 0.01


class profile:  # noqa: N801
    """A context whose block is measured: duration, CPU, memory, energy, and what others took meanwhile.

    After the block ``measurements`` are its rows and ``warnings`` what to know of them, also if the block raised.
    Blocks may be nested; the outer's figures hold the inner's. Processor time is that of this process and, unless
    ``children`` are not to count, of all below it; ``memory_peak`` is the largest resident memory of these seen above
    that on entry; energy is the machine's, unavailable for a block shorter than the counters can tell.

    Raises:
        UsageError: for an unknown source of energy or country.
        MeasurementError: on entry, if the source that was asked for by name reads nothing here.
    """

    def __init__(
        self,
        phase: str = "profile",
        *,
        energy: str = "auto",
        country: str = "",
        children: bool = True,
        meter: EnergyMeter | None = None,
    ) -> None:
        insist_on_meter(energy)
        co2_rows([], country)
        self.phase, self._country, self._children = phase, country, children
        self._meter = meter
        self._energy = energy
        self.measurements: list[Measurement] = []
        self.warnings: list[str] = []

    def __enter__(self) -> profile:
        if self._meter is None:
            self._meter = open_meter(self._energy)
        self._memory = TreeMemory(children=self._children)
        self._memory.sample()
        self._baseline = self._memory.peak
        self._sampler = Sampler(self._memory.sample, _INTERVAL)
        self._meter.start()
        self._sampler.start()
        self._before = Usage.now(self._children)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._meter is not None
        load = Load.between(self._before, Usage.now(self._children))
        try:
            readings = self._meter.stop()
        finally:
            self._sampler.stop()
        self._memory.sample()
        rows = energy_rows(self.phase, readings, load.seconds)
        self.measurements = [
            Measurement(self.phase, "duration", load.seconds, "s"),
            *load.measurements(self.phase),
            Measurement(self.phase, "memory_baseline", self._baseline, "bytes"),
            Measurement(self.phase, "memory_peak", self._memory.peak - self._baseline, "bytes"),
            *rows,
            *co2_rows(rows, self._country),
        ]
        self.warnings = [*load.warnings(), *reasons(readings)]

    def write(self, path: str | Path, label: str = "") -> None:
        """Append the rows to a CSV file, which is made if need be.

        Raises:
            UsageError: if the file cannot be written, or the block has not been left yet.
            ResultsError: if the file is there and holds something else.
        """
        if not self.measurements:
            raise UsageError(f"{self.phase}: nothing has been measured yet; write after the with block")
        append_rows(Path(path), label or self.phase, self.measurements)
