"""A user's own training loop, loss and score, in tasks of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from gnncompress.errors import PruningError, TaskError, TrainingError, UsageError
from gnncompress.measurements import LINKS, OWN_METRIC
from gnncompress.models.convnet import GCN
from gnncompress.models.gin import GIN
from gnncompress.pruning.l2 import L2Regularization
from gnncompress.pruning.lottery import LotteryTicket
from gnncompress.pruning.magnitude import GlobalPruning
from gnncompress.quantization.method import Quantization
from gnncompress.tasks.base import Task
from gnncompress.tasks.graph_classification import GraphClassification
from gnncompress.tasks.making import make_task
from gnncompress.tasks.node_classification import NodeClassification
from gnncompress.tasks.own import OwnTask, with_own
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import Split, SplitSpec
from gnncompress.tasks.trainer import Trainer
from gnncompress.tasks.training import train

RECIPE = Recipe(epochs=3, learning_rate=0.05, weight_decay=0.25, patience=3, batch_size=4)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def nodes() -> Task:
    edges = torch.randint(0, 30, (2, 60), generator=generator())
    x = torch.rand(30, 6, generator=generator())
    data = Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=(x[:, 0] > 0.5).long())
    return NodeClassification(data, Split(tuple(range(20)), (20, 21, 22, 23, 24), (25, 26, 27, 28, 29)))


def graphs() -> Task:
    ring = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    found = [
        Data(x=torch.randn(4, 6, generator=torch.Generator().manual_seed(n)), edge_index=ring, y=torch.tensor([n % 2]))
        for n in range(16)
    ]
    return GraphClassification(found, Split(tuple(range(8)), (8, 9, 10, 11), (12, 13, 14, 15)))


def links() -> Task:
    edges = torch.randint(0, 30, (2, 90), generator=generator())
    data = Data(x=torch.randn(30, 6, generator=generator()), edge_index=edges, y=torch.zeros(30))
    return make_task(LINKS, [data], SplitSpec("random", 0, 0.2, 0.2))


class Embedding(nn.Module):
    """Embeddings that are a linear map of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin(x)


KINDS: dict[str, tuple[Callable[[], Task], Callable[[], nn.Module]]] = {
    "nodes": (nodes, lambda: GCN(6, 2, hidden=8, dropout=0.0)),
    "graphs": (graphs, lambda: GIN(6, 2, hidden=8)),
    "links": (links, Embedding),
}
ALL = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, seed: int = 0) -> tuple[Task, nn.Module]:
    task, model = KINDS[kind]
    torch.manual_seed(seed)
    return task(), model()


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Write a file of the user's, and return a reference to each function of it that is named."""

    def write(text: str, *names: str) -> dict[str, str]:
        (tmp_path / "mine.py").write_text(f"import torch\nfrom torch.nn import functional as F\n{text}")
        return {name: f"{tmp_path / 'mine.py'}:{name}" for name in names}

    return write


Own = Callable[..., dict[str, str]]
LOOP = """
CALLS = []
def train(model, batches, loss, validate, epochs, learning_rate, weight_decay, batch_size, seed, phase, data):
    CALLS.append((phase, epochs, learning_rate, weight_decay, batch_size, seed, model.training, type(data).__name__))
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for batch in batches():
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    score, value = validate(model)
    assert 0 <= score <= 1
"""


def weights(model: nn.Module) -> list[float]:
    return torch.cat([one.detach().flatten() for one in model.parameters()]).tolist()


def calls(task: Task) -> list[Any]:
    assert isinstance(task, OwnTask)
    found: list[Any] = task._functions["train"].__globals__["CALLS"]
    return found


def test_without_functions_it_is_the_task_itself() -> None:
    task, _ = made("nodes")
    assert with_own(task, {}) is task


@ALL
def test_what_is_not_the_users_is_the_tasks(kind: str, own: Own) -> None:
    task, model = made(kind)
    mine = with_own(task, own("def score(truth, outputs): return 2", "score"))
    for name in ("name", "features", "outputs", "items", "notes", "free_outputs", "data"):
        assert getattr(mine, name) is getattr(task, name) or getattr(mine, name) == getattr(task, name)
    assert mine.metric == OWN_METRIC
    mine.check(model)
    assert torch.equal(mine.example(model), task.example(model))
    torch.testing.assert_close(mine.inference(model)(), task.inference(model)(), rtol=0, atol=0)
    with pytest.raises(UsageError, match=r"batch_size 999"):
        mine.insist_on_batch(999)


