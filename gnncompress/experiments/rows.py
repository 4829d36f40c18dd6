"""A run's measurements as the rows of results.csv, and back as a flat dictionary."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from gnncompress.errors import ResultsError
from gnncompress.experiments.spec import RunSpec
from gnncompress.files import read_text, why
from gnncompress.measurements import Measurement, csv_rows


def to_csv(spec: RunSpec, measurements: Iterable[Measurement]) -> str:
    """Return results.csv: one observation a row, the columns and their order as in ``COLUMNS``."""
    identity = [
        spec.run_id,
        spec.dataset,
        spec.task,
        spec.model,
        spec.method,
        spec.scheme,
        spec.sparsity,
        str(spec.finetune is not None).lower(),
        spec.seed,
    ]
    return csv_rows(identity, measurements, header=True)


def read_measurements(path: Path) -> list[Measurement]:
    """Return a run's measurements.

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
                float(row["value"]) if row["value"] else None,
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


def read_metrics(path: Path) -> dict[str, float | None]:
    """Return a run's whole-model figures by ``phase.metric``; what was unavailable is None.

    Raises:
        ResultsError: as ``read_measurements`` does.
    """
    return {f"{one.phase}.{one.metric}": one.value for one in read_measurements(path) if not one.layer}
