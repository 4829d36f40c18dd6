"""Workloads: a data set, a model and the recipes that train and fine-tune it, in one readable place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gnncompress.datasets import DATASETS
from gnncompress.models import MODELS
from gnncompress.tasks.recipe import Recipe


@dataclass(frozen=True)
class Workload:
    """A data set and a model, with what its recipe changes of the model's own arguments."""

    name: str
    dataset: str
    model: str
    recipe: Recipe
    finetune: Recipe
    arguments: Mapping[str, int | float] = field(default_factory=dict)


_GCN = Recipe(epochs=200, learning_rate=0.01, weight_decay=5e-4, patience=100)
# The recipe of PyG's Cora example, with the model chosen on validation instead of taken last.
_SPLINE = Recipe(epochs=200, learning_rate=0.01, weight_decay=5e-3, patience=100)

WORKLOADS = (
    Workload("digits", "digits", "gcn", _GCN, replace(_GCN, epochs=100), {"hidden": 64}),
    Workload("cora-node", "cora", "spline", _SPLINE, replace(_SPLINE, epochs=100)),
)
_RECIPES = {"gcn": _GCN, "spline": _SPLINE}


def workload(dataset: str, model: str | None = None) -> Workload:
    """Return the workload of ``dataset`` and ``model``, or one built from their defaults.

    Without a model, it is that of the data set's first workload.

    Raises:
        UsageError: if the data set or the model is unknown.
    """
    DATASETS[dataset]
    for known in WORKLOADS:
        if known.dataset == dataset and model in (None, known.model):
            return known
    name = MODELS[model or "gcn"].name
    recipe = _RECIPES.get(name, _GCN)
    return Workload(f"{dataset}-{name}", dataset, name, recipe, replace(recipe, epochs=100))