@ALL
def test_an_own_loop_trains_and_fine_tunes(kind: str, own: Own) -> None:
    task, model = made(kind)
    before = weights(model)
    mine = with_own(task, own(LOOP, "train"))
    calls(mine).clear()
    plan = Trainer(mine, RECIPE, RECIPE.halved, 5, lambda seed: made(kind)[1])
    rows = plan.train(model)
    assert [(row.phase, row.metric, row.unit) for row in rows] == [("train", "duration", "s")]
    assert not model.training
    assert weights(model) != before
    again = made(kind)[1]
    plan.train(again)
    assert weights(again) == weights(model), "the same seed, the same weights"
    assert [row.phase for row in plan.finetune(model, 1.0)] == ["finetune"]
    data = "list" if kind == "graphs" else "Data"
    wanted = [(phase, epochs, 0.05, 0.25, 4, 5, True, data) for phase, epochs in (("train", 3), ("finetune", 1))]
    assert [calls(mine)[0], calls(mine)[-1]] == wanted


@ALL
def test_an_own_loss_is_what_is_minimized(kind: str, own: Own) -> None:
    task, model = made(kind)
    mine = with_own(task, own("def loss(model): return sum(p.square().sum() for p in model.parameters())", "loss"))
    assert mine.metric == task.metric
    (batch, *_) = mine.batches(4)
    assert mine.loss(model, batch).item() == pytest.approx(sum(value**2 for value in weights(model)), rel=1e-4)
    assert mine.validate(model) == task.validate(model), "which is judged by the task's loss"
    before = sum(value**2 for value in weights(model))
    train(model, mine, Recipe(20, 0.05, 0.0, 20, select="last"), 0, "train")
    assert sum(value**2 for value in weights(model)) < 0.5 * before


@ALL
def test_an_own_score_judges_and_chooses(kind: str, own: Own) -> None:
    task, model = made(kind)
    text = "def score(truth, outputs, data, model): return -float(((truth > 0) * 1.0).sum()) - len(outputs) / 1000"
    mine = with_own(task, own(text, "score"))
    test, validation = task.predictions(model), task.predictions(model, "validation")
    rows = {row.metric: row.value for row in mine.evaluate(model)}
    assert rows[OWN_METRIC] == pytest.approx(-float((test.truth > 0).sum()) - len(test.truth) / 1000)
    assert set(rows) == {row.metric for row in task.evaluate(model)} | {OWN_METRIC}
    score, loss = mine.validate(model)
    assert score == pytest.approx(-float((validation.truth > 0).sum()) - len(validation.truth) / 1000)
    assert loss == task.validate(model)[1]
    found = mine.predictions(model)
    assert np.array_equal(found.outputs, test.outputs)
    assert found.score(found.truth[:2], found.outputs[:2]) == pytest.approx(-float((test.truth[:2] > 0).sum()) - 0.002)


def test_the_epoch_is_chosen_by_the_own_score(own: Own) -> None:
    task, model = made("nodes")
    text = "COUNT = [0]\ndef score(truth, outputs):\n    COUNT[0] += 1\n    return [0, 1, 5, 2][COUNT[0] - 1]"
    rows = train(model, with_own(task, own(text, "score")), Recipe(3, 0.05, 0.0, 3), 0, "train")
    assert {row.metric: row.value for row in rows}["best_epoch"] == 2


@ALL
def test_an_own_loop_fine_tunes_under_masks(kind: str, own: Own) -> None:
    task, model = made(kind)
    mine = with_own(task, own(LOOP, "train"))
    calls(mine).clear()
    before = weights(model)
    plan = Trainer(mine, RECIPE, RECIPE, 0, lambda seed: made(kind)[1])
    result = GlobalPruning(sparsity=0.5, steps=2).apply(model, plan)
    rows = {(row.phase, row.metric): row.value for row in result.measurements if not row.layer}
    assert rows["compress", "sparsity"] == pytest.approx(0.5, abs=0.01)
    assert rows["finetune", "duration"] > 0
    assert [call[:2] for call in calls(mine)] == [("finetune", 2), ("finetune", 2)]
    assert any(new not in (old, 0) for new, old in zip(weights(model), before, strict=True)), "what is left was trained"


