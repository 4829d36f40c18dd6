"""What a compression method may ask of the experiment that it is part of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch_geometric import seed_everything

from gnncompress.measurements import Measurement
from gnncompress.tasks.base import Task
from gnncompress.tasks.own import OwnTask
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.training import Groups, Progress, Trainable, train


@dataclass(frozen=True)
class Trainer:
    """A task with the recipes of its training and, if wanted, of fine-tuning, all drawn from one seed.

    ``fresh(seed)`` builds the model anew, initialized from that seed. ``keep_zeros`` says that the model was pruned
    before, and its zeros are to stay. With ``may_diverge`` a training that diverges
    says so in its measurements instead of raising.
    """

    task: Task
    recipe: Recipe
    finetune_recipe: Recipe | None
    seed: int
    fresh: Callable[[int], nn.Module]
    on_epoch: Callable[[Progress], None] = lambda progress: None
    may_diverge: bool = False
    keep_zeros: bool = False

    def train(
        self, model: nn.Module, start: int = 0, task: Trainable | None = None, **changes: Any
    ) -> list[Measurement]:
        """Train ``model`` by the base recipe, with ``changes`` of it, as if ``start`` epochs were done.

        ``task`` is what is trained on instead of the task, such as the task with another loss.
        """
        recipe = replace(self.recipe, **changes)
        own = self._own(model, replace(recipe, epochs=recipe.epochs - start), "train")
        return own or train(
            model, task or self.task, recipe, self.seed, "train", self.on_epoch, self.may_diverge, start
        )

    def finetune(self, model: nn.Module, share: float = 1.0, groups: Groups | None = None) -> list[Measurement]:
        """Fine-tune ``model`` for a ``share`` of the recipe's epochs, at least one, by the optimizer's ``groups``."""
        if self.finetune_recipe is None:
            return []
        epochs = max(round(share * self.finetune_recipe.epochs), 1)
        recipe = replace(self.finetune_recipe, epochs=epochs)
        own = self._own(model, recipe, "finetune")
        return own or train(
            model, self.task, recipe, self.seed, "finetune", self.on_epoch, self.may_diverge, groups=groups
        )

    def _own(self, model: nn.Module, recipe: Recipe, phase: str) -> list[Measurement] | None:
        return self.task.train(model, recipe, self.seed, phase) if isinstance(self.task, OwnTask) else None

    def losses(self, model: nn.Module) -> Iterator[Tensor]:
        """Yield the loss of each training batch, in evaluation mode: nothing is dropped out."""
        seed_everything(self.seed)
        model.eval()
        for batch in self.task.batches(self.recipe.batch_size):
            yield self.task.loss(model, batch)
