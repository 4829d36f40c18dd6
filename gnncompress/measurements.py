"""The shape of every number: what a method or a profiler measures, and the columns of results.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

COLUMNS = (
    "run_id",
    "dataset",
    "task",
    "model",
    "method",
    "scheme",
    "sparsity",
    "finetuned",
    "seed",
    "phase",
    "layer",
    "metric",
    "value",
    "unit",
    "source",
)

Phase = Literal["train", "compress", "finetune", "evaluate", "inference", "checkpoint", "pretrain"]
Source = Literal["measured", "rapl", "pyrapl", "nvml", "estimated", "computed", "unavailable"]
PHASES: tuple[str, ...] = get_args(Phase)
SOURCES: tuple[str, ...] = get_args(Source)

NODES, LINKS, GRAPHS, MULTILABEL = TASKS = (
    "node-classification",
    "link-prediction",
    "graph-classification",
    "multilabel-graph-classification",
)
# The metric that a user brings.
OWN_METRIC = "score"
# The figure a task is judged by: tables and comparisons read it from here.
PRIMARY_METRIC = {NODES: "accuracy", LINKS: "roc_auc", GRAPHS: "accuracy", MULTILABEL: "roc_auc"}


@dataclass(frozen=True)
class Measurement:
    """One observation: ``value`` in ``unit``, and where it came from.

    Shapes and units: ``value`` is a number, or None exactly when ``source`` is ``unavailable``;
    ``layer`` is empty for the whole model. ``phase`` is one of ``PHASES`` in a run, of the user's own naming elsewhere.

    Raises:
        ValueError: when a value is missing without saying so, or present while said to be unavailable.
    """

    phase: str
    metric: str
    value: float | int | None
    unit: str
    source: Source = "measured"
    layer: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) != (self.source == "unavailable"):
            raise ValueError(f"{self.phase}.{self.metric}: value {self.value!r} does not fit source {self.source!r}")


def measured(phase: str, metric: str, value: float | int | None, unit: str) -> Measurement:
    """Return what was measured, or, if there is no value, the row that says so."""
    return Measurement(phase, metric, value, unit, "unavailable" if value is None else "measured")


def csv_rows(identity: Sequence[object], measurements: Iterable[Measurement], header: bool = False) -> str:
    """Return rows of results.csv, columns as in ``COLUMNS``; ``identity`` fills those before phase."""
    rows = [[*identity, m.phase, m.layer, m.metric, m.value, m.unit, m.source] for m in measurements]
    return "".join(_csv_row(cells) for cells in ([COLUMNS] if header else []) + rows)


def _csv_row(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # cells with either character are quoted
    return text.getvalue().removesuffix("\r\n") + "\n"