def test_a_loop_that_breaks_the_masks_is_noticed(own: Own) -> None:
    task, model = made("nodes")
    text = (
        "def train(model):\n"
        "    import gnncompress\n"
        "    gnncompress.make_permanent(model)\n"
        "    with torch.no_grad():\n"
        "        for one in model.parameters(): one.fill_(1)\n"
    )
    plan = Trainer(with_own(task, own(text, "train")), RECIPE, RECIPE, 0, lambda seed: made("nodes")[1])
    with pytest.raises(PruningError, match=r"layer .*: \d+ weights should be zero after pruning, but 0 of"):
        GlobalPruning(sparsity=0.5).apply(model, plan)


def test_every_method_trains_by_the_own_loop(own: Own) -> None:
    task, _ = made("nodes")
    mine = with_own(task, own(LOOP, "train"))
    plan = Trainer(mine, RECIPE, RECIPE, 0, lambda seed: made("nodes", seed)[1])
    for method, phase, decay in (
        (Quantization(scheme="qat-int8"), "finetune", 0.25),
        (L2Regularization(rate=0.125, sparsity=0.5), "finetune", 0.125),
        (LotteryTicket(round=1, rewind=1), "train", 0.25),
    ):
        calls(mine).clear()
        method.apply(made("nodes")[1], plan)
        assert {(call[0], call[3]) for call in calls(mine)} == {(phase, decay)}, method
    assert [call[1] for call in calls(mine)] == [1, 2], "rewinding: one epoch before, the rest after"


def test_a_penalty_of_a_method_is_added_to_an_own_loss(own: Own) -> None:
    task, model = made("nodes")
    text = "def loss(model, batch, data): return F.cross_entropy(model(data.x, data.edge_index)[batch], data.y[batch])"
    mine = with_own(task, own(text, "loss"))
    (batch,) = task.batches(0)
    assert torch.equal(mine.loss(model, batch), task.loss(model, batch))
    Quantization(scheme="a2q").prepared(model)
    task.loss(model.train(), batch)  # which makes its steps
    found, wanted = mine.loss(model, batch), task.loss(model, batch)
    assert found.item() == pytest.approx(wanted.item())
    plain = F.cross_entropy(model(task.data.x, task.data.edge_index)[batch], task.data.y[batch])
    assert found.item() > plain.item() + 1e-3, "A2Q's memory penalty"


def test_edges_may_be_pruned_with_an_own_loss(own: Own) -> None:
    task, model = made("nodes")
    text = (
        "def loss(model, batch, data):\n"
        "    return F.cross_entropy(model(x=data.x, edge_index=data.edge_index)[batch], data.y[batch])\n"
    )
    recipe = Recipe(2, 0.05, 0.0, 2, select="last")
    plan = Trainer(with_own(task, own(text, "loss")), recipe, None, 0, lambda seed: made("nodes", seed)[1])
    rows = {row.metric: row.value for row in LotteryTicket(round=1, edges=0.1).apply(model, plan).measurements}
    assert rows["edge_sparsity"] == pytest.approx(0.1, abs=0.01)


