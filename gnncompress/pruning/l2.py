"""L2 regularization: training that keeps weights small, so that magnitude pruning may remove them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from gnncompress.compression import CompressionMethod, CompressionResult, Start, option
from gnncompress.measurements import Measurement
from gnncompress.pruning.magnitude import GlobalPruning, unprunable_after

if TYPE_CHECKING:
    from torch import nn

    from gnncompress.tasks.recipe import Recipe
    from gnncompress.tasks.trainer import Trainer


@dataclass(frozen=True)
class L2Regularization(CompressionMethod):
    """Train from the start with (rate / 2) |w|^2 of every parameter in the loss; then, if asked, prune by magnitude.

    The penalty takes the place of the recipe's own weight decay and acts through the gradient of Adam, also where
    the recipe decouples it (AdamW). At sparsity 0 the method trains a fresh model; above, it starts from that model
    and prunes it under one threshold, with the penalty in fine-tuning, too. With a recipe for fine-tuning and sparsity
    0 it trains that model on, the control of the pruned ones. A training that diverges ends there, with
    the best model so far, and a row that says so.

    Raises:
        ParameterError: if the rate is negative or not finite.

    Source: arXiv 2510.22058, section 2.4 (regularization) and table 17.
    """

    name: ClassVar[str] = "l2"
    summary: ClassVar[str] = "training under an L2 penalty of a given rate, alone or followed by global pruning"
    citation: ClassVar[str] = "arXiv 2510.22058, section 2.4 and table 17"

    rate: float = option(least=0, several=True, help="L2 rates: 1e-3, 0,1e-4,0.1, 0.1:0.9:0.1, or paper for its 19.")
    sparsity: float = option(
        0.0, least=0, below=1, several=True, letter="-s", help="Fraction of zeros among prunable weights."
    )

    def starts_from(self) -> Start | CompressionMethod:
        """Return a fresh model, or for pruning the model that was trained under the penalty."""
        return replace(self, sparsity=0.0) if self.sparsity > 0 else "fresh"

    def finetuning(self, recipe: Recipe) -> Recipe | None:
        """Return how the pruned model is trained on."""
        return recipe.halved if self.sparsity > 0 else None

    def refusal(self, earlier: Sequence[CompressionMethod]) -> str:
        """Say why there cannot be a training from the start."""
        if any(not isinstance(method, L2Regularization) for method in earlier):
            return "it trains a fresh model, so nothing can come before it; make it the first"
        return unprunable_after(earlier)

    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        """Train ``model`` under the penalty, or train it on, or prune and fine-tune it if there is a sparsity."""
        from gnncompress.masks import sparsity_measurements

        trainer = replace(
            trainer,
            recipe=self.penalized(trainer.recipe),
            finetune_recipe=trainer.finetune_recipe and self.penalized(trainer.finetune_recipe),
            may_diverge=True,
        )
        if self.sparsity > 0:
            pruned = GlobalPruning(sparsity=self.sparsity).apply(model, trainer)
            pruned.warnings += _warnings(pruned.measurements)
            return pruned
        measurements = trainer.train(model) if trainer.finetune_recipe is None else trainer.finetune(model)
        return CompressionResult(model, [*measurements, *sparsity_measurements(model)], _warnings(measurements))

    def penalized(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the penalty in place of its weight decay."""
        return replace(recipe, optimizer="adam", weight_decay=self.rate)


def _warnings(measurements: list[Measurement]) -> list[str]:
    if any(row.metric == "diverged" and row.value for row in measurements):
        return ["the training diverged; the best model before that is kept"]
    return []
