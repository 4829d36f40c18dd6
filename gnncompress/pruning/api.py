"""Pruning as a library: ``gnncompress.prune(model, method="global", sparsity=0.5)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from gnncompress.errors import PruningError, UsageError
from gnncompress.global_state import random_state_kept
from gnncompress.masks import count_zeros, held, hold
from gnncompress.pruning.importance import Losses
from gnncompress.pruning.magnitude import FineGrainedPruning, GlobalPruning, MagnitudePruning
from gnncompress.pruning.structured.method import StructuredPruning
from gnncompress.pruning.structured.tracing import Forward
from gnncompress.registry import unknown

METHODS: dict[str, type[MagnitudePruning]] = {"global": GlobalPruning, "fine-grained": FineGrainedPruning}

M = TypeVar("M")


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
    method: str = "global",
    sparsity: float = 0.5,
    *,
    forward: Forward | None = None,
    loss: Callable[[nn.Module], Tensor | Iterable[Tensor]] | None = None,
    seed: int = 0,
    **settings: Any,
) -> PruningResult:
    """Prune any PyTorch or PyG model in place; the masks hold while you fine-tune it with your own loop.

    Methods are global, fine-grained and structured; ``settings`` are theirs: importance, min_keep, allocation, layers.
    Gradient importances need ``loss``: a function of the model that returns a loss, or one a batch. Structured pruning
    needs ``forward``: a function that calls the model once, e.g. ``lambda m: m(x, edge_index)``; its channels are gone
    at once. After the other methods call ``make_permanent(model)`` to turn masked weights into plain parameters.

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
    if settings.get("steps", 1) != 1:
        raise UsageError("steps: there is fine-tuning between steps; call prune once for each, with rising sparsity")
    training = model.training
    try:
        return _pruned(model.eval(), method, sparsity, forward, losses, seed, settings)
    finally:
        model.train(training)


def _pruned(
    model: nn.Module,
    method: str,
    sparsity: float,
    forward: Forward | None,
    losses: Losses | None,
    seed: int,
    settings: Mapping[str, Any],
) -> PruningResult:
    if any(getattr(module, "quantizes", False) for module in model.modules()):
        raise PruningError("the model is prepared for quantization; prune it before: the masks hold through prepare")
    if method == "structured":
        if forward is None:
            raise UsageError("method structured needs forward=, a function that calls the model once")
        return _shrunk(model, _made(StructuredPruning, method, sparsity, settings), forward, losses, seed)
    if method not in METHODS:
        raise UsageError(unknown("pruning method", method, [*METHODS, "structured"]))
    masks = _made(METHODS[method], method, sparsity, settings).masks(model, losses, seed)
    hold(model, masks)
    return PruningResult(model, count_zeros(model), held(model))


def _made(kind: Callable[..., M], method: str, sparsity: float, settings: Mapping[str, Any]) -> M:
    try:
        return kind(sparsity, **settings)
    except TypeError as error:
        raise UsageError(f"method {method}: {error}") from error


def _shrunk(
    model: nn.Module, method: StructuredPruning, forward: Forward, losses: Losses | None, seed: int
) -> PruningResult:
    before = sum(parameter.numel() for parameter in model.parameters())
    method.shrink(model, forward, losses=losses, seed=seed)
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
