"""Energy as codecarbon tells it, and the carbon dioxide of a country's electricity."""

from __future__ import annotations

import difflib
import logging
import warnings
from functools import lru_cache
from typing import Any

from gnncompress.errors import MeasurementError, UsageError
from gnncompress.measurements import Source
from gnncompress.profiling.energy import Reading, unavailable

JOULES_PER_KWH = 3.6e6


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
                    country_iso_code="USA",  # only converts energy to CO2, which ``intensity`` does here
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
            Reading(component, energy * JOULES_PER_KWH, sources[component])
            if energy > 0
            else unavailable(component, "codecarbon knows of none in so short or idle a window")
            for component, energy in kwh.items()
            if component != "gpu" or energy > 0
        ]

    def _cpu_source(self) -> Source:
        modes = {str(getattr(hardware, "_mode", "")) for hardware in self._tracker._hardware}
        return "rapl" if "intel_rapl" in modes else "estimated"


@lru_cache
def intensity(country: str) -> float:
    """Return the grams of carbon dioxide that a joule of a country's electricity causes, a mean of one year.

    Raises:
        UsageError: if ``country`` is no three-letter code (ISO 3166-1 alpha-3) that codecarbon has a figure for.

    Source: codecarbon's table of national energy mixes (Our World in Data).
    """
    from codecarbon.input import DataSource

    found = DataSource().get_global_energy_mix_data()
    if "carbon_intensity" not in found.get(country, {}):
        near = difflib.get_close_matches(country.upper(), found)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"unknown country {country!r}: three letters are expected, such as FRA or USA{hint}")
    return float(found[country]["carbon_intensity"]) / JOULES_PER_KWH
