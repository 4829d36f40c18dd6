"""Pruning as a library: ``gnncompress.prune(model, method="global", sparsity=0.5)``."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gnncompress.errors import UsageError
from gnncompress.pruning.magnitude import FineGrainedPruning, GlobalPruning, MagnitudePruning
from gnncompress.pruning.masks import hold
from gnncompress.registry import unknown

METHODS: dict[str, type[MagnitudePruning]] = {"global": GlobalPruning, "fine-grained": FineGrainedPruning}


@dataclass(frozen=True)
class PruningResult:
    """What was pruned: the (same) model, its masks by layer, and the sparsity of each."""

    model: nn.Module
    masks: dict[str, Tensor]

    @property
    def sparsity(self) -> float:
        """The fraction of prunable weights that the masks hold at zero."""
        total = sum(mask.numel() for mask in self.masks.values())
        return sum(int((~mask).sum()) for mask in self.masks.values()) / total

    @property
    def layers(self) -> dict[str, float]:
        """The same fraction for each layer."""
        return {layer: int((~mask).sum()) / max(mask.numel(), 1) for layer, mask in self.masks.items()}


def prune(model: nn.Module, method: str = "global", sparsity: float = 0.5) -> PruningResult:
    """Prune any PyTorch or PyG model in place; the masks hold while you fine-tune it with your own loop.

    Call ``make_permanent(model)`` afterwards to turn the masked weights into plain parameters.

    Raises:
        UsageError: if the method is unknown or the sparsity is outside [0, 1).
        PruningError: if the model has nothing to prune, a lazy layer, or a NaN weight.
    """
    if method not in METHODS:
        raise UsageError(unknown("pruning method", method, METHODS))
    masks = METHODS[method](sparsity).masks(model)
    hold(model, masks)
    return PruningResult(model, masks)
