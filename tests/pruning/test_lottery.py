from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

import gnncompress
from gnncompress.errors import PruningError, UsageError
from gnncompress.experiments.lottery import lottery_chains
from gnncompress.experiments.resolve import MeasureChoices, WorkloadChoices
from gnncompress.experiments.stages import Chain
from gnncompress.models.convnet import GCN
from gnncompress.pruning.lottery import LotteryTicket
from gnncompress.tasks import training
from gnncompress.tasks.node_classification import NodeClassification
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import Split
from gnncompress.tasks.trainer import Trainer

RECIPE = Recipe(epochs=6, learning_rate=0.05, weight_decay=0.0, patience=6, select="last")


def task() -> NodeClassification:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(0, 30, (2, 60), generator=generator)
    x = torch.rand(30, 6, generator=generator)
    data = Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=(x[:, 0] > 0.5).long())
    return NodeClassification(data, Split(tuple(range(20)), (20, 21, 22, 23, 24), (25, 26, 27, 28, 29)))


def build(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return GCN(6, 2, hidden=8, dropout=0.0)


def trainer(**changes: Any) -> Trainer:
    return Trainer(task(), replace(RECIPE, **changes), None, 0, build)


class Untrained(Trainer):
    """Trains nothing, so that what is trained can be seen."""

    def train(self, model: nn.Module, **changes: Any) -> list[Any]:
        return []


def dense() -> nn.Module:
    model = build(0)
    trainer().train(model)
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.named_parameters() if tensor.dim() > 1}


def test_each_round_leaves_four_fifths() -> None:
    model = dense()
    total = sum(tensor.numel() for tensor in weights(model).values())
    for number in range(1, 6):
        before = {name: tensor == 0 for name, tensor in weights(model).items()}
        model = LotteryTicket(round=number).apply(model, trainer()).model
        left = sum(int(tensor.count_nonzero()) for tensor in weights(model).values())
        assert left == total - round((1 - 0.8**number) * total)
        for name, tensor in weights(model).items():
            assert not tensor[before[name]].any(), "what was pruned stays pruned"


