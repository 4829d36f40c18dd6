"""Measurements as the rows of CSV files, and back; and the rows of a run from those of its stages."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gnncompress.errors import ResultsError
from gnncompress.experiments.stages import Chain
from gnncompress.files import read_text, why
from gnncompress.measurements import Measurement, csv_rows

_OF_MEASUREMENT = ("phase", "layer", "metric", "value", "unit", "source")
# What stages cost: those of all stages that led to a run's model are its own. Of what is not added up the last counts.
_COSTS = {
    "duration", "epochs", "best_epoch", "epoch_cpu_duration", "diverged", "cpu", "cpu_foreign", "memory_baseline",
    "memory_peak", "energy_window", "context_switches_voluntary", "context_switches_involuntary",
}  # fmt: skip
_COST_FAMILIES = ("energy", "power", "co2")
_ADDED = {"duration", "epochs", "energy_window"}
_ADDED_FAMILIES = ("energy", "co2")


def to_csv(chain: Chain, measurements: Iterable[Measurement]) -> str:
    """Return results.csv: one observation per row, the columns and their order as in ``COLUMNS``."""
    workload = chain.workload
    identity = [
        chain.id,
        workload.dataset,
        workload.task,
        workload.model,
        chain.method,
        chain.scheme,
        chain.sparsity,
        str(chain.finetuned).lower(),
        workload.seed,
    ]
    return csv_rows(identity, measurements, header=True)


def costs_csv(measurements: Iterable[Measurement]) -> str:
    """Return the rows of a stage that is no run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_OF_MEASUREMENT)
    writer.writerows([[one.phase, one.layer, one.metric, one.value, one.unit, one.source] for one in measurements])
    return text.getvalue()


def runs_csv(chain: Chain) -> str:
    """Return what a run was: a row, with a column for each field of its workload and stages."""
    fields: dict[str, Any] = {"run_id": chain.id}
    written = chain.dump()
    _flatten(fields, "workload", written["workload"])
    for number, stage in enumerate(written["stages"]):
        kind = stage.pop("stage")
        _flatten(fields, f"{number}.{kind}", stage)
        if not stage:
            fields[f"{number}.{kind}"] = True
    text = io.StringIO()
    writer = csv.DictWriter(text, list(fields), lineterminator="\n")
    writer.writeheader()
    writer.writerow(fields)
    return text.getvalue()


def _flatten(fields: dict[str, Any], name: str, value: Any) -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            _flatten(fields, f"{name}.{key}", one)
    else:
        fields[name] = json.dumps(value) if isinstance(value, list) else value


def of_chain(parts: Sequence[Sequence[Measurement]]) -> list[Measurement]:
    """Return the rows of a run: those of its model's last stage, and what all stages before it cost, by phase.

    Durations, epochs, energy and carbon dioxide of one phase are added up over stages, peaks of memory are the largest;
    of other figures the last counts. An energy that one stage does not know is unavailable.
    """
    rows: dict[tuple[str, str, str], Measurement] = {}
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        for row in part:
            if last or _is_cost(row.metric):
                key = row.phase, row.metric, row.layer
                rows[key] = _joined(rows.pop(key), row) if key in rows else row
    return list(rows.values())


def _is_cost(metric: str) -> bool:
    return metric in _COSTS or _in_family(metric, _COST_FAMILIES)


def _in_family(metric: str, families: Sequence[str]) -> bool:
    return any(metric == family or metric.startswith(f"{family}_") for family in families)


def _joined(first: Measurement, then: Measurement) -> Measurement:
    if then.metric in _ADDED or _in_family(then.metric, _ADDED_FAMILIES):
        if first.value is None or then.value is None:
            return replace(then, value=None, source="unavailable")
        source = then.source if first.source == then.source else "estimated"
        return replace(then, value=first.value + then.value, source=source)
    if then.metric in ("memory_peak", "diverged") and None not in (first.value, then.value):
        return replace(then, value=max(first.value or 0, then.value or 0))
    return then


def read_measurements(path: Path) -> list[Measurement]:
    """Return the measurements of a run, or of a stage.

    Raises:
        ResultsError: naming the file, if it cannot be read, lacks a column, or has values that do not fit.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
        for number, row in enumerate(rows, start=1):
            if None in row or None in row.values():
                raise ValueError(f"row {number} has not as many cells as the head")
        return [
            Measurement(
                row["phase"],
                row["metric"],
                _value(row["value"]),
                row["unit"],
                row["source"],  # type: ignore[arg-type]
                row["layer"],
            )
            for row in rows
        ]
    except KeyError as error:
        reason = f"column {error.args[0]} missing"
    except (OSError, ValueError, csv.Error) as error:
        reason = why(error)
    raise ResultsError(f"{path}: cannot be read as results ({reason}); delete the run's folder and run it again")


def _value(text: str) -> float | int | None:
    """Return a number as it was written: whole ones stay whole, so that they are written again as they were."""
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def read_metrics(path: Path) -> dict[str, float | None]:
    """Return a run's whole-model figures by ``phase.metric``; what was unavailable is None.

    Raises:
        ResultsError: as ``read_measurements`` does.
    """
    found = {f"{one.phase}.{one.metric}": one.value for one in read_measurements(path) if not one.layer}
    return {name: None if value is None else float(value) for name, value in found.items()}