def test_a_file_that_changes_while_a_model_trains_changes_nothing(own: Own) -> None:
    task, model = made("nodes")
    mine = with_own(task, own("def loss(model): return next(model.parameters()).sum() * 0 + 1", "loss"))
    own("def loss(model): return next(model.parameters()).sum() * 0 + 2", "loss")
    assert mine.loss(model, None).item() == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("loss", "return 1.0", "mine.py:loss returns 1.0; it must return a tensor of one number"),
        ("loss", "return None", "mine.py:loss returns a NoneType; it must return a tensor of one number"),
        ("loss", "return torch.ones(2)", "mine.py:loss returns a Tensor; it must return a tensor of one number"),
        ("score", "return None", "mine.py:score returns a NoneType; it must return a finite number"),
        ("score", "return 'good'", "mine.py:score returns a str; it must return a finite number"),
        ("score", "return float('nan')", "mine.py:score returns nan; it must return a finite number"),
        ("score", "return torch.ones(2)", "mine.py:score returns a Tensor; it must return a finite number"),
        (
            "train",
            "return torch.nn.Linear(1, 1)",
            "mine.py:train returns another model; train the one that it is given, in place",
        ),
        ("loss", "raise ValueError('no\\nway')", "mine.py:loss raised ValueError: no way (mine.py, line 4)"),
        ("score", "return [][0]", "mine.py:score raised IndexError: list index out of range (mine.py, line 4)"),
        ("train", "raise SystemExit(3)", "mine.py:train raised SystemExit: 3 (mine.py, line 4)"),
        ("train", "return model(1)", "mine.py:train raised "),
    ],
)
@ALL
def test_what_goes_wrong_in_them_is_one_line(kind: str, name: str, text: str, message: str, own: Own) -> None:
    task, model = made(kind)
    mine = with_own(task, own(f"def {name}({'truth' if name == 'score' else 'model'}):\n    {text}", name))
    act: dict[str, Callable[[], object]] = {
        "loss": lambda: train(model, mine, RECIPE, 0, "train"),
        "score": lambda: mine.validate(model),
        "train": lambda: Trainer(mine, RECIPE, None, 0, lambda seed: model).train(model),
    }
    with pytest.raises(UsageError) as caught:
        act[name]()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_score_is_checked_wherever_it_is_asked_for(own: Own) -> None:
    task, model = made("nodes")
    mine = with_own(task, own("def score(truth): return float('inf')", "score"))
    found = mine.predictions(model)
    for ask in (lambda: mine.evaluate(model), lambda: found.score(found.truth, found.outputs)):
        with pytest.raises(UsageError, match="returns inf; it must return a finite number"):
            ask()


@pytest.mark.parametrize(
    ("name", "offered"),
    [
        (
            "train",
            "model, data, batches, loss, validate, epochs, learning_rate, weight_decay, batch_size, seed, phase",
        ),
        ("loss", "model, batch, data"),
        ("score", "truth, outputs, model, data"),
    ],
)
def test_arguments_that_are_not_offered(name: str, offered: str, own: Own) -> None:
    task, model = made("nodes")
    mine = with_own(task, own(f"def {name}(model, optimiser, teacher, more=1): ...", name))
    act: dict[str, Callable[[], object]] = {
        "train": lambda: Trainer(mine, RECIPE, None, 0, lambda seed: model).train(model),
        "loss": lambda: mine.loss(model, None),
        "score": lambda: mine.validate(model),
    }
    with pytest.raises(UsageError) as caught:
        act[name]()
    assert str(caught.value).endswith(f"mine.py:{name} wants optimiser, teacher; it may take any of: {offered}")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{file}:nothing", "has no 'nothing'; it has: loss"),
        ("{file}:VALUE", "'VALUE' is a int, not a function or class"),
        ("{file}", "name a function in it, such as"),
        ("{file}x.py:loss", "no such file as"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_trained(reference: str, message: str, own: Own) -> None:
    file = own("VALUE = 1\ndef loss(model): ...", "loss")["loss"].rpartition(":")[0]
    with pytest.raises(UsageError, match=r"mine\.py") as caught:
        with_own(made("nodes")[0], {"loss": reference.format(file=file)})
    assert message in str(caught.value)


def test_a_loss_that_is_not_finite_ends_the_training(own: Own) -> None:
    task, model = made("nodes")
    mine = with_own(task, own("def loss(model): return next(model.parameters()).sum() * torch.nan", "loss"))
    with pytest.raises(TrainingError, match="train: the loss is nan at epoch 1"):
        train(model, mine, RECIPE, 0, "train")


def test_errors_of_the_package_stay_what_they_are(own: Own) -> None:
    task, model = made("nodes")
    text = "def score(model, data):\n    from gnncompress.errors import TaskError\n    raise TaskError('as it is')"
    with pytest.raises(TaskError, match=r"^as it is$"):
        with_own(task, own(text, "score")).validate(model)
