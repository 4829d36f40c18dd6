"""Unstructured pruning: single weights go, by a score, under one threshold or by a budget for each layer."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from gnncompress.compression import CompressionMethod, CompressionResult, option
from gnncompress.errors import PruningError
from gnncompress.measurements import Measurement
from gnncompress.schedules import cubic

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gnncompress.pruning.importance import Losses
    from gnncompress.tasks.base import Task
    from gnncompress.tasks.trainer import Trainer

Importance = Literal["magnitude", "gradient", "taylor", "random"]
Allocation = Literal["uniform", "erk", "lamp-score", "given"]


@dataclass(frozen=True)
class MagnitudePruning(CompressionMethod):
    """What both methods share: ``sparsity`` is the fraction of zeros among prunable weights, in [0, 1).

    ``importance`` scores the weights, ``min_keep`` is the fraction of its weights that every layer keeps at least.
    With ``steps`` n > 1 the model is pruned and fine-tuned n times, at sparsities s (1 - (1 - t/n)^3), t = 1..n; the
    epochs of fine-tuning are shared out evenly.

    Raises:
        ParameterError: if the sparsity or ``min_keep`` is outside [0, 1), or there is no step.

    Source: Zhu and Gupta, To Prune or Not to Prune, 2017, equation 1 (the cubic schedule).
    """

    sparsity: float = option(
        0.5, least=0, below=1, several=True, letter="-s", help="Fraction of zeros among prunable weights."
    )
    importance: Importance = option("magnitude", help="What a weight is ranked by.")
    min_keep: float = option(0.0, least=0, below=1, help="Fraction of its weights that every layer keeps at least.")
    steps: int = option(1, least=1, help="Prune and fine-tune in so many steps, the sparsity rising by a cubic.")

    def does_nothing(self) -> bool:
        """Say whether no weight is to go."""
        return self.sparsity == 0

    def refusal(self, earlier: Sequence[CompressionMethod]) -> str:
        """Say why weights cannot be pruned any more."""
        return unprunable_after(earlier)

    def check(self, model: nn.Module, task: Task) -> None:
        """Refuse a model with weights that cannot be pruned."""
        from gnncompress.pruning.obstacles import insist_on_prunable

        insist_on_prunable(model)

    def masks(self, model: nn.Module, losses: Losses | None = None, seed: int = 0) -> dict[str, Tensor]:
        """Return one mask a prunable layer, True where the weight stays.

        Weights that are zero are the first to go. Where more are zero than go, the model stays as it is.

        Raises:
            PruningError: if nothing can be pruned, a weight cannot be, nothing would stay, or ``min_keep`` excludes the
                sparsity.
        """
        from gnncompress.masks import effective_weights
        from gnncompress.pruning.importance import weight_scores

        masks = self.choose(weight_scores(model, self.importance, losses, seed))
        total = sum(weight.numel() for weight in effective_weights(model).values())
        gone = sum(int((~mask).sum()) for mask in masks.values())
        if gone == total:
            raise PruningError(f"sparsity {self.sparsity:g} would leave none of the {total:,} weights; lower it")
        if abs(gone - self.sparsity * total) > len(masks):  # each layer may round by one weight
            raise PruningError(f"sparsity {self.sparsity:g} of {total:,} weights was asked for, but {gone:,} would go")
        return masks

    @abstractmethod
    def choose(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn scores by layer into masks by layer."""

    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        """Prune ``model`` in place, fine-tune it under its masks if that is wanted, and make the masks permanent.

        Raises:
            PruningError: as ``masks`` does.
        """
        from gnncompress.masks import (
            collapsed_layers,
            count_zeros,
            held,
            hold,
            insist_on_masks,
            make_permanent,
            sparsity_measurements,
        )

        measurements: list[Measurement] = []
        warnings = []
        spent = 0.0
        for level in self.levels():
            started = time.perf_counter()
            hold(model, level.masks(model, trainer.losses, trainer.seed))
            spent += time.perf_counter() - started
            zeros, total = (sum(numbers) for numbers in zip(*count_zeros(model).values(), strict=True))
            masks = held(model)
            measurements += trainer.finetune(model, 1 / self.steps)
        if zeros > self.sparsity * total + len(count_zeros(model)):
            warnings.append(
                f"sparsity {self.sparsity:g} was asked for, but {zeros / total:.4f} of the weights are zero: "
                "more of them, or of a layer's, were zero before"
            )
        insist_on_masks(make_permanent(model), masks)
        collapsed = collapsed_layers(model)
        if collapsed:
            warnings.append(
                f"every weight of {', '.join(collapsed)} is zero (layer collapse); --min-keep 0.01 would prevent it"
            )
        measurements = [Measurement("compress", "duration", spent, "s"), *in_total(measurements)]
        return CompressionResult(model, [*measurements, *sparsity_measurements(model)], warnings)

    def levels(self) -> list[MagnitudePruning]:
        """Return the pruning of each step."""
        return [self.scaled(cubic(step, self.steps)) for step in range(1, self.steps + 1)]

    def scaled(self, factor: float) -> MagnitudePruning:
        """Return the same with ``factor`` times the sparsity."""
        return replace(self, sparsity=self.sparsity * factor)


