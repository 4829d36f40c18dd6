from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gnncompress
from gnncompress.errors import PruningError, UsageError
from gnncompress.masks import hold
from gnncompress.pruning.importance import weight_scores

X = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])
Y = torch.tensor([[1.0], [0.0], [-2.0]])


def model() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        made[0].weight.copy_(torch.tensor([[0.5, -0.25]]))
    return made


def loss(network: nn.Module) -> torch.Tensor:
    return F.mse_loss(network(X), Y)


def slow_gradient() -> np.ndarray:
    x, y, w = X.double().numpy(), Y.double().numpy(), np.array([[0.5, -0.25]])
    return 2 * (x @ w.T - y).T @ x / 3


@pytest.mark.parametrize(
    ("importance", "wanted"),
    [
        ("magnitude", np.array([[0.5, 0.25]])),
        ("gradient", np.abs(slow_gradient())),
        ("taylor", np.abs(slow_gradient() * np.array([[0.5, -0.25]]))),
    ],
)
def test_scores_match_numpy(importance: str, wanted: np.ndarray) -> None:
    scores = weight_scores(model(), importance, lambda network: [loss(network)])  # type: ignore[arg-type]
    np.testing.assert_allclose(scores["0.weight"].numpy(), wanted, rtol=1e-6)


def test_gradient_is_that_of_the_mean_over_batches() -> None:
    def batches(network: nn.Module) -> list[torch.Tensor]:
        return [F.mse_loss(network(X[i : i + 1]), Y[i : i + 1]) for i in range(3)]

    whole = weight_scores(model(), "gradient", lambda network: [loss(network)])
    parts = weight_scores(model(), "gradient", batches)
    torch.testing.assert_close(whole["0.weight"], parts["0.weight"])


@pytest.mark.parametrize("importance", ["magnitude", "gradient", "taylor", "random"])
def test_what_is_pruned_ranks_below_all_else(importance: str) -> None:
    network = model()
    hold(network, {"0.weight": torch.tensor([[True, False]])})
    scores = weight_scores(network, importance, lambda pruned: [loss(pruned)])["0.weight"]  # type: ignore[arg-type]
    assert scores[0, 1] == -1
    assert scores[0, 0] >= 0


def test_random_depends_on_the_seed_alone() -> None:
    first, again, other = (weight_scores(nn.Linear(9, 9), "random", seed=seed)["weight"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_weight_that_the_loss_does_not_see_scores_nothing() -> None:
    network = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    scores = weight_scores(network, "gradient", lambda m: [m["used"](X).sum()])  # type: ignore[index]
    assert not scores["idle.weight"].any()
    assert scores["used.weight"].all()


def test_taylor_prunes_what_matters_least_to_the_loss() -> None:
    network = nn.Sequential(nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[5.0, 1.0, 1.0]]))
    inputs = torch.tensor([[0.0, 1.0, 2.0]])  # the largest weight never sees an input
    gnncompress.prune(network, sparsity=1 / 3, importance="taylor", loss=lambda m: m(inputs).sum())
    assert network[0].weight.tolist() == [[0, 1, 1]]


def test_bad_input() -> None:
    with pytest.raises(UsageError, match="give loss="):
        weight_scores(model(), "gradient")
    with pytest.raises(PruningError, match=r"layer 0\.weight: some gradients are NaN or infinite"):
        weight_scores(model(), "gradient", lambda network: [loss(network) * float("nan")])


def test_pruned_weights_never_tie_with_live_ones() -> None:
    network = nn.Sequential(nn.Linear(10, 1, bias=False))
    inputs = torch.zeros(1, 10)
    inputs[0, 5:] = 1  # the first five weights have no gradient, but are not zero

    def total(pruned: nn.Module) -> torch.Tensor:
        return pruned(inputs).sum()

    hold(network, {"0.weight": torch.tensor([[True] * 8 + [False] * 2])})
    result = gnncompress.prune(network, sparsity=0.6, importance="taylor", loss=total)
    assert int((network[0].weight == 0).sum()) == 6 == round(10 * result.sparsity)


@pytest.mark.parametrize("value", [1.0, torch.ones(3, requires_grad=True), torch.tensor(1.0)])
def test_losses_that_are_none(value: object) -> None:
    with pytest.raises(UsageError, match="loss= must return a tensor of one number with a gradient"):
        gnncompress.prune(model(), importance="taylor", loss=lambda network: value)  # type: ignore[arg-type, return-value]


def test_the_model_is_ranked_in_evaluation_mode_and_left_in_its_own() -> None:
    network = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    before = network[1].running_mean.clone()
    gnncompress.prune(network, importance="gradient", loss=loss)
    assert network.training
    assert torch.equal(network[1].running_mean, before)
