from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnncompress.errors import UsageError
from gnncompress.tasks.calling import caller
from gnncompress.tasks.node_classification import NodeClassification
from gnncompress.tasks.splits import Split


class Oracle(nn.Module):
    """Logits that are simply the features."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture
def task() -> NodeClassification:
    y = torch.tensor([0, 0, 1, 2, 0, 1, 1, 2])
    x = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 2, 0, 1, 0, 0]), 3).float() * 10
    return NodeClassification(Data(x=x, y=y, num_nodes=8), Split((0, 1, 2), (3,), (4, 5, 6, 7)))


def test_scores_by_hand(task: NodeClassification) -> None:
    scores = {row.metric: row.value for row in task.evaluate(Oracle())}
    # test truth 0 1 1 2, predicted 0 1 0 0; the majority of the training nodes is class 0
    assert scores["accuracy"] == 0.5
    assert scores["f1_macro"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert scores["majority_accuracy"] == 0.25
    assert scores["majority_f1_macro"] == pytest.approx(0.4 / 3)
    assert scores["loss"] == pytest.approx(5, abs=0.01)
    assert task.validate(Oracle())[0] == 1.0


def test_loss_sees_training_nodes_only(task: NodeClassification) -> None:
    before = task.loss(Oracle())
    task.data.y[3:] = 0
    assert torch.equal(task.loss(Oracle()), before)


def test_call_by_parameter_name() -> None:
    data = Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 0, dtype=torch.long), edge_attr=torch.ones(0, 1))

    class Whole(nn.Module):
        def forward(self, data: Data) -> Tensor:
            return data.x

    class Default(nn.Module):
        def forward(self, x: Tensor, edge_weight: Tensor | None = None, *, edge_attr: Tensor) -> Tensor:
            assert edge_weight is None
            return edge_attr

    class Wanting(nn.Module):
        def forward(self, x: Tensor, positions: Tensor) -> Tensor:
            return x

    assert caller(Whole(), data)() is data.x
    assert caller(Default(), data)() is data.edge_attr
    with pytest.raises(UsageError, match=r"Wanting\.forward wants 'positions', which the data does not have"):
        caller(Wanting(), data)