@dataclass(frozen=True)
class GlobalPruning(MagnitudePruning):
    """Remove the weights of smallest score in the whole model, under one threshold.

    Of n prunable weights exactly round(sparsity * n) are set to +0.0; ties go in the order in which the weights
    stand in the model. Layers may end with very different sparsities, even empty unless ``min_keep`` forbids it.

    Source: arXiv 2510.22058, section 2.4 (global unstructured pruning); Han et al., NeurIPS 2015.
    """

    name: ClassVar[str] = "global"
    summary: ClassVar[str] = "unstructured pruning under one threshold for the whole model"
    citation: ClassVar[str] = "Han et al., NeurIPS 2015; arXiv 2510.22058, section 2.4"

    def choose(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of one threshold over all layers."""
        from gnncompress.pruning.allocation import ranked

        return ranked(scores, self.sparsity, self.min_keep)


@dataclass(frozen=True)
class FineGrainedPruning(MagnitudePruning):
    """Remove the weights of smallest score within each layer, as many as the ``allocation`` says.

    uniform: of a layer's n weights exactly round(sparsity * n); erk: Erdos-Renyi-Kernel budgets; lamp-score: as the
    layer-adaptive score ranks them; given: the sparsities in ``layers``. Ties go in the order in which they stand.

    Source: arXiv 2510.22058, section 2.4 (fine-grained, layer-wise magnitude pruning); ``allocation`` for the others.
    """

    name: ClassVar[str] = "fine-grained"
    summary: ClassVar[str] = (
        "unstructured pruning by a budget for each layer: uniform, ERK, layer-adaptive score, or given"
    )
    citation: ClassVar[str] = "arXiv 2510.22058, section 2.4; Evci et al., ICML 2020; Lee et al., ICLR 2021"

    allocation: Allocation = option(
        "uniform", help="Who loses how much: uniform, erk, lamp-score, or a file of budgets by layer."
    )
    layers: Mapping[str, float] = option(
        default_factory=dict, least=0, below=1, hidden=True, help="The sparsity of each layer."
    )

    def check(self, model: nn.Module, task: Task) -> None:
        """Refuse a model with weights that cannot be pruned, and budgets of layers that it does not have."""
        from gnncompress.masks import prunable_parameters
        from gnncompress.pruning.allocation import given

        super().check(model, task)
        if self.allocation == "given":
            sizes = {layer: weight.numel() for layer, weight in prunable_parameters(model).items()}
            given(sizes, self.layers, self.sparsity, self.min_keep)

    def scaled(self, factor: float) -> FineGrainedPruning:
        """Return the same with ``factor`` times the sparsity, that of each layer, too."""
        layers = {layer: factor * sparsity for layer, sparsity in self.layers.items()}
        return replace(self, sparsity=self.sparsity * factor, layers=layers)

    def choose(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of one threshold per layer."""
        from gnncompress.pruning.allocation import counted, erk, given, layer_adaptive, ranked, uniform

        if self.allocation == "lamp-score":
            return ranked(layer_adaptive(scores), self.sparsity, self.min_keep)
        sizes = {layer: score.numel() for layer, score in scores.items()}
        if self.allocation == "given":
            return counted(scores, given(sizes, self.layers, self.sparsity, self.min_keep))
        if self.allocation == "erk":
            shapes = {layer: score.shape for layer, score in scores.items()}
            return counted(scores, erk(shapes, self.sparsity, self.min_keep))
        return counted(scores, uniform(sizes, self.sparsity, self.min_keep))


def unprunable_after(earlier: Sequence[CompressionMethod]) -> str:
    """Say why nothing can be pruned after ``earlier`` methods, nothing if it can."""
    if any(method.command == "quantize" for method in earlier):
        return "codes cannot be pruned; prune first, then quantize: the zeros last"
    return ""


def in_total(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Add up the durations and epochs of several trainings of one phase; of other figures the last one counts."""
    total: dict[tuple[str, str], Measurement] = {}
    for new in measurements:
        old = total.get((new.phase, new.metric))
        if old is not None and new.metric in ("duration", "epochs"):
            new = replace(new, value=(old.value or 0) + (new.value or 0))
        total[new.phase, new.metric] = new
    return list(total.values())
