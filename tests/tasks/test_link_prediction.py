from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnncompress.errors import TaskError, TrainingError
from gnncompress.measurements import LINKS
from gnncompress.tasks.link_prediction import LinkPrediction
from gnncompress.tasks.links import LinkSplit, undirected_pairs
from gnncompress.tasks.making import make_task
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import SplitSpec
from gnncompress.tasks.training import train


class Embedding(nn.Module):
    """Embeddings that are a linear map of the features."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.lin = nn.Linear(12, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin(x)


@pytest.fixture
def data() -> Data:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(0, 30, (2, 90), generator=generator)
    return Data(x=torch.randn(30, 12, generator=generator), edge_index=edges, y=torch.zeros(30))


@pytest.fixture
def task(data: Data) -> LinkPrediction:
    made = make_task(LINKS, [data], SplitSpec("random", 0, 0.1, 0.2))
    assert isinstance(made, LinkPrediction)
    return made


def pairs_of(edges: Tensor) -> set[tuple[int, int]]:
    return {(min(i, j), max(i, j)) for i, j in edges.t().tolist()}


def test_held_back_edges_are_in_no_message(task: LinkPrediction, data: Data) -> None:
    everything = {(int(i), int(j)) for i, j in undirected_pairs(data.edge_index.numpy()).T}
    seen = pairs_of(task.data.edge_index)
    assert task.data.is_undirected()
    assert seen == pairs_of(task.train_edges)
    held = everything - seen
    assert len(held) == int(0.1 * len(everything)) + int(0.2 * len(everything))
    assert task.items == 2 * int(0.2 * len(everything))


def test_loss_by_a_slow_version(task: LinkPrediction) -> None:
    torch.manual_seed(0)
    model = Embedding()
    ((edges, negatives),) = task.batches(0)
    z = model(task.data.x).detach().numpy().astype(float)

    def chance(i: int, j: int) -> float:
        return float(1 / (1 + np.exp(-(z[i] @ z[j]))))

    expected = -np.mean([np.log(chance(i, j)) for i, j in edges.t().tolist()])
    expected -= np.mean([np.log(1 - chance(i, j)) for i, j in negatives.t().tolist()])
    assert task.loss(model, (edges, negatives)).item() == pytest.approx(expected, rel=1e-5)


def test_non_edges_are_drawn_anew_from_torchs_seed(task: LinkPrediction) -> None:
    def draw() -> list[tuple[Tensor, Tensor]]:
        return list(task.batches(16))

    torch.manual_seed(0)
    one, two = draw(), draw()
    torch.manual_seed(0)
    again = draw()
    assert all(
        torch.equal(a, b) for left, right in zip(one, again, strict=True) for a, b in zip(left, right, strict=True)
    )
    assert not torch.equal(one[0][1], two[0][1])
    edges = torch.cat([part for part, _ in one], dim=1)
    negatives = torch.cat([part for _, part in one], dim=1)
    assert [part.size(1) for part, _ in one][:-1] == [16] * (len(one) - 1)
    assert pairs_of(edges) == pairs_of(task.train_edges)
    assert edges.shape == negatives.shape
    assert not pairs_of(negatives) & pairs_of(task.train_edges)


def test_three_forms_of_a_model_agree(task: LinkPrediction) -> None:
    torch.manual_seed(0)
    embedding = Embedding()

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = embedding

        def forward(self, x: Tensor, edge_label_index: Tensor) -> Tensor:
            z = self.inner(x)
            return (z[edge_label_index[0]] * z[edge_label_index[1]]).sum(1)

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = embedding

        def forward(self, x: Tensor) -> Tensor:
            z = self.inner(x)
            return torch.stack([z, z, z]) if self.training else z

    models = [embedding, Logits(), Views()]
    (batch,) = task.batches(0)
    losses = [float(task.loss(model.train(), batch)) for model in models]
    assert losses == pytest.approx([losses[0]] * 3)
    scores = [[row.value for row in task.evaluate(model)] for model in models]
    assert scores[1] == pytest.approx(scores[0])
    assert scores[2] == pytest.approx(scores[0])
    for model in models:
        task.check(model)
        with torch.no_grad():
            assert task.inference(model.eval())().shape == (task.items,)  # type: ignore[attr-defined]


def test_threshold_is_chosen_on_validation(task: LinkPrediction) -> None:
    torch.manual_seed(0)
    model = Embedding().eval()
    scores = {row.metric: row.value for row in task.evaluate(model)}
    with torch.no_grad():
        z = model(task.data.x)
    pairs, truth = task._validation
    logits = (z[pairs[0]] * z[pairs[1]]).sum(1).numpy()
    best = max(float(((logits >= t) == truth).mean()) for t in (*logits, np.inf))
    assert float(((logits >= scores["threshold"]) == truth).mean()) == pytest.approx(best)
    pairs, truth = task._test
    logits = (z[pairs[0]] * z[pairs[1]]).sum(1).numpy()
    assert scores["accuracy"] == pytest.approx(((logits >= scores["threshold"]) == truth).mean())
    for which in ("constant", "majority"):
        assert {scores[f"{which}_{metric}"] for metric in ("roc_auc", "average_precision", "accuracy")} == {0.5}


def test_wrong_shapes_are_refused(task: LinkPrediction) -> None:
    class Short(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:3]

    class Wide(nn.Module):
        def forward(self, x: Tensor, edge_label_index: Tensor) -> Tensor:
            return x

    with pytest.raises(TaskError, match=r"Short returns \[3, 12\] where link-prediction needs embeddings \[30 nodes"):
        task.check(Short())
    with pytest.raises(TaskError, match=r"Wide returns \[30, 12\] where link-prediction needs logits \[2 pairs\]"):
        task.check(Wide())


def test_graphs_with_too_few_edges_are_refused(data: Data) -> None:
    data.edge_index = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(TaskError, match="the graph has no edges; there are no links to predict"):
        make_task(LINKS, [data], SplitSpec("random", 0))
    data.edge_index = torch.tensor([[0, 1, 2], [1, 2, 3]])
    with pytest.raises(TaskError, match=r"3 edges are too few to hold back 0\.1 and 0\.1 of them"):
        make_task(LINKS, [data], SplitSpec("random", 0))
    data = Data(x=torch.ones(4, 1), edge_index=torch.combinations(torch.arange(4)).t())
    with pytest.raises(TaskError, match="random split: 2 pairs without an edge are wanted, the graph has 0"):
        make_task(LINKS, [data], SplitSpec("random", 0, 1, 1))


def test_nothing_of_the_held_back_edges_reaches_the_model(data: Data) -> None:
    data.edge_attr = torch.randn(90, 2)
    made = make_task(LINKS, [data], SplitSpec("random", 3, 5, 7), transforms=("target_indegree",))
    assert isinstance(made, LinkPrediction)
    held = {pair for labelled in (made._validation, made._test) for pair in pairs_of(labelled[0][:, labelled[1] == 1])}
    assert len(held) == 12
    directed = set(map(tuple, made.data.edge_index.t().tolist()))
    for i, j in held:
        assert (i, j) not in directed
        assert (j, i) not in directed
    # Transforms see the training graph only: degrees of the whole graph would tell of the held-back edges.
    degree = torch.bincount(made.data.edge_index[1], minlength=30).float()
    expected = degree[made.data.edge_index[1]] / degree.max()
    torch.testing.assert_close(made.data.edge_attr.flatten(), expected)
    assert "y" not in made.data


def test_different_views_have_the_mean_of_their_losses(task: LinkPrediction) -> None:
    torch.manual_seed(0)
    first, second = Embedding(), Embedding()

    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([first(x), second(x)])

    (batch,) = task.batches(0)
    each = [task.loss(model, batch).item() for model in (first, second)]
    assert each[0] != pytest.approx(each[1])
    assert task.loss(Views(), batch).item() == pytest.approx(sum(each) / 2)
    with pytest.raises(TaskError, match=r"Views returns \[2, 30, 6\] where link-prediction needs embeddings"):
        task.check(Views())


def test_accuracy_by_hand() -> None:
    # Embeddings are points on a line, so a pair's logit is the product of two known numbers.
    split = LinkSplit(
        train=np.array([[0], [1]]),
        validation=np.array([[0, 0], [2, 3]]),
        test=np.array([[1, 1], [2, 3]]),
        validation_negatives=np.array([[0, 0], [4, 5]]),
        test_negatives=np.array([[1, 1], [4, 5]]),
    )
    x = torch.tensor([[1.0], [2.0], [3.0], [2.0], [1.0], [-1.0]])
    graph = Data(x=x, edge_index=torch.tensor([[0, 1], [1, 0]]))
    made = LinkPrediction(graph, split)

    class Line(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    scores = {row.metric: row.value for row in made.evaluate(Line())}
    # Validation logits: links 3 2, others 1 -1, so 2 parts them; test logits: links 6 4, others 2 -2: one is wrong.
    assert scores["threshold"] == 2
    assert scores["accuracy"] == 0.75
    assert scores["f1_macro"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores["roc_auc"] == scores["average_precision"] == 1
    expected = sum(math.log1p(math.exp(-value)) for value in (6, 4, -2, 2)) / 4
    assert scores["loss"] == pytest.approx(expected)
    assert scores["constant_f1_macro"] == scores["majority_f1_macro"] == pytest.approx(1 / 3)
    assert made.validate(Line()) == (1.0, pytest.approx(sum(math.log1p(math.exp(-v)) for v in (3, 2, -1, 1)) / 4))


def test_a_threshold_that_calls_nothing_a_link_is_used() -> None:
    # Validation logits: a link -1, others 3 3, so that calling nothing a link is best; test logits are all below 3.
    split = LinkSplit(
        train=np.array([[0], [1]]),
        validation=np.array([[0], [5]]),
        test=np.array([[0, 0], [1, 2]]),
        validation_negatives=np.array([[0, 0], [2, 3]]),
        test_negatives=np.array([[0, 0], [4, 5]]),
    )
    x = torch.tensor([[1.0], [2.0], [3.0], [3.0], [1.0], [-1.0]])
    made = LinkPrediction(Data(x=x, edge_index=torch.tensor([[0, 1], [1, 0]])), split)

    class Line(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    scores = {row.metric: row.value for row in made.evaluate(Line())}
    assert scores["threshold"] == np.nextafter(3, 4)
    assert scores["accuracy"] == 0.5
    assert scores["f1_macro"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_logits_that_are_not_finite_have_no_scores(task: LinkPrediction, factor: float) -> None:
    class Infinite(Embedding):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * factor

    rows = {row.metric: row for row in task.evaluate(Infinite())}
    missing = {name for name, row in rows.items() if row.source == "unavailable"}
    of_outputs = {"loss", "threshold", "predicted_classes", "accuracy", "f1_macro", "roc_auc", "average_precision"}
    assert missing == of_outputs
    assert rows["constant_accuracy"].value == 0.5


def test_without_a_threshold_pairs_are_ranked_but_not_called_links(
    task: LinkPrediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where only the validation logits are not finite."""
    monkeypatch.setattr(task, "_threshold", lambda model: None)
    missing = {row.metric for row in task.evaluate(Embedding()) if row.source == "unavailable"}
    assert missing == {"threshold", "predicted_classes", "accuracy", "f1_macro"}


