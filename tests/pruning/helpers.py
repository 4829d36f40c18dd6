"""A trainer for tests of methods, with no task behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from gnncompress.measurements import Measurement
from gnncompress.tasks.base import Task
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.trainer import Trainer

RECIPE = Recipe(epochs=10, learning_rate=0.01, weight_decay=5e-4, patience=10)


class Still(Trainer):
    """Fine-tunes by calling a function, or not at all."""

    tuning: Callable[..., list[Measurement]] | None = None

    def finetune(self, model: nn.Module, share: float = 1.0) -> list[Measurement]:
        if self.tuning is None:
            return []
        return self.tuning(model, share) if len(inspect.signature(self.tuning).parameters) == 2 else self.tuning(model)


def still(tuning: Callable[..., list[Measurement]] | None = None, task: Any = None) -> Trainer:
    """Return a trainer whose fine-tuning is ``tuning(model)`` or ``tuning(model, share)``."""
    trainer = Still(cast(Task, task), RECIPE, None, seed=0, fresh=lambda seed: nn.Identity())
    object.__setattr__(trainer, "tuning", tuning)
    return trainer
