from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gnncompress.errors import UsageError
from gnncompress.pruning.l2 import L2Regularization
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.trainer import Trainer

X = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
Y = (X[:, :1] > 0.5).float()


class Toy:
    """A regression that any linear model fits; ``blow_up`` makes its loss infinite from that call on."""

    def __init__(self, blow_up: int = 10**9) -> None:
        self.calls, self.blow_up = 0, blow_up

    def batches(self, size: int) -> list[Tensor]:
        return [X]

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        self.calls += 1
        loss = F.mse_loss(model(batch), Y)
        return loss * torch.inf if self.calls >= self.blow_up else loss

    def validate(self, model: nn.Module) -> tuple[float, float]:
        loss = float(F.mse_loss(model(X), Y))
        return -loss, loss


def trainer(task: Toy, optimizer: str = "adam") -> Trainer:
    recipe = Recipe(60, 0.05, 0.3, 60, optimizer=optimizer, select="last")  # type: ignore[arg-type]
    return Trainer(task, recipe, recipe, seed=0, fresh=lambda seed: model())  # type: ignore[arg-type]


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_the_penalty_is_in_the_loss_whatever_the_recipe_says() -> None:
    trained = L2Regularization(rate=0.02).apply(model(), trainer(Toy(), "adamw")).model
    by_hand = model()
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        penalty = sum(parameter.square().sum() for parameter in by_hand.parameters())
        (F.mse_loss(by_hand(X), Y) + 0.01 * penalty).backward()
        optimizer.step()
    torch.testing.assert_close(trained.weight, by_hand.weight, rtol=1e-4, atol=1e-5)


def test_a_control_is_trained_on_under_the_penalty() -> None:
    control, by_hand = model(), model()
    found = L2Regularization(rate=0.02).apply(control, trainer(Toy(), "adamw"))
    assert {row.phase for row in found.measurements} == {"compress", "finetune"}
    L2Regularization(rate=0.02).apply(by_hand, replace(trainer(Toy(), "adamw"), finetune_recipe=None))
    torch.testing.assert_close(control.weight, by_hand.weight)


def test_weights_shrink_as_the_rate_grows_and_the_model_keeps_its_size() -> None:
    norms = []
    for rate in (0.0, 0.01, 1.0, 1e6):
        result = L2Regularization(rate=rate).apply(model(), trainer(Toy()))
        norms.append(float(result.model.weight.norm()))
        rows = {row.metric: row.value for row in result.measurements}
        assert rows["diverged"] == 0
        assert rows["parameters"] == 4
    assert norms == sorted(norms, reverse=True)


def test_divergence_is_a_row_and_keeps_the_model_before_it() -> None:
    result = L2Regularization(rate=0.1).apply(model(), trainer(Toy(blow_up=8)))
    rows = {row.metric: row.value for row in result.measurements}
    assert rows["diverged"] == 1
    assert rows["epochs"] == 8
    assert result.warnings == ["the training diverged; the best model before that is kept"]
    assert bool(result.model.weight.isfinite().all())


def test_pruning_fine_tunes_under_the_same_penalty() -> None:
    free, penalized = (
        L2Regularization(rate=rate, sparsity=2 / 3).apply(model(), trainer(Toy())).model for rate in (0.0, 50.0)
    )
    assert int(free.weight.count_nonzero()) == int(penalized.weight.count_nonzero()) == 1
    assert float(penalized.weight.norm()) < 0.3 * float(free.weight.norm())


@pytest.mark.parametrize("rate", [-0.1, float("inf"), float("nan")])
def test_bad_rate(rate: float) -> None:
    with pytest.raises(UsageError, match=f"rate {rate}: must be a finite number, at least 0"):
        L2Regularization(rate=rate)