def test_a_ticket_is_the_smallest_weights_gone_and_the_rest_rewound() -> None:
    trained = dense()
    ticket = LotteryTicket(round=1, rate=0.5).apply(trained, Untrained(task(), RECIPE, None, 0, build)).model
    initial = build(0)
    flat = torch.cat([tensor.abs().flatten() for tensor in weights(trained).values()])
    threshold = flat.sort().values[len(flat) // 2]
    for name, tensor in weights(ticket).items():
        keep = weights(trained)[name].abs() >= threshold
        assert torch.equal(tensor, torch.where(keep, weights(initial)[name], torch.zeros(())))


def test_rewinding_returns_to_the_dense_model_of_that_epoch() -> None:
    early = build(0)
    trainer().train(early, epochs=2)

    class FirstOnly(Trainer):
        def train(self, model: nn.Module, **changes: Any) -> list[Any]:
            if changes.get("select") == "last":
                return super().train(model, **changes)
            assert changes == {"start": 2}
            return []

    ticket = LotteryTicket(round=1, rate=0.5, rewind=2).apply(dense(), FirstOnly(task(), RECIPE, None, 0, build)).model
    for name, tensor in weights(ticket).items():
        assert torch.equal(tensor[tensor != 0], weights(early)[name][tensor != 0])
    assert not torch.equal(weights(early)["convs.0.lin.weight"], weights(build(0))["convs.0.lin.weight"])


def test_controls() -> None:
    ticket = LotteryTicket(round=1, rate=0.5).apply(dense(), trainer()).model
    untrained = Untrained(task(), RECIPE, None, 0, build)
    reinit = LotteryTicket(round=1, arm="reinit", rate=0.5).apply(copy.deepcopy(ticket), untrained).model
    random = LotteryTicket(round=1, arm="random", rate=0.5).apply(copy.deepcopy(ticket), untrained).model
    again = LotteryTicket(round=1, arm="random", rate=0.5).apply(copy.deepcopy(ticket), untrained).model
    initial = weights(build(0))
    for name, tensor in weights(ticket).items():
        alive = tensor != 0
        assert torch.equal(weights(reinit)[name] != 0, alive), "the same mask"
        assert not torch.isin(weights(reinit)[name][alive], initial[name]).any(), "another initialization"
        drawn = weights(random)[name]
        assert int(drawn.count_nonzero()) == int(alive.sum()), "as many in each layer"
        assert torch.equal(drawn[drawn != 0], initial[name][drawn != 0]), "the ticket's initialization"
        assert torch.equal(drawn, weights(again)[name])
    assert any(not torch.equal(weights(random)[name] != 0, tensor != 0) for name, tensor in weights(ticket).items())


def test_edges_and_weights_go_round_by_round() -> None:
    model, edges = dense(), task().data.edge_index.size(1)
    remaining, total = edges, sum(tensor.numel() for tensor in weights(dense()).values())
    for number in (1, 2, 3):
        result = LotteryTicket(round=number, edges=0.05).apply(model, trainer())
        seen = dict(model.named_buffers()).get("edge_keep")
        model = result.model
        remaining -= round(0.05 * remaining)
        keep = dict(model.named_buffers())["edge_keep"]
        assert int(keep.sum()) == remaining
        assert seen is None or not (keep & ~seen).any()
        left = sum(int(tensor.count_nonzero()) for tensor in weights(model).values())
        assert left == total - round((1 - 0.8**number) * total)
        rows = {row.metric: row.value for row in result.measurements if not row.layer}
        assert rows["edge_sparsity"] == pytest.approx(1 - remaining / edges)
        assert 0 < rows["macs_saved"] < 1
        assert not any("mask" in name for name in model.state_dict())
    control = LotteryTicket(round=3, arm="random", edges=0.05).apply(model, trainer()).model
    drawn = dict(control.named_buffers())["edge_keep"]
    assert int(drawn.sum()) == remaining
    assert not torch.equal(drawn, dict(model.named_buffers())["edge_keep"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"round": 0}, "round 0: must be a whole number, at least 1$"),
        ({"round": 1, "rewind": -1}, "rewind -1: must be a whole number, at least 0$"),
        ({"round": 1, "rate": 1.0}, r"rate 1\.0: must be a finite number, at least 0 and below 1$"),
        ({"round": 1, "rate": 0.0}, "rate 0: must be above 0 and below 1$"),
        ({"round": 1, "edges": 1.0}, r"edges 1\.0: must be a finite number, at least 0 and below 1$"),
        ({"round": 1, "arm": "tickt"}, r"unknown arm 'tickt'; did you mean ticket\?"),
        ({"round": 1, "rewind": 6}, "rewind 6: past the end of the training's 6 epochs$"),
    ],
)
def test_bad_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LotteryTicket(**arguments).apply(dense(), trainer())


def chains(rounds: int, seeds: range, dataset: str = "digits", **options: Any) -> list[Chain]:
    first = LotteryTicket.of({"round": 1, **options})
    return lottery_chains(rounds, seeds, first, WorkloadChoices(dataset=dataset), MeasureChoices())


def test_the_runs_of_the_experiment() -> None:
    found = chains(3, range(2))
    assert len(found) == len({chain.id for chain in found}) == 2 * (1 + 3 * 3)
    by_method = {tuple(chain.methods[-1:]): chain for chain in found if chain.workload.seed == 0}
    ticket = by_method[(LotteryTicket(round=3),)]
    control = by_method[(LotteryTicket(round=3, arm="reinit"),)]
    assert ticket.sparsity == pytest.approx(1 - 0.8**3)
    assert control.model.parent == ticket.model
    before = ticket.model.parent
    assert before is not None
    assert before.methods[-1] == LotteryTicket(round=2)
    assert before in [chain.model for chain in found]
    first = by_method[(LotteryTicket(round=1),)]
    assert first.model.parent == first.base.model == found[0].model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0.0}, "rate 0: must be above 0 and below 1"),
        ({"rewind": 200}, "rewind 200: training has 200 epochs; choose an earlier one"),
        ({"edges": 1.0}, r"edges 1\.0: must be a finite number, at least 0 and below 1"),
        ({"edges": 0.1, "dataset": "digits-grid"}, "edges: graph-classification has no one graph"),
    ],
)
def test_bad_experiments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chains(2, range(1), **arguments)


