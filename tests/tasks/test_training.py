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

    def batches(self, size: int) -> list[None]:
        return [None]

    def loss(self, model: nn.Module, batch: None) -> Tensor:
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


def test_recipe_says_whether_score_or_loss_chooses() -> None:
    figures = [(0.1, 9.0), (0.9, 3.0), (0.5, 1.0), (0.4, 2.0)]
    for select, best in (("score", 1), ("loss", 2)):
        rows = train(Counting(), Scripted(figures), Recipe(3, 0.1, 0.0, 3, select=select), 0, "train")  # type: ignore[arg-type]
        assert {row.metric: row.value for row in rows}["best_epoch"] == best


class Quadratic:
    """A task with one batch for each number, whose loss is that number times the weight."""

    def __init__(self, *slopes: float) -> None:
        self.slopes = slopes
        self.sizes: list[int] = []

    def batches(self, size: int) -> list[float]:
        self.sizes.append(size)
        return list(self.slopes)

    def loss(self, model: nn.Module, batch: float) -> Tensor:
        return model.weight.sum() * batch

    def validate(self, model: nn.Module) -> tuple[float, float]:
        return -model.weight.item(), model.weight.item()


def one_weight() -> nn.Linear:
    lin = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(lin.weight)
    return lin


def test_every_batch_is_a_step_and_the_rate_decays() -> None:
    # With a constant slope each step of Adam is the learning rate.
    model, task = one_weight(), Quadratic(1.0, 1.0)
    train(model, task, Recipe(4, 0.1, 0.0, 9, batch_size=7, decay_every=2, decay=0.5), 0, "train")
    assert model.weight.item() == pytest.approx(-(2 * 2 * 0.1 + 2 * 2 * 0.05), rel=1e-4)
    assert task.sizes == [7] * 4


def test_clip_and_decoupled_weight_decay() -> None:
    class Seen(Quadratic):
        def validate(self, model: nn.Module) -> tuple[float, float]:
            if model.weight.grad is not None:
                assert model.weight.grad.item() == 2.0
            return super().validate(model)

    train(one_weight(), Seen(1000.0), Recipe(1, 0.1, 0.0, 9, clip=2.0), 0, "train")
    model = one_weight()
    nn.init.ones_(model.weight)
    train(model, Quadratic(1.0), Recipe(1, 0.1, 0.5, 9, optimizer="adamw"), 0, "train")
    assert model.weight.item() == pytest.approx(1 * (1 - 0.1 * 0.5) - 0.1, rel=1e-4)


def test_preconditioner_changes_the_steps_and_leaves_no_hooks() -> None:
    class Regression:
        x = torch.tensor([[1.0, 0.0], [0.0, 0.01]])

        def batches(self, size: int) -> list[None]:
            return [None]

        def loss(self, model: nn.Module, batch: None) -> Tensor:
            return (model(self.x) - 1).square().mean()

        def validate(self, model: nn.Module) -> tuple[float, float]:
            return 0.0, self.loss(model, None).item()

    ends = []
    for preconditioner in ("", "kfac"):
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        recipe = Recipe(5, 0.1, 0.0, 9, preconditioner=preconditioner)  # type: ignore[arg-type]
        train(model, Regression(), recipe, 0, "train")
        assert not model._forward_hooks
        assert not model._forward_pre_hooks
        ends.append(model.weight.detach().clone())
    assert not torch.equal(*ends)


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
            def batches(self, size: int) -> list[None]:
                return [None]

            def loss(self, model: nn.Module, batch: None) -> Tensor:
                return model(torch.ones(3, 4)).square().mean()

            def validate(self, model: nn.Module) -> tuple[float, float]:
                return 0.0, self.loss(model.eval(), None).item()

        train(model, Task(), RECIPE, seed, "train")
        return model[0].weight

    assert torch.equal(trained(0), trained(0))
    assert not torch.equal(trained(0), trained(1))
