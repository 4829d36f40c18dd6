from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnncompress.errors import TaskError, TrainingError
from gnncompress.tasks.graph_classification import GraphClassification, MultilabelGraphClassification
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import Split
from gnncompress.tasks.training import train

NAN = math.nan


def graph(value: float, y: Tensor, nodes: int = 2) -> Data:
    edges = torch.tensor([[0, 1], [1, 0]])
    return Data(x=torch.full((nodes, 3), value), edge_index=edges, y=y)


class Mean(nn.Module):
    """Logits that are the mean of a graph's features."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

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
    assert scores["majority_accuracy"] == scores["constant_accuracy"] == 0.5
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


def test_a_graph_left_over_joins_the_batch_before_it() -> None:
    graphs = [graph(float(index), torch.tensor([index % 2])) for index in range(40)]
    task = GraphClassification(graphs, Split(tuple(range(33)), tuple(range(33, 36)), tuple(range(36, 40))))
    torch.manual_seed(0)
    order = torch.randperm(33)
    torch.manual_seed(0)
    batches = list(task.batches(16))
    assert [batch.num_graphs for batch in batches] == [16, 17]
    assert torch.cat([batch.x[batch.ptr[:-1], 0] for batch in batches]).tolist() == order.tolist()
    assert [batch.num_graphs for batch in task.batches(1)] == [1] * 33
    assert [batch.num_graphs for batch in task.batches(11)] == [11] * 3

    class Normalizing(Coded):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x: Tensor, batch: Tensor) -> Tensor:
            return self.norm(super().forward(x, batch))

    train(Normalizing(), task, Recipe(1, 1e-3, 0.0, 1, batch_size=32), 0, "train")


def test_a_model_without_parameters_is_refused(
    task: GraphClassification, labels: MultilabelGraphClassification
) -> None:
    for fitting, model in ((task, Coded()), (labels, Mean())):
        del model.unused
        with pytest.raises(TaskError, match=f"{type(model).__name__} has no parameters to train"):
            fitting.check(model)


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


def test_what_cannot_be_scored_is_unavailable_and_never_0() -> None:
    labels = [0, 1, 2, 0, 1, 2, 0, 1]
    graphs = [graph(float(index), torch.tensor([label])) for index, label in enumerate(labels)]
    task = GraphClassification(graphs, Split((0, 1, 2), (3, 4, 5), (6, 7)))  # class 2 is not in the test set
    scores = {row.metric: row for row in task.evaluate(Mean())}
    for metric in ("roc_auc", "constant_roc_auc", "majority_roc_auc"):
        assert (scores[metric].value, scores[metric].source) == (None, "unavailable")
    assert scores["accuracy"].source == "measured"


def test_more_graphs_than_one_evaluation_batch() -> None:
    graphs = [graph(1.0 if index % 3 else -1.0, torch.tensor([int(index % 3 > 0)])) for index in range(1300)]
    task = GraphClassification(graphs, Split(tuple(range(10)), tuple(range(10, 610)), tuple(range(610, 1300))))
    assert task.validate(Coded())[0] == 1
    assert {row.metric: row.value for row in task.evaluate(Coded())}["accuracy"] == 1
    logits = task.inference(Coded())()
    assert [len(part) for part in logits] == [512, 178]  # type: ignore[attr-defined]


def test_a_model_may_add_to_the_loss(task: GraphClassification) -> None:
    class Adding(Coded):
        def auxiliary_loss(self) -> Tensor:
            return torch.tensor(5.0)

    (batch,) = task.batches(0)
    assert float(task.loss(Adding(), batch) - task.loss(Coded(), batch)) == pytest.approx(5)


def test_batches_are_determined_by_torchs_seed(task: GraphClassification) -> None:
    def draw() -> list[list[float]]:
        torch.manual_seed(3)
        return [batch.y.tolist() for batch in task.batches(2)]

    assert draw() == draw()


def test_multilabel_models_that_do_not_fit_are_refused(labels: MultilabelGraphClassification) -> None:
    class Nodes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    labels.check(Mean())
    with pytest.raises(TaskError, match="Nodes returns a row a node; multilabel-graph-classification needs a row"):
        labels.check(Nodes())
    with pytest.raises(TaskError, match=r"Coded returns \[2, 2\] where .* needs logits \[2 graphs, 3 outputs\]"):
        labels.check(Coded())


def test_multilabel_loss_and_baseline_by_hand(labels: MultilabelGraphClassification) -> None:
    scores = {row.metric: row for row in labels.evaluate(Mean())}
    # Known test labels are 1 0 1 with logits 4 5 6, and 1 0 with logits 4 5.
    losses = [math.log1p(math.exp(value)) for value in (-4, 5, -6, -4, 5)]
    assert scores["loss"].value == pytest.approx(sum(losses) / 5, rel=1e-5)
    # More frequent in training: 0 of {0, 1} (a tie), 1 of {1, 0, 1}, 0 of {0, 1} (a tie): right for 0 and 1.
    assert scores["majority_accuracy"].value == pytest.approx(2 / 5)
    assert scores["majority_roc_auc"].value == 0.5
    # More frequent among the known test labels: 1 of {1, 0, 1}, 0 of {1, 0} (a tie): right for 2 and 1.
    assert scores["constant_accuracy"].value == pytest.approx(3 / 5)
    assert scores["constant_roc_auc"].value == 0.5
    assert scores["constant_average_precision"].value == scores["majority_average_precision"].value
    assert scores["average_precision"].value == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)


def unknown_but_for(first: range) -> list[Data]:
    values = [float(index % 2) if index in first else NAN for index in range(12)]
    return [graph(float(index), torch.tensor([[value]])) for index, value in enumerate(values)]


def test_test_graphs_without_any_label_have_no_loss() -> None:
    task = MultilabelGraphClassification(unknown_but_for(range(8)), Split((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)))

    class One(Mean):
        def forward(self, x: Tensor, batch: Tensor) -> Tensor:
            return super().forward(x, batch)[:, :1]

    for row in task.evaluate(One()):
        if row.metric == "predicted_classes":  # needs no label
            continue
        assert (row.value, row.source) == (None, "unavailable"), row.metric


def test_validation_graphs_without_any_label_are_refused() -> None:
    # Every model would validate alike, so that the untrained one would be kept.
    with pytest.raises(TaskError, match="validation"):
        MultilabelGraphClassification(unknown_but_for(range(8)), Split((0, 1, 2, 3), (8, 9), (4, 5, 6, 7)))


class Spoilt(nn.Module):
    """Returns logits of which one is NaN or infinite."""

    def __init__(self, width: int, logit: float) -> None:
        super().__init__()
        self.width, self.logit = width, logit

    def forward(self, x: Tensor, batch: Tensor) -> Tensor:
        logits = torch.zeros(int(batch.max()) + 1, self.width)
        logits[0, 0] = self.logit
        return logits


@pytest.mark.parametrize("logit", [NAN, math.inf])
def test_outputs_that_are_not_finite_have_no_scores(logit: float) -> None:
    graphs = [graph(float(index), torch.tensor([index % 2])) for index in range(9)]
    task = GraphClassification(graphs, Split((0, 1, 2), (3, 4, 5), (6, 7, 8)))
    missing = {row.metric for row in task.evaluate(Spoilt(2, logit)) if row.source == "unavailable"}
    assert missing == {"loss", "predicted_classes", "accuracy", "f1_macro", "roc_auc"}
    said = task.predictions(Spoilt(2, logit))
    assert said.score(said.truth, said.outputs) is None


def test_multilabel_outputs_that_are_nan_have_no_scores() -> None:
    graphs = [graph(float(index), torch.tensor([[float(index % 2)] * 3])) for index in range(9)]
    task = MultilabelGraphClassification(graphs, Split((0, 1, 2), (3, 4, 5), (6, 7, 8)))
    missing = {row.metric for row in task.evaluate(Spoilt(3, NAN)) if row.source == "unavailable"}
    assert missing == {"loss", "predicted_classes", "accuracy", "roc_auc", "average_precision"}
    assert "unavailable" not in {row.source for row in task.evaluate(Spoilt(3, 1.0))}


def test_multilabel_logits_that_are_not_finite_stop_the_run_in_one_line() -> None:
    # The first step is finite, the logits after it are not: what validates them must not raise.
    graphs = [graph(float(index), torch.tensor([[float(index % 2)] * 3])) for index in range(9)]
    labels = MultilabelGraphClassification(graphs, Split((0, 1, 2), (3, 4, 5), (6, 7, 8)))

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(3, 3)
            self.mean = Mean()

        def forward(self, x: Tensor, batch: Tensor) -> Tensor:
            y = self.lin(self.mean(x, batch))
            return y**3 - (y**3).mean(1, keepdim=True)  # infinite less infinite is NaN

    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at epoch 2"):
        train(Linear(), labels, Recipe(5, 1e30, 0.0, 5), 0, "train")
