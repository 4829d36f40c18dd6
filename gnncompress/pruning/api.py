"""Pruning as a library: ``gnncompress.prune(model, method="global", sparsity=0.5)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from gnncompress.compression import CompressionMethod
from gnncompress.errors import ParameterError, PruningError, UsageError
from gnncompress.global_state import random_state_kept
from gnncompress.masks import count_zeros, held, hold
from gnncompress.methods import method_named
from gnncompress.pruning.importance import Losses
from gnncompress.pruning.magnitude import MagnitudePruning
from gnncompress.pruning.structured.method import StructuredPruning
from gnncompress.pruning.structured.shrinking import shrink
from gnncompress.pruning.structured.tracing import Forward


@dataclass(frozen=True)
class PruningResult:
    """What was pruned: the (same) model, and (zeros, weights) of each prunable layer, counted as the model reads it.

    ``masks`` are those that are on the model now, by layer. Structured pruning has none: ``parameters_removed`` is the
    fraction of parameters that do not exist any more.
    """

    model: nn.Module
    counts: dict[str, tuple[int, int]]
    masks: dict[str, Tensor] = field(default_factory=dict)
    parameters_removed: float = 0.0

    @property
    def sparsity(self) -> float:
        """The fraction of prunable weights that are zero: more than asked for where more were zero before."""
        return sum(zeros for zeros, _ in self.counts.values()) / max(sum(size for _, size in self.counts.values()), 1)

    @property
    def layers(self) -> dict[str, float]:
        """The same fraction for each layer."""
        return {layer: zeros / max(size, 1) for layer, (zeros, size) in self.counts.items()}


@random_state_kept()
def prune(
    model: nn.Module,
    method: str | CompressionMethod = "global",
    sparsity: float | None = None,
    *,
    importance: str | None = None,
    min_keep: float | None = None,
    allocation: str | None = None,
    layers: Mapping[str, float] | None = None,
    forward: Forward | None = None,
    loss: Callable[[nn.Module], Tensor | Iterable[Tensor]] | None = None,
    seed: int = 0,
) -> PruningResult:
    """Prune any PyTorch or PyG model in place; the masks hold while you fine-tune it with your own loop.

    Methods are global, fine-grained and structured, by name with their options, or as an object that has them, such
    as ``GlobalPruning(sparsity=0.5)``; what is None has the method's default, a sparsity of 0.5. Gradient
    importances need ``loss``: a function of the model that returns a loss, or one a batch. Structured pruning needs
    ``forward``: a function that calls the model once, e.g. ``lambda m: m(x, edge_index)``; its channels are gone at
    once. After the other methods call ``make_permanent(model)`` to turn masked weights into plain parameters.

    What is zero stays zero and counts: masks on the model, also those of ``torch.nn.utils.prune``, are combined with
    the new ones, and a model or a layer with more zeros than its share keeps them. While masks are on, a state_dict of
    the model holds them and the weights behind them; one without masks can be loaded, too: its weights are masked.

    Raises:
        UsageError: if it is no model, the method or a setting unknown, the sparsity outside [0, 1), a function missing.
        PruningError: if the model has nothing to prune, mixes its channels, or has a lazy layer or weights that cannot
            be pruned, such as those under weight_norm or with NaN; they are named, with what to do.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"prune takes a torch.nn.Module, not a {type(model).__name__}")
    losses = None if loss is None else _each(loss)
    given = {"sparsity": sparsity, "importance": importance, "min_keep": min_keep, "allocation": allocation}
    chosen = _chosen(method, {**given, "layers": layers})
    training = model.training
    try:
        return _pruned(model.eval(), chosen, forward, losses, seed)
    finally:
        model.train(training)


def _chosen(method: str | CompressionMethod, given: Mapping[str, Any]) -> MagnitudePruning | StructuredPruning:
    """Return the method that is named with the options ``given``, or the one that is given itself."""
    if isinstance(method, CompressionMethod):
        for name, value in given.items():
            if value is not None:
                raise ParameterError(name, value, "the method is given with its options; leave this one out")
        chosen = method
    else:
        chosen = method_named(method, given)
    if isinstance(chosen, MagnitudePruning) and chosen.steps != 1:
        raise UsageError("steps: there is fine-tuning between steps; call prune once for each, with rising sparsity")
    if not isinstance(chosen, (MagnitudePruning, StructuredPruning)):
        raise UsageError(f"method {chosen.name} trains models; use gnncompress.experiment or the command line")
    return chosen


def _pruned(
    model: nn.Module,
    method: MagnitudePruning | StructuredPruning,
    forward: Forward | None,
    losses: Losses | None,
    seed: int,
) -> PruningResult:
    if any(getattr(module, "quantizes", False) for module in model.modules()):
        raise PruningError("the model is prepared for quantization; prune it before: the masks hold through prepare")
    if isinstance(method, StructuredPruning):
        if forward is None:
            raise UsageError("method structured needs forward=, a function that calls the model once")
        return _shrunk(model, method, forward, losses, seed)
    hold(model, method.masks(model, losses, seed))
    return PruningResult(model, count_zeros(model), held(model))


def _shrunk(
    model: nn.Module, method: StructuredPruning, forward: Forward, losses: Losses | None, seed: int
) -> PruningResult:
    before = sum(parameter.numel() for parameter in model.parameters())
    shrink(model, forward, method.sparsity, method.importance, losses=losses, seed=seed)
    left = sum(parameter.numel() for parameter in model.parameters())
    return PruningResult(model, count_zeros(model), parameters_removed=1 - left / before)


def _each(loss: Callable[[nn.Module], Tensor | Iterable[Tensor]]) -> Losses:
    def losses(model: nn.Module) -> Iterable[Tensor]:
        result = loss(model)
        for value in [result] if not isinstance(result, Iterable) or isinstance(result, Tensor) else result:
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                raise UsageError("loss= must return a tensor of one number with a gradient, or one for each batch")
            yield value.sum()

    return losses
