from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnncompress.errors import TaskError
from gnncompress.tasks.node_classification import NodeClassification
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import Split
from gnncompress.tasks.training import train


class Oracle(nn.Module):
    """Logits that are simply the features."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def task() -> NodeClassification:
    y = torch.tensor([0, 0, 1, 2, 0, 1, 1, 2, 2])
    x = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2, 0, 1, 0, 0, 2]), 3).float() * 10
    return NodeClassification(Data(x=x, y=y, num_nodes=9), Split((0, 1, 2, 8), (3,), (4, 5, 6, 7)))


def test_scores_by_hand(task: NodeClassification) -> None:
    scores = {row.metric: row.value for row in task.evaluate(Oracle())}
    # test truth 0 1 1 2, predicted 0 1 0 0; the majority of the training nodes is class 0
    assert scores["accuracy"] == 0.5
    assert scores["f1_macro"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert scores["majority_accuracy"] == 0.25
    assert scores["majority_f1_macro"] == pytest.approx(0.4 / 3)
    # the best constant answer to the test nodes is class 1
    assert scores["constant_accuracy"] == 0.5
    assert scores["constant_f1_macro"] == pytest.approx(2 / 3 / 3)
    assert scores["constant_roc_auc"] == 0.5
    # one-versus-rest: class 0 ranks its one node with two others, class 1 one of two, class 2 none above the rest
    assert scores["roc_auc"] == pytest.approx((2 / 3 + 3 / 4 + 1 / 2) / 3)
    assert scores["majority_roc_auc"] == 0.5
    assert scores["loss"] == pytest.approx(5, abs=0.01)
    assert task.validate(Oracle())[0] == 1.0


class Spoilt(Oracle):
    """An oracle with one logit of a test node replaced."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[4, 1] = self.logit
        return x


@pytest.mark.parametrize("logit", [math.nan, math.inf])
def test_outputs_that_are_not_finite_have_no_scores(task: NodeClassification, logit: float) -> None:
    rows = {row.metric: row for row in task.evaluate(Spoilt(logit))}
    missing = {name for name, row in rows.items() if row.source == "unavailable"}
    assert missing == {"loss", "predicted_classes", "accuracy", "f1_macro", "roc_auc"}
    assert rows["constant_accuracy"].value == 0.5
    said = task.predictions(Spoilt(logit))
    assert said.score(said.truth, said.outputs) is None
    assert said.score(said.truth[1:], said.outputs[1:]) == pytest.approx(1 / 3), "item 0 alone is spoilt"


def test_a_class_may_be_ruled_out_by_an_infinite_logit(task: NodeClassification) -> None:
    rows = {row.metric: row for row in task.evaluate(Spoilt(-math.inf))}
    assert "unavailable" not in {row.source for row in rows.values()}
    said = task.predictions(Spoilt(-math.inf))
    assert said.score(said.truth, said.outputs) == rows["accuracy"].value == 0.5


def test_training_on_the_test_nodes_chooses_no_epoch_without_a_score(task: NodeClassification) -> None:
    """``select = test`` reads the accuracy, which an epoch whose outputs are NaN does not have."""

    class Failing(Spoilt):
        epoch = 0

        def train(self, mode: bool = True) -> Failing:
            self.epoch += mode
            self.logit = math.nan if self.epoch in (0, 2) else 0.0
            return super().train(mode)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.unused

    recipe = Recipe(3, 0.1, 0.0, 5, select="test")
    rows = {row.metric: row.value for row in train(Failing(0.0), task, recipe, 0, "train")}
    assert rows["best_epoch"] == 1


def test_loss_sees_training_nodes_only(task: NodeClassification) -> None:
    (batch,) = task.batches(0)
    before = task.loss(Oracle(), batch)
    task.data.y[3:8] = 0
    assert torch.equal(task.loss(Oracle(), batch), before)


def test_a_class_without_training_nodes_is_refused() -> None:
    data = Data(x=torch.ones(6, 1), y=torch.tensor([0, 0, 1, 1, 2, 2]))
    with pytest.raises(TaskError, match="class 1, 2 has no training node, so it cannot be learnt; use another --seed"):
        NodeClassification(data, Split((0, 1), (2, 3), (4, 5)))
    data.y = torch.zeros(6, dtype=torch.long)
    with pytest.raises(TaskError, match="every node has the same label"):
        NodeClassification(data, Split((0, 1), (2, 3), (4, 5)))


def test_models_that_do_not_fit_are_refused(task: NodeClassification) -> None:
    task.check(Oracle())

    class Narrow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :2]

    class Raising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(7, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.lin(x)

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(
        TaskError, match=r"Narrow returns \[9, 2\] where node-classification needs logits \[9 nodes, 3 cl"
    ):
        task.check(Narrow())
    with pytest.raises(TaskError, match=r"Raising cannot take this data \(x \[9, 3\]\): RuntimeError: mat1 and mat2"):
        task.check(Raising())
    with pytest.raises(TaskError, match=r"Pair\.forward returns a tuple; it must return one tensor"):
        task.check(Pair())


def test_a_model_without_parameters_is_refused(task: NodeClassification) -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(3, 3)]

        def forward(self, x: Tensor) -> Tensor:
            return self.layers[0](x)

    with pytest.raises(TaskError, match=r"^Listed has no parameters to train; assign its layers to self .*$"):
        task.check(Listed())
    with pytest.raises(TaskError, match="Oracle has no parameters to train"):
        task.check(Oracle().requires_grad_(False))


def test_a_model_may_add_to_the_loss(task: NodeClassification) -> None:
    class Adding(Oracle):
        def auxiliary_loss(self) -> Tensor:
            return torch.tensor(5.0)

    (batch,) = task.batches(0)
    assert float(task.loss(Adding(), batch) - task.loss(Oracle(), batch)) == pytest.approx(5)
