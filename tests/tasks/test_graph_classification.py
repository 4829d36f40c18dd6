from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnncompress.errors import TaskError
from gnncompress.tasks.graph_classification import GraphClassification, MultilabelGraphClassification
from gnncompress.tasks.splits import Split

NAN = math.nan


def graph(value: float, y: Tensor, nodes: int = 2) -> Data:
    edges = torch.tensor([[0, 1], [1, 0]])
    return Data(x=torch.full((nodes, 3), value), edge_index=edges, y=y)


class Mean(nn.Module):
    """Logits that are the mean of a graph's features."""

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        size = int(batch.max()) + 1
        total = x.new_zeros(size, x.size(1)).index_add_(0, batch, x)
        return total / torch.bincount(batch).unsqueeze(1)


class Coded(Mean):
    """Logits that favour class 0 where the features are negative, class 1 where they are positive."""

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        value = super().forward(x, batch)[:, :1]
        return torch.cat([-value, value], dim=1)


@pytest.fixture
def task() -> GraphClassification:
    labels = [0, 1, 0, 0, 1, 0, 1, 1, 0]
    values = [-1, 1, -1, -1, 1, -1, 1, -1, 1]
    graphs = [graph(value, torch.tensor([label]), nodes=2 + label) for value, label in zip(values, labels, strict=True)]
    return GraphClassification(graphs, Split((0, 1, 2), (3, 4), (5, 6, 7, 8)))


def test_scores_by_hand(task: GraphClassification) -> None:
    scores = {row.metric: row.value for row in task.evaluate(Coded())}
    # test truth 0 1 1 0, predicted 0 1 0 1; the majority of the training graphs is class 0
    assert scores["accuracy"] == 0.5
    assert scores["majority_accuracy"] == 0.5
    assert scores["roc_auc"] == 0.5
    assert scores["loss"] == pytest.approx((2 * math.log1p(math.exp(-2)) + 2 * math.log1p(math.exp(2))) / 4)
    assert task.validate(Coded()) == (1.0, pytest.approx(math.log1p(math.exp(-2))))
    assert (task.features, task.outputs, task.items) == (3, 2, 4)


def test_an_epoch_sees_every_training_graph_once_in_a_new_order() -> None:
    graphs = [graph(float(index), torch.tensor([index % 2])) for index in range(40)]
    task = GraphClassification(graphs, Split(tuple(range(30)), tuple(range(30, 35)), tuple(range(35, 40))))
    torch.manual_seed(0)
    epochs = [[batch.x[batch.ptr[:-1], 0].tolist() for batch in task.batches(8)] for _ in range(2)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [8, 8, 8, 6]
        assert sorted(value for batch in batches for value in batch) == list(range(30))
    assert epochs[0] != epochs[1]
    (whole,) = task.batches(0)
    assert whole.num_graphs == 30


def test_loss_is_cross_entropy(task: GraphClassification) -> None:
    (batch,) = task.batches(0)
    assert float(task.loss(Coded(), batch)) == pytest.approx(math.log1p(math.exp(-2)))


def test_models_that_do_not_fit_are_refused(task: GraphClassification) -> None:
    class Nodes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :2]

    task.check(Coded())
    with pytest.raises(TaskError, match=r"Nodes returns a row a node; graph-classification needs a row a graph: pool"):
        task.check(Nodes())
    with pytest.raises(
        TaskError, match=r"Mean returns \[2, 3\] where graph-classification needs logits \[2 graphs, 2 o"
    ):
        task.check(Mean())


def test_a_class_without_training_graphs_is_refused() -> None:
    graphs = [graph(1.0, torch.tensor([label])) for label in (0, 0, 1, 1)]
    with pytest.raises(TaskError, match="class 1 has no training graph"):
        GraphClassification(graphs, Split((0, 1), (2,), (3,)))


@pytest.fixture
def labels() -> MultilabelGraphClassification:
    rows = [[0, 1, 0], [1, 0, 1], [NAN, 1, NAN], [0, NAN, 1], [1, 1, NAN], [0, 0, NAN], [1, NAN, NAN]]
    graphs = [graph(float(index), torch.tensor([row])) for index, row in enumerate(rows)]
    return MultilabelGraphClassification(graphs, Split((0, 1, 2), (3,), (4, 5, 6)))


def test_missing_labels_count_neither_in_loss_nor_in_scores(labels: MultilabelGraphClassification) -> None:
    (batch,) = labels.batches(0)
    logits = batch.x[batch.ptr[:-1]].clone().requires_grad_()
    loss = labels.criterion(logits, batch.y)
    known = ~batch.y.isnan()
    chance = torch.sigmoid(logits[known])
    expected = -torch.where(batch.y[known] == 1, chance.log(), (1 - chance).log()).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (logits.grad[~known] == 0).all()
    scores = {row.metric: row for row in labels.evaluate(Mean())}
    # Test labels: 1 0 1 with logits 4 5 6 for the first, 1 0 with 4 5 for the second, none known for the third.
    assert scores["roc_auc"].value == pytest.approx((0.5 + 0.0) / 2)
    assert scores["accuracy"].value == pytest.approx(3 / 5)
    assert math.isfinite(scores["loss"].value)  # type: ignore[arg-type]


def test_a_batch_without_labels_has_no_loss(labels: MultilabelGraphClassification) -> None:
    logits = torch.ones(2, 3, requires_grad=True)
    loss = labels.criterion(logits, torch.full((2, 3), NAN))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_a_label_that_cannot_be_learnt_is_refused() -> None:
    graphs = [graph(1.0, torch.tensor([[0.0, 1.0]])), graph(1.0, torch.tensor([[1.0, NAN]]))] * 2
    with pytest.raises(TaskError, match="label 1 does not have both values among the training graphs"):
        MultilabelGraphClassification(graphs, Split((0, 1), (2,), (3,)))
