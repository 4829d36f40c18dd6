"""The one training loop: for base models, fine-tuning and every task."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch_geometric import seed_everything

from gnncompress.errors import TrainingError
from gnncompress.measurements import Measurement, Phase
from gnncompress.tasks.kfac import KFAC
from gnncompress.tasks.recipe import Recipe

Groups = Callable[[nn.Module, Recipe], list[dict[str, Any]]]
_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class Trainable(Protocol):
    """What the loop needs of a task."""

    def batches(self, size: int) -> Iterable[Any]: ...  # noqa: D102

    def loss(self, model: nn.Module, batch: Any) -> Tensor: ...  # noqa: D102

    def validate(self, model: nn.Module) -> tuple[float, float]: ...  # noqa: D102

    def evaluate(self, model: nn.Module) -> list[Measurement]: ...  # noqa: D102

    @property
    def metric(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Progress:
    """What one epoch showed: its number, the mean training loss of its batches and the validation score."""

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
    may_diverge: bool = False,
    start: int = 0,
    groups: Groups | None = None,
) -> list[Measurement]:
    """Train ``model`` in place and leave it in its best state on the validation set.

    Best is what ``recipe.select`` says: the highest validation score, then the lowest loss (or the other way round),
    then the earliest epoch; or the last epoch, whatever it validates like. The state before the first step takes part
    as epoch 0, so fine-tuning never chooses a model that validates worse than the one it was given. The same rule
    chooses base and compressed models.

    ``groups`` makes the optimizer's groups of parameters; without, all are one. ``start`` epochs count as done: the
    learning rate is where they left it, and so many fewer are run.

    Returns duration (seconds), epochs run, the epoch chosen and CPU seconds an epoch of training steps, as
    measurements of ``phase``. With ``may_diverge`` a loss that is not finite ends the training instead of raising, and
    the measurement ``diverged`` says 1 for that, 0 otherwise.

    Raises:
        TrainingError: when a loss is not finite; the message says at which epoch.
    """
    seed_everything(seed)  # PyG's layers draw from Python's and numpy's generators, too
    started = time.perf_counter()
    optimizer = _OPTIMIZERS[recipe.optimizer](
        groups(model, recipe) if groups is not None else model.parameters(),
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    if recipe.decay_every:
        for group in optimizer.param_groups:
            group["lr"] *= recipe.decay ** (start // recipe.decay_every)
    best, best_epoch, best_state = _rank(task, model, recipe), start, _snapshot(model)
    epoch, stepping, diverged = start, 0.0, False
    with KFAC(model) if recipe.preconditioner == "kfac" else contextlib.nullcontext() as preconditioner:
        for epoch in range(start + 1, recipe.epochs + 1):
            begun = time.process_time()
            loss = _steps(model, task, recipe, optimizer, preconditioner)
            stepping += time.process_time() - begun
            diverged = not math.isfinite(loss)
            if diverged and may_diverge:
                break
            if diverged:
                raise TrainingError(
                    f"{phase}: the loss is {loss} at epoch {epoch} (seed {seed}); "
                    f"try a lower rate: --set learning_rate={recipe.learning_rate / 10:g}"
                )
            if recipe.decay_every and epoch % recipe.decay_every == 0:
                for group in optimizer.param_groups:
                    group["lr"] *= recipe.decay
            rank = _rank(task, model, recipe)
            if rank > best or recipe.select == "last":
                best, best_epoch, best_state = rank, epoch, _snapshot(model)
            score = rank[1] if recipe.select == "loss" else rank[0]
            on_epoch(Progress(epoch, recipe.epochs, loss, score))
            if epoch - best_epoch >= recipe.patience:
                break
    _restore(model, best_state)
    model.eval()
    return [
        Measurement(phase, "duration", time.perf_counter() - started, "s"),
        Measurement(phase, "epochs", epoch - start, "epochs"),
        Measurement(phase, "best_epoch", best_epoch, "epochs"),
        Measurement(phase, "epoch_cpu_duration", stepping / max(epoch - start, 1), "s"),
        *([Measurement(phase, "diverged", int(diverged), "runs")] if may_diverge else []),
    ]


def _steps(
    model: nn.Module, task: Trainable, recipe: Recipe, optimizer: torch.optim.Optimizer, preconditioner: KFAC | None
) -> float:
    """Take one epoch's steps and return the mean loss; a loss that is not finite ends it before its step."""
    model.train()
    losses = []
    for batch in task.batches(recipe.batch_size):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return losses[-1]
        loss.backward()
        if preconditioner is not None:
            preconditioner.step()
        if recipe.clip > 0:
            nn.utils.clip_grad_value_(model.parameters(), recipe.clip)
        optimizer.step()
    return sum(losses) / len(losses)


def _rank(task: Trainable, model: nn.Module, recipe: Recipe) -> tuple[float, float]:
    """Return what is to be maximized: score and negated loss, in the recipe's order; a NaN loss ranks last."""
    score, loss = task.validate(model)
    if recipe.select == "test":
        wanted = task.metric
        score = next(float(row.value or 0) for row in task.evaluate(model) if row.metric == wanted)
    if math.isnan(loss):
        return -math.inf, -math.inf
    return (-loss, score) if recipe.select == "loss" else (score, -loss)


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
