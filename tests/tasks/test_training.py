from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gnncompress.errors import TrainingError
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.training import Progress, train

RECIPE = Recipe(epochs=10, learning_rate=0.1, weight_decay=0.0, patience=10)


class Scripted:
    """A task whose validation figures are given, one pair a call, the first for the untrained model."""

    def __init__(self, figures: list[tuple[float, float]], losses: list[float] | None = None) -> None:
        self.figures = iter(figures)
        self.losses = iter(losses) if losses else None

    def loss(self, model: nn.Module) -> Tensor:
        loss = model(torch.ones(1, 1)).sum()
        return loss * next(self.losses) if self.losses else loss

    def validate(self, model: nn.Module) -> tuple[float, float]:
        model.eval()
        return next(self.figures)


class Counting(nn.Module):
    """A model that counts its training steps in a buffer, as batch normalization does."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(1, 1)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        return self.lin(x)


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ([(0.1, 1), (0.5, 1), (0.9, 1), (0.3, 1)], 2),  # the highest score
        ([(0.1, 1), (0.9, 2), (0.9, 1), (0.9, 3)], 2),  # of equal scores the lowest loss
        ([(0.1, 1), (0.9, 1), (0.9, 1), (0.9, 1)], 1),  # of equal figures the earliest
        ([(0.9, 1), (0.8, 1), (0.7, 1), (0.6, 1)], 0),  # none: the model it was given
    ],
)
def test_best_validation_is_chosen(figures: list[tuple[float, float]], best: int) -> None:
    model = Counting()
    recipe = Recipe(3, 0.1, 0.0, 3)
    rows = {row.metric: row.value for row in train(model, Scripted(figures), recipe, 0, "train")}
    assert rows["best_epoch"] == best
    assert int(model.steps) == best, "the buffers of the chosen epoch come back with it"
    assert rows["epochs"] == 3
    assert not model.training


def test_stops_when_patience_is_over() -> None:
    seen: list[Progress] = []
    rows = train(Counting(), Scripted([(0.5, 1.0)] * 20), Recipe(10, 0.1, 0, 4), 0, "finetune", seen.append)
    assert {row.metric: row.value for row in rows}["epochs"] == 4
    assert [progress.epoch for progress in seen] == [1, 2, 3, 4]
    assert all(row.phase == "finetune" for row in rows)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops_the_run(loss: float) -> None:
    with pytest.raises(TrainingError, match=rf"train: the loss is -?{loss} at epoch 2 \(seed 3\)"):
        train(Counting(), Scripted([(0.5, 1.0)] * 20, [1.0, loss]), RECIPE, 3, "train")


def test_same_seed_same_weights() -> None:
    def trained(seed: int) -> Tensor:
        torch.manual_seed(7)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

        class Task:
            def loss(self, model: nn.Module) -> Tensor:
                return model(torch.ones(3, 4)).square().mean()

            def validate(self, model: nn.Module) -> tuple[float, float]:
                return 0.0, self.loss(model.eval()).item()

        train(model, Task(), RECIPE, seed, "train")
        return model[0].weight

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))
