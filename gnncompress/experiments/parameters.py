"""How many parameters each model has on each data set, by building it."""

from __future__ import annotations

from gnncompress.datasets import DATASETS
from gnncompress.experiments.workloads import workload
from gnncompress.models import MODELS, build_model


def parameter_counts() -> dict[str, dict[str, int]]:
    """Return the number of parameters by model and data set, with the arguments of their workload."""
    counts: dict[str, dict[str, int]] = {}
    for model in MODELS:
        for dataset in DATASETS:
            arguments = {**model.arguments, **workload(dataset.name, model.name).arguments}
            built = build_model(model.name, dataset.features, dataset.classes, arguments)
            count = sum(parameter.numel() for parameter in built.parameters())
            counts.setdefault(model.name, {})[dataset.name] = count
    return counts
