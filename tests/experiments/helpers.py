"""Runs as tests ask for them: in a line."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from gnncompress.experiments.api import methods_asked
from gnncompress.experiments.resolve import FinetuneChoices, MeasureChoices, WorkloadChoices, resolve
from gnncompress.experiments.stages import Chain, Compress, TrainOn
from gnncompress.tasks.recipe import Recipe


def asked(
    dataset: str | None = None,
    model: str | None = None,
    method: str | None = "none",
    sparsity: float | None = None,
    seed: int = 0,
    **options: Any,
) -> Chain:
    """Return a run; ``options`` are those of the workload, of fine-tuning, of measuring and of the method."""

    def taken(kind: type) -> Any:
        names = {one.name for one in fields(kind)}
        return kind(**{name: options.pop(name) for name in list(options) if name in names})

    choices, finetuning, measuring = taken(WorkloadChoices), taken(FinetuneChoices), taken(MeasureChoices)
    allocation = options.pop("allocation", None)
    given = options if sparsity is None else {"sparsity": sparsity, **options}
    methods = methods_asked(method, allocation, given)
    return resolve(replace(choices, dataset=dataset, model=model), seed, methods, finetuning, measuring)


def finetune_of(chain: Chain) -> Recipe | None:
    """Return the recipe by which a run's model was trained on last."""
    last = chain.model.last
    return last.finetune if isinstance(last, (Compress, TrainOn)) else None
