"""Readings as rows: joules, watts and grams of carbon dioxide, each component under a name of its own."""

from __future__ import annotations

from collections.abc import Iterable

from gnncompress.measurements import Measurement, Source
from gnncompress.profiling.energy import COMPONENTS, Reading


def name_of(metric: str, component: str) -> str:
    """Return the metric of a component; the processor's is plain."""
    return metric if component == "cpu" else f"{metric}_{component}"


def energy_rows(phase: str, readings: Iterable[Reading], seconds: float) -> list[Measurement]:
    """Return energy and, where it is known, mean power over a window of ``seconds``."""
    rows = []
    for one in readings:
        rows.append(Measurement(phase, name_of("energy", one.component), one.joules, "J", one.source))
        if one.joules is not None and seconds > 0:
            rows.append(Measurement(phase, name_of("power", one.component), one.joules / seconds, "W", one.source))
    return rows


def co2_rows(rows: Iterable[Measurement], country: str) -> list[Measurement]:
    """Return the grams of carbon dioxide of every row of energy, nothing without a country; estimates stay estimates.

    Raises:
        UsageError: if there is no figure for the country.
    """
    if not country:
        return []
    from gnncompress.profiling.carbon import intensity

    grams = intensity(country)
    names = {name_of("energy", component): name_of("co2", component) for component in COMPONENTS}
    found = []
    for row in rows:
        if row.metric in names:
            value = None if row.value is None else row.value * grams
            source: Source = row.source if row.source in ("unavailable", "estimated") else "computed"
            found.append(Measurement(row.phase, names[row.metric], value, "g", source))
    return found


def reasons(readings: Iterable[Reading]) -> list[str]:
    """Say why components could not be read."""
    return [f"energy of {one.component}: {one.reason}" for one in readings if one.joules is None and one.reason]