def test_the_measured_call_gets_pairs_that_are_there_already(
    task: LinkPrediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    class Logits(Embedding):
        def forward(self, x: Tensor, edge_label_index: Tensor) -> Tensor:  # type: ignore[override]
            given.append((x, edge_label_index))
            return x[edge_label_index[0], 0]

    call = task.inference(Logits())
    monkeypatch.setattr(LinkPrediction, "_given", None)
    call()
    call()
    assert all(x is task.data.x and pairs is task._test[0] for x, pairs in given)
    assert len(given) == 2
    assert "edge_label_index" not in task.data


def test_a_model_without_parameters_is_refused(task: LinkPrediction) -> None:
    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(TaskError, match="Bare has no parameters to train"):
        task.check(Bare())


def test_test_pairs_do_not_move_the_threshold(task: LinkPrediction) -> None:
    torch.manual_seed(0)
    model = Embedding()
    before = {row.metric: row.value for row in task.evaluate(model)}
    pairs, truth = task._test
    task._test = (pairs, 1 - truth)
    after = {row.metric: row.value for row in task.evaluate(model)}
    assert after["threshold"] == before["threshold"]
    assert after["accuracy"] == pytest.approx(1 - before["accuracy"])
    assert after["roc_auc"] == pytest.approx(1 - before["roc_auc"])


def test_a_graph_too_dense_to_train_on_is_refused() -> None:
    # 40 of 45 pairs are edges: enough are none for the held-back ones, too few for the training edges.
    edges = torch.combinations(torch.arange(10)).t()[:, :40]
    with pytest.raises(TaskError, match="pairs without an edge are wanted"):
        make_task(LINKS, [Data(x=torch.eye(10), edge_index=edges)], SplitSpec("random", 0, 2, 2))


def test_embeddings_that_are_not_finite_stop_the_run_in_one_line(task: LinkPrediction) -> None:
    # The first step is finite, the embeddings after it are not: what validates them must not raise.
    with pytest.raises(TrainingError, match="the loss is nan at epoch 2"):
        train(Embedding(), task, Recipe(5, 1e30, 0.0, 5), 0, "train")
