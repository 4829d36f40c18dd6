"""How many weights each layer keeps: budgets, and the floor that no layer falls below."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gnncompress.errors import PruningError
from gnncompress.pruning.selection import keep_mask


def floors(sizes: Mapping[str, int], min_keep: float) -> dict[str, int]:
    """Return the fewest weights that each layer keeps: ceil(min_keep n)."""
    return {layer: math.ceil(min_keep * size - 1e-9) for layer, size in sizes.items()}


def ranked(scores: Mapping[str, Tensor], sparsity: float, min_keep: float = 0.0) -> dict[str, Tensor]:
    """Remove the weights of smallest score in the whole model, except the best ones that each layer keeps anyway.

    Of n weights exactly round(sparsity n) go; ties go in the order in which they stand in the model.

    Raises:
        PruningError: if the floor leaves too few to remove.
    """
    sizes = {layer: score.numel() for layer, score in scores.items()}
    protected = floors(sizes, min_keep)
    total = sum(sizes.values())
    remove = round(sparsity * total)
    _possible(total - remove, protected, sparsity, min_keep)
    device = next(iter(scores.values())).device
    parts = []
    for layer, score in scores.items():
        flat = score.flatten().to(device)
        if protected[layer]:
            flat = flat.masked_fill(keep_mask(flat, sizes[layer] - protected[layer]), math.inf)
        parts.append(flat)
    keep = keep_mask(torch.cat(parts), remove).split(list(sizes.values()))
    return {
        layer: part.view_as(score).to(score.device) for (layer, score), part in zip(scores.items(), keep, strict=True)
    }


def counted(scores: Mapping[str, Tensor], kept: Mapping[str, int]) -> dict[str, Tensor]:
    """Keep the ``kept`` weights of highest score in each layer."""
    return {
        layer: keep_mask(score.flatten(), score.numel() - kept[layer]).view_as(score) for layer, score in scores.items()
    }


def uniform(sizes: Mapping[str, int], sparsity: float, min_keep: float = 0.0) -> dict[str, int]:
    """Return how many weights each layer keeps if all get the same sparsity: n - round(sparsity n).

    Raises:
        PruningError: if that is below a layer's floor.
    """
    kept = {layer: size - round(sparsity * size) for layer, size in sizes.items()}
    _above(kept, floors(sizes, min_keep), min_keep)
    return kept


def erk(shapes: Mapping[str, torch.Size], sparsity: float, min_keep: float = 0.0) -> dict[str, int]:
    """Return how many weights each layer keeps by Erdos-Renyi-Kernel budgets: density_l = e sum(shape) / prod(shape).

    Layers whose density would pass 1 stay dense, those that would fall below the floor stay at it, and e makes the
    rest add up: exactly n - round(sparsity n) weights stay.

    Raises:
        PruningError: if the floors alone are more.

    Source: Evci et al., Rigging the Lottery, ICML 2020, section 3; Mocanu et al., Nature Communications 2018.
    """
    sizes = {layer: shape.numel() for layer, shape in shapes.items()}
    lowest = floors(sizes, min_keep)
    total = sum(sizes.values())
    wanted = total - round(sparsity * total)
    _possible(wanted, lowest, sparsity, min_keep)
    per_scale = np.array([float(sum(shape)) for shape in shapes.values()])
    least, most = np.array(list(lowest.values()), float), np.array(list(sizes.values()), float)

    def kept(scale: float) -> np.ndarray:
        result: np.ndarray = np.clip(scale * per_scale, least, most)
        return result

    low, high = 0.0, float((most / np.maximum(per_scale, 1)).max()) + 1
    for _ in range(200):  # the sum grows with the scale; halving the interval finds it to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle).sum() < wanted else (low, middle)
    return dict(zip(sizes, _rounded(kept(high), wanted, least, most), strict=True))


def layer_adaptive(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the layer-adaptive magnitude score of every weight: s^2 / (sum of all s'^2 in its layer not below s^2).

    Ranked over all layers it keeps the model's distortion small; the largest weight of a layer scores 1. Of equal
    weights the earlier one has the longer sum.

    Source: Lee et al., Layer-Adaptive Sparsity for the Magnitude-Based Pruning (LAMP), ICLR 2021, equation 4.
    """
    return {layer: _adapted(score) for layer, score in scores.items()}


def _adapted(score: Tensor) -> Tensor:
    squares = score.double().flatten().clamp(min=0).square()
    order = squares.argsort(stable=True)
    remaining = squares[order].flip(0).cumsum(0).flip(0)
    adapted = torch.zeros_like(squares)
    adapted[order] = torch.where(remaining > 0, squares[order] / remaining, 0.0)
    return adapted.view_as(score)


def given(
    sizes: Mapping[str, int], layers: Mapping[str, float], sparsity: float, min_keep: float = 0.0
) -> dict[str, int]:
    """Return how many weights each layer keeps by the sparsities in ``layers``; a layer without one stays dense.

    Raises:
        PruningError: if a layer is unknown, the floor is not met, or the layers do not add up to ``sparsity``.
    """
    unknown = [layer for layer in layers if layer not in sizes]
    if unknown:
        raise PruningError(f"allocation: the model has no layer {unknown[0]}; it has {', '.join(sizes)}")
    kept = {layer: size - round(layers.get(layer, 0.0) * size) for layer, size in sizes.items()}
    _above(kept, floors(sizes, min_keep), min_keep)
    total = sum(sizes.values())
    removed = total - sum(kept.values())
    if abs(removed - sparsity * total) > len(sizes):
        raise PruningError(
            f"allocation: its layers remove {removed / total:.4f} of the weights, not the {sparsity:g} asked for; "
            "mend the budgets or the sparsity"
        )
    return kept


def _rounded(exact: np.ndarray, total: int, least: np.ndarray, most: np.ndarray) -> list[int]:
    """Round to whole numbers that sum to ``total``: down, then up by one where most was lost."""
    whole = np.clip(np.floor(exact + 1e-9), least, most)
    room = np.where(whole < most, exact - whole, -1.0)
    for index in np.argsort(-room, kind="stable")[: int(total - whole.sum())]:
        whole[index] += 1
    return [int(count) for count in whole]


def _possible(wanted: int, lowest: Mapping[str, int], sparsity: float, min_keep: float) -> None:
    if wanted < sum(lowest.values()):
        raise PruningError(
            f"sparsity {sparsity:g} would leave {wanted:,} weights, but --min-keep {min_keep:g} keeps "
            f"{sum(lowest.values()):,}; lower one of the two"
        )


def _above(kept: Mapping[str, int], lowest: Mapping[str, int], min_keep: float) -> None:
    for layer, count in kept.items():
        if count < lowest[layer]:
            raise PruningError(
                f"layer {layer}: {count} weights would stay, but --min-keep {min_keep:g} keeps {lowest[layer]}; "
                "lower the sparsity or --min-keep"
            )
