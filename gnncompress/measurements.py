"""The shape of every number: what a method or a profiler measures, and the columns of results.csv."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import nn

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
# The figure a task is judged by: tables and comparisons read it from here.
PRIMARY_METRIC = {NODES: "accuracy", LINKS: "roc_auc", GRAPHS: "accuracy", MULTILABEL: "roc_auc"}


@dataclass(frozen=True)
class Measurement:
    """One observation: ``value`` in ``unit``, and where it came from.

    Shapes and units: ``value`` is a number, or None exactly when ``source`` is ``unavailable``;
    ``layer`` is empty for the whole model.

    Raises:
        ValueError: when a value is missing without saying so, or present while said to be unavailable.
    """

    phase: Phase
    metric: str
    value: float | int | None
    unit: str
    source: Source = "measured"
    layer: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) != (self.source == "unavailable"):
            raise ValueError(f"{self.phase}.{self.metric}: value {self.value!r} does not fit source {self.source!r}")


@dataclass
class Compressed:
    """What a method returns: the compressed model, what it measured, and what the user must be told."""

    model: nn.Module
    measurements: list[Measurement] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
