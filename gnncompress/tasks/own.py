"""A user's own training loop, loss and metric in the place of a task's."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric import seed_everything

from gnncompress.errors import UsageError
from gnncompress.factories import call_factory, load_reference, user_code
from gnncompress.measurements import OWN_METRIC, Measurement
from gnncompress.tasks.base import Predictions, Task, auxiliary_loss
from gnncompress.tasks.recipe import Recipe

SCORE = OWN_METRIC


def with_own(task: Task, own: Mapping[Any, str]) -> Task:
    """Return the task with the user's functions: references, such as ``my_file.py:train``, to any of these.

    ``train(model, ...)`` trains the model in place; it may take epochs, learning_rate, weight_decay, batch_size, seed,
    phase (train or finetune), data (the graph, or the training graphs), ``batches()``, which yields an epoch's batches,
    ``loss(model, batch)`` and ``validate(model)``, which returns score and loss. ``loss(model, batch, ...)`` returns
    the mean training loss of a batch and may take data; A2Q's penalty and a model's own auxiliary loss are added.
    ``score(truth, outputs, ...)`` returns a number, the higher the better, from labels and outputs of the items that
    are judged, as arrays; it may take model and data.

    Raises:
        UsageError: if one of them cannot be imported.
    """
    return OwnTask(task, own) if own else task


class OwnTask(Task):
    """A task of which the user's functions do a part. Its batches, data and checks are the task's."""

    name = ""

    def __init__(self, task: Task, own: Mapping[Any, str]) -> None:
        self.task, self.own = task, {str(name): reference for name, reference in own.items()}
        # Loaded once: a file that is changed while a model trains does not change its training.
        self._functions = {name: load_reference(reference) for name, reference in self.own.items()}
        self.name = task.name  # type: ignore[misc]
        self.free_outputs = task.free_outputs  # type: ignore[misc]
        self.features, self.outputs, self.items, self.notes = task.features, task.outputs, task.items, task.notes

    @property
    def metric(self) -> str:
        """The figure that models are judged by."""
        return SCORE if SCORE in self.own else self.task.metric

    @property
    def data(self) -> Any:
        """The graph, or the training graphs."""
        return self.task.data

    def batches(self, size: int) -> Iterable[Any]:
        """Yield the task's batches."""
        return self.task.batches(size)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the user's loss of a batch, and what the model or a method adds to any loss; or the task's."""
        if "loss" not in self.own:
            return self.task.loss(model, batch)
        found = self._call("loss", {"model": model, "batch": batch, "data": self._data_for("loss")})
        if not isinstance(found, Tensor) or found.numel() != 1:
            raise UsageError(f"{self.own['loss']} returns {_shown(found)}; it must return a tensor of one number")
        return found.reshape(()) + auxiliary_loss(model)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> tuple[float, float]:
        """Return the user's score, or the task's, and the task's loss on the validation items."""
        score, loss = self.task.validate(model)
        return (self._score(model, "validation") if SCORE in self.own else score), loss

    def evaluate(self, model: nn.Module) -> list[Measurement]:
        """Return the task's scores, and the user's."""
        rows = self.task.evaluate(model)
        if SCORE in self.own:
            rows.append(Measurement("evaluate", SCORE, self._score(model, "test"), "score"))
        return rows

    @torch.no_grad()
    def predictions(self, model: nn.Module, part: str = "test") -> Predictions:
        """Return the task's predictions, judged by the user's score."""
        found = self.task.predictions(model, part)
        if SCORE not in self.own:
            return found
        return replace(found, score=lambda truth, outputs: self._scored(model, truth, outputs))

    def inference(self, model: nn.Module, batch: int = 0) -> Callable[[], object]:
        """Return the task's call."""
        return self.task.inference(model, batch)

    def insist_on_batch(self, batch: int) -> None:
        """Insist on what the task does."""
        self.task.insist_on_batch(batch)

    def example(self, model: nn.Module) -> Tensor:
        """Return what the task does."""
        return self.task.example(model)

    def check(self, model: nn.Module) -> None:
        """Check what the task does."""
        self.task.check(model)

    def train(self, model: nn.Module, recipe: Recipe, seed: int, phase: str) -> list[Measurement] | None:
        """Train the model in place by the user's loop; return None if there is none.

        Raises:
            UsageError: if the loop raises, wants what is not offered, or returns another model.
        """
        if "train" not in self.own:
            return None
        seed_everything(seed)
        model.train()
        started = time.perf_counter()
        returned = self._call(
            "train",
            {
                "model": model,
                "data": self._data_for("train"),
                "batches": lambda: self.batches(recipe.batch_size),
                "loss": self.loss,
                "validate": self.validate,
                "epochs": recipe.epochs,
                "learning_rate": recipe.learning_rate,
                "weight_decay": recipe.weight_decay,
                "batch_size": recipe.batch_size,
                "seed": seed,
                "phase": phase,
            },
        )
        if isinstance(returned, nn.Module) and returned is not model:
            raise UsageError(f"{self.own['train']} returns another model; train the one that it is given, in place")
        model.eval()
        return [Measurement(phase, "duration", time.perf_counter() - started, "s")]

    def _score(self, model: nn.Module, part: str) -> float:
        found = self.task.predictions(model, part)
        return self._scored(model, found.truth, found.outputs)

    def _scored(self, model: nn.Module, truth: NDArray, outputs: NDArray) -> float:
        offered = {"truth": truth, "outputs": outputs, "model": model, "data": self._data_for(SCORE)}
        found = self._call(SCORE, offered)
        try:
            value = float(found)
        except (TypeError, ValueError):
            value = float("nan")
        if not np.isfinite(value):
            raise UsageError(f"{self.own[SCORE]} returns {_shown(found)}; it must return a finite number")
        return value

    def _data_for(self, what: str) -> Any:
        """Return the data for a function that takes it; to list many graphs costs time."""
        return self.data if "data" in inspect.signature(self._functions[what]).parameters else None

    def _call(self, what: str, offered: Mapping[str, Any]) -> Any:
        reference = self.own[what]
        with user_code(reference):
            return call_factory(reference, self._functions[what], offered)


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (int, float)) else f"a {type(value).__name__}"
