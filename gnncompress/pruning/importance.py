"""How much a weight matters: the scores by which pruning ranks.

A gradient is that of the mean loss over the training batches, taken in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from gnncompress.errors import PruningError, UsageError
from gnncompress.masks import effective_weights, prunable_parameters
from gnncompress.pruning.obstacles import insist_on_prunable

Importance = Literal["magnitude", "gradient", "taylor", "random"]
Losses = Callable[[nn.Module], Iterable[Tensor]]


def weight_scores(
    model: nn.Module, importance: Importance, losses: Losses | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Return the importance of every prunable weight, by layer; a weight that is 0 scores -1: it goes first.

    magnitude |w|; gradient |g|; taylor |g w|, the first-order change of the loss when w goes; random, uniform in
    (0, 1], the control. g is the gradient of the mean of ``losses(model)``.

    Shapes: each score as its weight, float32, or float64 for a float64 weight; finite.

    Raises:
        PruningError: if there is nothing to prune, a weight cannot be pruned, or a gradient is not finite; the layer is
            named.
        UsageError: if a gradient is wanted and there are no losses.

    Source: Han et al., NeurIPS 2015 (magnitude); Molchanov et al., ICLR 2017, equation 7, for single weights (taylor).
    """
    insist_on_prunable(model)
    weights = effective_weights(model)
    if importance == "magnitude":
        scores = {layer: weight.abs() for layer, weight in weights.items()}
    elif importance == "random":
        scores = _random(weights, seed)
    else:
        gradients = mean_gradients(model, prunable_parameters(model), losses)
        scores = {
            layer: (gradients[layer] * weight if importance == "taylor" else gradients[layer]).abs()
            for layer, weight in weights.items()
        }
    return {layer: _exact(layer, score).masked_fill(weights[layer] == 0, -1.0) for layer, score in scores.items()}


def mean_gradients(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], losses: Losses | None
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss by parameter; zero where the loss does not depend on one.

    Raises:
        UsageError: if there are no losses.
    """
    if losses is None:
        raise UsageError("this importance needs gradients: give loss=, a function of the model")
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    batches = 0
    for loss in losses(model):
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                total[name] += gradient
        batches += 1
    return {name: gradient / max(batches, 1) for name, gradient in total.items()}


def _random(weights: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        layer: 1 - torch.rand(weight.shape, generator=generator).to(weight.device) for layer, weight in weights.items()
    }


def _exact(layer: str, score: Tensor) -> Tensor:
    """Return a score in float32 or float64: the conversion from half floats is exact."""
    score = score.detach()
    if score.dtype != torch.float64:
        score = score.float()
    if not bool(score.isfinite().all()):
        raise PruningError(f"layer {layer}: some gradients are NaN or infinite; rank by another loss, or by magnitude")
    return score
