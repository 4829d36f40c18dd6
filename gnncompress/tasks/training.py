"""The one training loop: for base models, fine-tuning and every task."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from gnncompress.errors import TrainingError
from gnncompress.measurements import Measurement, Phase
from gnncompress.tasks.recipe import Recipe


class Trainable(Protocol):
    """What the loop needs of a task."""

    def loss(self, model: nn.Module) -> Tensor: ...  # noqa: D102

    def validate(self, model: nn.Module) -> tuple[float, float]: ...  # noqa: D102


@dataclass(frozen=True)
class Progress:
    """What one epoch showed: its number, the training loss and the validation score."""

    epoch: int
    epochs: int
    loss: float
    score: float


def train(
    model: nn.Module,
    task: Trainable,
    recipe: Recipe,
    seed: int,
    phase: Phase,
    on_epoch: Callable[[Progress], None] = lambda progress: None,
) -> list[Measurement]:
    """Train ``model`` in place and leave it in its best state on the validation set.

    Best is the highest validation score, then the lowest validation loss, then the earliest epoch. The state
    before the first step takes part as epoch 0, so fine-tuning never chooses a model that validates worse than
    the one it was given. The same rule chooses base and compressed models.

    Returns duration (seconds), epochs run and the epoch chosen, as measurements of ``phase``.

    Raises:
        TrainingError: when a loss is not finite; the message says at which epoch.
    """
    torch.manual_seed(seed)
    started = time.perf_counter()
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    best, best_epoch, best_state = _rank(task, model), 0, _snapshot(model)
    epoch = 0
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        optimizer.zero_grad()
        loss = task.loss(model)
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"{phase}: the loss is {loss.item()} at epoch {epoch} (seed {seed}); "
                "lower the learning rate or the weight decay"
            )
        loss.backward()
        optimizer.step()
        rank = _rank(task, model)
        if rank > best:
            best, best_epoch, best_state = rank, epoch, _snapshot(model)
        on_epoch(Progress(epoch, recipe.epochs, loss.item(), rank[0]))
        if epoch - best_epoch >= recipe.patience:
            break
    _restore(model, best_state)
    model.eval()
    return [
        Measurement(phase, "duration", time.perf_counter() - started, "s"),
        Measurement(phase, "epochs", epoch, "epochs"),
        Measurement(phase, "best_epoch", best_epoch, "epochs"),
    ]


def _rank(task: Trainable, model: nn.Module) -> tuple[float, float]:
    """Return validation score and negated loss; a model whose loss is NaN ranks last."""
    score, loss = task.validate(model)
    return (score, -loss) if not math.isnan(loss) else (-math.inf, -math.inf)


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in _tensors(model)}


@torch.no_grad()
def _restore(model: nn.Module, state: dict[str, Tensor]) -> None:
    for name, tensor in _tensors(model):
        tensor.copy_(state[name])


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what training changes. Not a state_dict: PyG's Linear cannot load its own while it has a mask."""
    yield from model.named_parameters()
    yield from model.named_buffers()