def test_the_experiment_in_memory_is_that_of_the_runs() -> None:
    plan = trainer()

    def score(model: nn.Module) -> float:
        return -plan.task.validate(model)[1]

    table = gnncompress.lottery(build, lambda model, seed: plan.train(model), score, rounds=2, seeds=[0])
    assert table.groupby("arm")["round"].apply(list).to_dict() == {
        "dense": [0],
        "random": [1, 2],
        "reinit": [1, 2],
        "ticket": [1, 2],
    }
    ticket = dense()
    for number in (1, 2):
        ticket = LotteryTicket(round=number).apply(ticket, plan).model
        for arm in ("ticket", "reinit", "random"):
            model = ticket
            if arm != "ticket":
                control = LotteryTicket(round=number, arm=arm)  # type: ignore[arg-type]
                model = control.apply(copy.deepcopy(ticket), plan).model
            line = table[(table["arm"] == arm) & (table["round"] == number)].iloc[0]
            assert line["value"] == pytest.approx(score(model), abs=1e-6)
    assert gnncompress.verdicts(table)["verdict"].tolist() == ["undecided", "undecided"], "one seed decides nothing"


class PlainSums(nn.Module):
    """Adds neighbours without a layer of PyG."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 2)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = self.lin(x)
        return h.index_add(0, edge_index[1], h[edge_index[0]])


@pytest.mark.parametrize("select", ["score", "loss", "test", "last"])
def test_edges_are_pruned_whatever_chooses_the_epoch(select: str) -> None:
    result = LotteryTicket(round=1, edges=0.05).apply(dense(), trainer(select=select))
    assert {row.metric: row.value for row in result.measurements}["edge_sparsity"] > 0  # type: ignore[operator]


def test_edges_need_messages_that_a_mask_can_weigh() -> None:
    plan = Trainer(task(), RECIPE, None, 0, lambda seed: PlainSums())
    with pytest.raises(PruningError, match="PlainSums passes no messages through a PyG MessagePassing layer"):
        LotteryTicket(round=1, edges=0.05).apply(PlainSums(), plan)


def test_rewound_training_goes_on_with_the_schedule() -> None:
    rates: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, *arguments: Any) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])

    plan = trainer(decay_every=2, decay=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(training._OPTIMIZERS, "adam", lambda parameters, lr, weight_decay: Watched(parameters, lr=lr))
        plan.train(build(0))
        whole, rates = rates, []
        rows = plan.train(build(0), start=3)
    assert whole == pytest.approx([0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005])
    assert rates == pytest.approx(whole[3:])
    assert {row.metric: row.value for row in rows}["epochs"] == 3


def test_a_training_that_brings_weights_back_is_noticed() -> None:
    def train(model: nn.Module, seed: int) -> None:
        gnncompress.make_permanent(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(1)

    with pytest.raises(PruningError, match=r"layer .*weight: \d+ weights should be zero after pruning, but 0 of"):
        gnncompress.lottery(build, train, lambda model: 0.0, rounds=1, seeds=[0])


def test_levels_are_the_zeros_that_are_counted() -> None:
    found = []

    def score(model: nn.Module) -> float:
        zeros = sum(int((weight == 0).sum()) for weight in weights(model).values())
        found.append(zeros / sum(weight.numel() for weight in weights(model).values()))
        return 0.0

    scores = gnncompress.lottery(build, lambda model, seed: None, score, rounds=3, seeds=[0, 1])
    assert found == pytest.approx(scores["sparsity"].tolist(), abs=0.01)
