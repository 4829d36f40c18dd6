"""How much each layer minds being pruned: one layer at a time, nothing fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from gnncompress.errors import UsageError
from gnncompress.measurements import Compressed, Measurement
from gnncompress.pruning.allocation import counted, uniform
from gnncompress.pruning.importance import Importance, weight_scores
from gnncompress.pruning.masks import hold, make_permanent, prunable_parameters, sparsity_measurements
from gnncompress.tasks.trainer import Trainer


@dataclass(frozen=True)
class LayerSensitivity:
    """Prune each layer alone to ``sparsity`` and validate the model; the model itself stays as it is.

    A row a layer for the validation score and the validation loss, one each for the whole model unpruned; allocations
    are chosen by these, never by test items. Rows of the evaluate phase, validation_score (fraction), validation_loss
    (nats), weights (count).

    Raises:
        UsageError: if the sparsity is outside [0, 1).

    Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, section 3.2 (one layer at a time).
    """

    sparsity: float
    importance: Importance = "magnitude"

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise UsageError(f"sparsity {self.sparsity}: must be at least 0 and below 1")

    def apply(self, model: nn.Module, trainer: Trainer) -> Compressed:
        """Return the model unchanged, with the rows."""
        scores = weight_scores(model, self.importance, trainer.losses, trainer.seed)
        masks = counted(scores, uniform({layer: score.numel() for layer, score in scores.items()}, self.sparsity))
        rows = _validated(model, trainer)
        for layer, mask in masks.items():
            dense = prunable_parameters(model)[layer].detach().clone()
            hold(model, {layer: mask})
            rows += _validated(model, trainer, layer)
            rows.append(Measurement("evaluate", "weights", mask.numel(), "parameters", "computed", layer))
            prunable_parameters(make_permanent(model))[layer].data.copy_(dense)
        return Compressed(model, [*rows, *sparsity_measurements(model)])


def _validated(model: nn.Module, trainer: Trainer, layer: str = "") -> list[Measurement]:
    score, loss = trainer.task.validate(model)
    return [
        Measurement("evaluate", "validation_score", score, "fraction", "measured", layer),
        Measurement("evaluate", "validation_loss", loss, "nats", "measured", layer),
    ]
