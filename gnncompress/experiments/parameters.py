"""How many parameters each workload's model has, by building it."""

from __future__ import annotations

from gnncompress.datasets import DATASETS
from gnncompress.experiments.workloads import WORKLOADS
from gnncompress.models import build_model, find_model


def parameter_counts() -> dict[str, int]:
    """Return the number of parameters of every workload's model, from the data sets' published widths."""
    counts = {}
    for name, workload in WORKLOADS.items():
        statistics = DATASETS[workload.dataset].statistics
        arguments = {**find_model(workload.model).arguments(workload.task), **workload.arguments}
        model = build_model(workload.model, statistics["features"], statistics["classes"], arguments)
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    return counts
