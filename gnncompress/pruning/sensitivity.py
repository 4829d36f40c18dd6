"""How much each layer minds being pruned: one layer at a time, nothing fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gnncompress.compression import CompressionMethod, CompressionResult, option
from gnncompress.errors import UsageError
from gnncompress.measurements import Measurement
from gnncompress.pruning.magnitude import Importance, unprunable_after

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from gnncompress.pruning.importance import Losses
    from gnncompress.tasks.base import Task
    from gnncompress.tasks.recipe import Recipe
    from gnncompress.tasks.trainer import Trainer


@dataclass(frozen=True)
class LayerSensitivity(CompressionMethod):
    """Prune each layer alone to ``sparsity`` and validate the model; the model itself stays as it is.

    A row a layer for the validation score and the validation loss, one each for the whole model unpruned; allocations
    are chosen by these, never by test items. Rows of the evaluate phase, validation_score (fraction), validation_loss
    (nats), weights (count).

    Raises:
        ParameterError: if the sparsity is outside [0, 1).

    Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, section 3.2 (one layer at a time).
    """

    name: ClassVar[str] = "sensitivity"
    summary: ClassVar[str] = "each layer pruned alone, the model unchanged; 'gnncompress sensitivity' runs all levels"
    citation: ClassVar[str] = "Li et al., ICLR 2017, section 3.2"
    command: ClassVar[str] = "sensitivity"
    analyzes: ClassVar[bool] = True

    sparsity: float = option(
        0.5, least=0, below=1, several=True, letter="-s", help="Levels at which each layer is pruned alone."
    )
    importance: Importance = option("magnitude", help="What a weight is ranked by.")

    def finetuning(self, recipe: Recipe) -> Recipe | None:
        """Return that nothing is trained on."""
        return None

    def refusal(self, earlier: Sequence[CompressionMethod]) -> str:
        """Say why layers cannot be pruned any more."""
        return unprunable_after(earlier)

    def check(self, model: nn.Module, task: Task) -> None:
        """Refuse a model with weights that cannot be pruned."""
        from gnncompress.pruning.obstacles import insist_on_prunable

        insist_on_prunable(model)

    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        """Return the model unchanged, with the rows."""
        from gnncompress.masks import sparsity_measurements

        rows = _validated(model, trainer)
        for layer, size in pruned_alone(model, self.sparsity, self.importance, trainer.losses, trainer.seed):
            rows += _validated(model, trainer, layer)
            rows.append(Measurement("evaluate", "weights", size, "parameters", "computed", layer))
        return CompressionResult(model, [*rows, *sparsity_measurements(model)])


def pruned_alone(
    model: nn.Module, sparsity: float, importance: Importance, losses: Losses | None = None, seed: int = 0
) -> Iterator[tuple[str, int]]:
    """Yield each prunable layer's name and size while it alone is pruned; afterwards the model is as it was."""
    import torch

    from gnncompress.masks import effective_weights, insist_on_zeros, prunable_parameters
    from gnncompress.pruning.allocation import counted, uniform
    from gnncompress.pruning.importance import weight_scores

    scores = weight_scores(model, importance, losses, seed)
    masks = counted(scores, uniform({layer: score.numel() for layer, score in scores.items()}, sparsity))
    for layer, mask in masks.items():
        parameter, weights = prunable_parameters(model)[layer], effective_weights(model)
        before = parameter.detach().clone()
        try:
            with torch.no_grad():
                parameter.masked_fill_(~mask, 0.0)
            insist_on_zeros(effective_weights(model), {layer: int(((weights[layer] == 0) | ~mask).sum())})
            yield layer, mask.numel()
        finally:
            with torch.no_grad():
                parameter.copy_(before)


def sensitivity(
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor | float],
    sparsities: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99),
    importance: Importance = "magnitude",
) -> pd.DataFrame:
    """Return by how much the loss of a model in memory rises when each layer alone is pruned; the model stays.

    ``loss(model)`` returns a validation loss. Columns: layer, weights, sparsity, loss_rise: what
    ``gnncompress.recommend`` turns into budgets.

    Raises:
        UsageError: if a sparsity is outside [0, 1), or ``importance`` is neither magnitude nor random.
        PruningError: if there is nothing to prune.
    """
    import pandas as pd
    import torch

    from gnncompress.global_state import random_state_kept

    if importance not in ("magnitude", "random"):
        raise UsageError(f"importance {importance}: a model in memory is ranked by magnitude or random here")
    with random_state_kept(), torch.no_grad():
        whole = float(loss(model))
        lines = [
            {"layer": layer, "weights": size, "sparsity": level, "loss_rise": float(loss(model)) - whole}
            for level in sparsities
            for layer, size in pruned_alone(model, LayerSensitivity(sparsity=level).sparsity, importance)
        ]
    return pd.DataFrame(lines)


def _validated(model: nn.Module, trainer: Trainer, layer: str = "") -> list[Measurement]:
    score, loss = trainer.task.validate(model)
    return [
        Measurement("evaluate", "validation_score", score, "fraction", "measured", layer),
        Measurement("evaluate", "validation_loss", loss, "nats", "measured", layer),
    ]
