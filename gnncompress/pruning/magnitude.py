"""Magnitude pruning, with one threshold for the model or one for each layer."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnncompress.errors import PruningError, UsageError
from gnncompress.measurements import Compressed, Measurement
from gnncompress.pruning.masks import (
    collapsed_layers,
    effective_weights,
    hold,
    make_permanent,
    sparsity_measurements,
)
from gnncompress.pruning.selection import keep_mask

Finetune = Callable[[nn.Module], list[Measurement]]


@dataclass(frozen=True)
class MagnitudePruning(ABC):
    """What both methods share: ``sparsity`` is the fraction of zeros among prunable weights, in [0, 1).

    Raises:
        UsageError: if the sparsity is outside [0, 1).
    """

    sparsity: float

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise UsageError(f"sparsity {self.sparsity}: must be at least 0 and below 1")

    def masks(self, model: nn.Module) -> dict[str, Tensor]:
        """Return one mask a prunable layer, True where the weight stays."""
        magnitudes = {layer: _magnitude(layer, weight) for layer, weight in effective_weights(model).items()}
        if not magnitudes:
            raise PruningError(
                f"{type(model).__name__} has nothing to prune: no floating weight of two or more dimensions "
                "outside a normalization layer"
            )
        return self.choose(magnitudes)

    @abstractmethod
    def choose(self, magnitudes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Turn magnitudes by layer into masks by layer."""

    def apply(self, model: nn.Module, finetune: Finetune | None = None) -> Compressed:
        """Prune ``model`` in place, fine-tune it under its masks if asked, and make the masks permanent.

        Raises:
            PruningError: if nothing in the model can be pruned or a weight is NaN.
        """
        started = time.perf_counter()
        hold(model, self.masks(model))
        measurements = [Measurement("compress", "duration", time.perf_counter() - started, "s")]
        if finetune:
            measurements += finetune(model)
        make_permanent(model)
        collapsed = collapsed_layers(model)
        warnings = [f"every weight of {', '.join(collapsed)} is zero (layer collapse)"] if collapsed else []
        return Compressed(model, [*measurements, *sparsity_measurements(model)], warnings)


class GlobalPruning(MagnitudePruning):
    """Remove the weights of smallest |w| in the whole model, under one threshold.

    Of n prunable weights exactly round(sparsity * n) are set to +0.0; ties go in the order in which the weights
    stand in the model. Layers may end with very different sparsities, even empty.

    Source: arXiv 2510.22058, section 2.4 (global unstructured pruning); Han et al., NeurIPS 2015.
    """

    def choose(self, magnitudes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of one threshold over all layers."""
        sizes = [magnitude.numel() for magnitude in magnitudes.values()]
        device = next(iter(magnitudes.values())).device
        scores = torch.cat([magnitude.flatten().to(device) for magnitude in magnitudes.values()])
        keep = keep_mask(scores, round(self.sparsity * scores.numel()))
        return {
            layer: part.view_as(magnitude).to(magnitude.device)
            for (layer, magnitude), part in zip(magnitudes.items(), keep.split(sizes), strict=True)
        }


class FineGrainedPruning(MagnitudePruning):
    """Remove the weights of smallest |w| within each layer, every layer to the same sparsity.

    Of a layer's n weights exactly round(sparsity * n) are set to +0.0; ties go in the order in which they stand.

    Source: arXiv 2510.22058, section 2.4 (fine-grained, layer-wise magnitude pruning).
    """

    def choose(self, magnitudes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of one threshold a layer."""
        return {
            layer: keep_mask(magnitude.flatten(), round(self.sparsity * magnitude.numel())).view_as(magnitude)
            for layer, magnitude in magnitudes.items()
        }


def _magnitude(layer: str, weight: Tensor) -> Tensor:
    """Return |weight| in float32, or float64 for a float64 weight: the conversion from half floats is exact."""
    magnitude = weight.detach().abs()
    if magnitude.dtype != torch.float64:
        magnitude = magnitude.float()
    if math.isnan(magnitude.sum().item()):
        raise PruningError(f"layer {layer}: some weights are NaN; prune a model that was trained soundly")
    return magnitude
