"""L2 regularization: training that keeps weights small, so that magnitude pruning may remove them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import nn

from gnncompress.errors import UsageError
from gnncompress.masks import sparsity_measurements
from gnncompress.measurements import Compressed, Measurement
from gnncompress.pruning.magnitude import GlobalPruning
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.trainer import Trainer


@dataclass(frozen=True)
class L2Regularization:
    """Train from the start with (rate / 2) |w|^2 of every parameter in the loss; then, if asked, prune by magnitude.

    The penalty takes the place of the recipe's own weight decay and acts through the gradient of Adam, also where
    the recipe decouples it (AdamW). At sparsity 0 the method trains a fresh model; above, it starts from that model
    and prunes it under one threshold, with the penalty in fine-tuning, too. With a recipe for fine-tuning and sparsity
    0 it trains that model on, the control of the pruned ones. A training that diverges ends there, with
    the best model so far, and a row that says so.

    Raises:
        UsageError: if the rate is negative or not finite.

    Source: arXiv 2510.22058, section 2.4 (regularization) and table 17.
    """

    sparsity: float
    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < math.inf:
            raise UsageError(f"rate {self.rate}: must be a finite number, at least 0")

    def apply(self, model: nn.Module, trainer: Trainer) -> Compressed:
        """Train ``model`` under the penalty, or train it on, or prune and fine-tune it if there is a sparsity."""
        trainer = replace(
            trainer,
            recipe=self._penalized(trainer.recipe),
            finetune_recipe=trainer.finetune_recipe and self._penalized(trainer.finetune_recipe),
            may_diverge=True,
        )
        if self.sparsity > 0:
            pruned = GlobalPruning(self.sparsity).apply(model, trainer)
            pruned.warnings += _warnings(pruned.measurements)
            return pruned
        measurements = trainer.train(model) if trainer.finetune_recipe is None else trainer.finetune(model)
        return Compressed(model, [*measurements, *sparsity_measurements(model)], _warnings(measurements))

    def _penalized(self, recipe: Recipe) -> Recipe:
        return replace(recipe, optimizer="adam", weight_decay=self.rate)


def _warnings(measurements: list[Measurement]) -> list[str]:
    if any(row.metric == "diverged" and row.value for row in measurements):
        return ["the training diverged; the best model before that is kept"]
    return []
