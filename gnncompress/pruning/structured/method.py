"""Structured pruning as a method of an experiment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from gnncompress.compression import CompressionMethod, CompressionResult, option
from gnncompress.measurements import Measurement
from gnncompress.pruning.magnitude import unprunable_after

if TYPE_CHECKING:
    from torch import nn

    from gnncompress.tasks.base import Task
    from gnncompress.tasks.recipe import Recipe
    from gnncompress.tasks.trainer import Trainer

Importance = Literal["l1", "l2", "taylor", "random"]


@dataclass(frozen=True)
class StructuredPruning(CompressionMethod):
    """Take whole channels out of a model, the least important of each set of layers that share channels.

    ``sparsity`` is the fraction of all the model's parameters that go: channels go until the number of parameters is
    as near as it gets. Each set keeps one channel at least. What else works on the channels of a set than products
    (messages, normalizations, activations) takes time without having parameters, so that a set which p of them work
    on keeps the part k^p of its channels, with one k for the whole model and p at most 8. Channels go in blocks of 8,
    which kernels like, but for the last set, which meets the number of parameters.

    The importance of a channel is summed over all its slices in all layers: l1 sum |w|, l2 (sum w^2)^(1/2), taylor
    sum |g w| with g the gradient of the mean training loss, random the control. It ranks within a set only.

    Raises:
        ParameterError: if the sparsity is outside [0, 1).

    Source: Fang et al., DepGraph, CVPR 2023 (groups and group importance); Li et al., ICLR 2017 (l1); Molchanov et
    al., CVPR 2019 (taylor).
    """

    name: ClassVar[str] = "structured"
    summary: ClassVar[str] = "whole channels go, by Torch-Pruning's dependency graph; sparsity counts all parameters"
    citation: ClassVar[str] = "Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023"
    reshapes: ClassVar[bool] = True

    sparsity: float = option(
        0.5, least=0, below=1, several=True, letter="-s", help="Fraction of the parameters that are removed."
    )
    importance: Importance = option("l2", help="What a channel is ranked by.")

    def does_nothing(self) -> bool:
        """Say whether no channel is to go."""
        return self.sparsity == 0

    def finetuning(self, recipe: Recipe) -> Recipe | None:
        """Return that the smaller model is trained on as long as training was."""
        return recipe

    def refusal(self, earlier: Sequence[CompressionMethod]) -> str:
        """Say why channels cannot be removed any more."""
        return unprunable_after(earlier)

    def check(self, model: nn.Module, task: Task) -> None:
        """Refuse a model of which no channels can be removed."""
        from gnncompress.pruning.plan import channel_plan

        channel_plan(model, task.example, task.free_outputs)

    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        """Shrink ``model`` in place and fine-tune it if that is wanted.

        Raises:
            PruningError: as ``shrink`` does.
        """
        from gnncompress.masks import sparsity_measurements
        from gnncompress.pruning.structured.channels import OUTPUT
        from gnncompress.pruning.structured.shrinking import shrink

        dense = sum(parameter.numel() for parameter in model.parameters())
        started = time.perf_counter()
        task = trainer.task
        channels, removed = shrink(
            model, task.example, self.sparsity, self.importance, task.free_outputs, trainer.losses, trainer.seed
        )
        spent = Measurement("compress", "duration", time.perf_counter() - started, "s")
        left = sum(parameter.numel() for parameter in model.parameters())
        rows = [spent, Measurement("compress", "parameters_removed", 1 - left / dense, "fraction", "computed")]
        for number, layers in enumerate(channels.layers):
            gone = removed[channels.group == number]
            rows += [
                Measurement("compress", "channels_kept", 1 - gone.mean(), "fraction", "computed", layer)
                for layer in layers
            ]
        rows += trainer.finetune(model)
        unknown = [f"{layer} ({reason})" for layer, reason in channels.whole.items() if reason != OUTPUT]
        warnings = [f"kept whole: {', '.join(unknown)}"] if unknown else []
        return CompressionResult(model, [*rows, *sparsity_measurements(model)], warnings)
