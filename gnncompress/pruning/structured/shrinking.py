"""Taking channels out of a model, and the proof that nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from gnncompress.errors import PruningError
from gnncompress.global_state import random_state_kept
from gnncompress.pruning.importance import Losses, mean_gradients
from gnncompress.pruning.obstacles import insist_on_finite, insist_on_no_masks
from gnncompress.pruning.structured.channels import Channels, find_channels
from gnncompress.pruning.structured.surgery import parameters_left, replace_tensors, shrunk_tensors, zeroed
from gnncompress.pruning.structured.tracing import Forward

# Channels that fill one vector register of most machines, in float32.
BLOCK = 8

# How far the smaller model's outputs may lie from the masked dense model's, of the largest output or of 1.
TOLERANCE = 1e-5


def shrink(
    model: nn.Module,
    forward: Forward,
    sparsity: float,
    importance: str,
    free_outputs: bool = False,
    losses: Losses | None = None,
    seed: int = 0,
) -> tuple[Channels, np.ndarray]:
    """Take channels out of ``model`` in place; return its channels before, and which of them went: [units].

    ``forward(model)`` calls the model once, on any data. In it the smaller model must return what the dense one
    returns with the same channels at zero, or the model is left as it was.

    Raises:
        PruningError: if nothing can be removed, not as much as asked, or the two models differ.
        UsageError: if taylor is wanted and there are no losses.
    """
    model.eval()
    insist_on_no_masks(model)
    insist_on_finite(model)
    channels = find_channels(model, forward, free_outputs)
    removed = choose(model, channels, sparsity, unit_importance(model, channels, importance, losses, seed))
    with torch.no_grad():
        with zeroed(model, channels, removed):
            masked = _called(forward, model, seed)
        expected = parameters_left(model, channels, removed)
        own = dict(model.named_parameters()) | dict(model.named_buffers())
        before = {name: own[name].detach().clone() for name, _ in channels.owner}
        try:
            replace_tensors(model, shrunk_tensors(model, channels, removed))
            _insist_equal(_called(forward, model, seed), masked, channels)
            _insist_gone(model, expected)
        except Exception as error:
            replace_tensors(model, before)
            if isinstance(error, PruningError):
                raise
            raise PruningError(
                f"the smaller model cannot be called ({type(error).__name__}: {' '.join(str(error).split())}): it "
                f"uses sizes or channels in a way that cannot be followed, between the layers {_named(channels)}"
            ) from error
    return channels, removed


def choose(model: nn.Module, channels: Channels, sparsity: float, importance: np.ndarray) -> np.ndarray:
    """Return which units go: bool [units].

    Raises:
        PruningError: if even with one channel left in every set more parameters stay than asked for.
    """
    order = _removal_order(channels.group, importance, channels.passes)
    total = sum(parameter.numel() for parameter in model.parameters())
    wanted = total - sparsity * total

    def left(count: int) -> int:
        removed = np.zeros(len(importance), dtype=bool)
        removed[order[:count]] = True
        return parameters_left(model, channels, removed)

    counts = [left(count) for count in range(len(order) + 1)]
    nearest = max(int(np.abs(np.array(counts) - wanted).argmin()), int(sparsity > 0))
    step = max((before - after for before, after in pairwise(counts)), default=0)
    if counts[-1] > wanted + step:
        kept = [f"{layer} ({reason})" for layer, reason in channels.whole.items()]
        raise PruningError(
            f"sparsity {sparsity:g} of the parameters cannot be reached by removing channels: at most "
            f"{1 - counts[-1] / total:.3f} can go; kept whole: {', '.join(kept) or 'no layer'}"
        )
    removed = np.zeros(len(importance), dtype=bool)
    removed[order[:nearest]] = True
    return removed


def unit_importance(
    model: nn.Module, channels: Channels, importance: str, losses: Losses | None = None, seed: int = 0
) -> np.ndarray:
    """Return the importance of every unit: [units]; see ``StructuredPruning``.

    Raises:
        UsageError: if taylor is wanted and there are no losses.
    """
    units = len(channels.group)
    if importance == "random":
        drawn: np.ndarray = np.random.default_rng(seed).random(units)
        return drawn
    parameters = dict(model.named_parameters())
    gradients = mean_gradients(model, parameters, losses) if importance == "taylor" else {}
    total = np.zeros(units)
    for (name, dim), owner in channels.owner.items():
        if name not in parameters:
            continue
        values = parameters[name].detach().double()
        values = values.square() if importance == "l2" else (values * gradients.get(name, 1)).abs()
        slices = values.sum([d for d in range(values.dim()) if d != dim]) if values.dim() > 1 else values
        np.add.at(total, owner[owner >= 0], slices.cpu().numpy()[owner >= 0])
    return np.sqrt(total) if importance == "l2" else total


def _removal_order(group: np.ndarray, importance: np.ndarray, passes: Sequence[int]) -> np.ndarray:
    """Return the units in the order in which they go; the last unit of each set is not among them.

    While units go, the part of set g that stays is about k^passes[g], with the same k for all sets. They go in blocks
    that leave a multiple of 8, until fewer than 8 are left: vectorized kernels are slow on other widths.
    """
    key, left = np.zeros(len(group)), np.zeros(len(group), dtype=int)
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        members = members[np.argsort(importance[members], kind="stable")]
        left[members] = np.arange(len(members))[::-1]
        after = np.where(left[members] < BLOCK, left[members], left[members] // BLOCK * BLOCK)
        key[members] = -np.log(np.maximum(after, 0.5) / len(members)) / passes[number]
    order = np.lexsort((-left, group, key))
    result: np.ndarray = order[left[order] > 0]
    return result


def _insist_equal(pruned: Tensor, masked: Tensor, channels: Channels) -> None:
    if pruned.shape == masked.shape:
        largest = max(1.0, float(masked.abs().max())) if masked.numel() else 1.0
        difference = float((pruned - masked).abs().max()) if masked.numel() else 0.0
        if difference <= TOLERANCE * largest:
            return
        what = f"differ by {difference:.2g}"
    else:
        what = f"have the shapes {list(pruned.shape)} and {list(masked.shape)}"
    raise PruningError(
        f"the outputs of the smaller and of the masked model {what}: the model mixes channels in a way that cannot "
        f"be followed, between the layers {_named(channels)}"
    )


def _insist_gone(model: nn.Module, expected: int) -> None:
    left = sum(parameter.numel() for parameter in model.parameters())
    if left != expected:
        raise PruningError(f"{expected:,} parameters should be left after pruning, but there are {left:,}")


def _named(channels: Channels) -> str:
    return ", ".join(layer for group in channels.layers for layer in group)


def _called(forward: Forward, model: nn.Module, seed: int) -> Tensor:
    """Call the model with the same random draws each time: some models draw in evaluation, too."""
    with random_state_kept():
        torch.manual_seed(seed)
        return forward(model)
