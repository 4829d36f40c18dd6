from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import global_add_pool

from gnncompress.errors import UsageError
from gnncompress.tasks.batching import GraphBlock
from gnncompress.tasks.calling import call, probe


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

    assert call(Whole(), data) is data.x
    assert call(Default(), data) is data.edge_attr
    with pytest.raises(UsageError, match=r"Wanting\.forward wants 'positions', which the data does not have"):
        probe(Wanting(), data)


class Peeking(nn.Module):
    def forward(self, x: Tensor, y: Tensor | None = None, train_mask: Tensor | None = None) -> Tensor:
        assert y is None
        assert train_mask is None
        return x


class Demanding(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x


class Rummaging(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, data: Data) -> Tensor:
        assert self.name not in data
        assert data.get(self.name) is None
        data.x = data.x + 1
        return data.x


@pytest.mark.parametrize("name", ["y", "labels", "target", "edge_label", "train_mask", "val_mask", "test_mask"])
def test_no_model_sees_the_answers(name: str) -> None:
    data = Data(x=torch.ones(2, 1), y=torch.arange(2), train_mask=torch.ones(2) > 0)
    data[name] = torch.arange(2)
    before = data[name]
    assert call(Peeking(), data) is data.x
    with pytest.raises(UsageError, match=r"Demanding\.forward wants 'y': a model is shown no labels and no split; rem"):
        probe(Demanding(), data)
    # A model that gets the whole object has one of its own: what is taken out or changed is not so in the task's.
    assert call(Rummaging(name), data).tolist() == [[2], [2]]
    assert call(Rummaging(name), data).tolist() == [[2], [2]]
    assert data[name] is before


def test_a_batch_as_a_whole_has_no_labels() -> None:
    graphs = [Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [1]]), y=torch.tensor([i])) for i in range(3)]
    batch = GraphBlock(graphs).batch(torch.tensor([2, 0]))

    class Whole(nn.Module):
        def forward(self, batch_data: Batch) -> Tensor:
            assert "y" not in batch_data
            return global_add_pool(batch_data.x, batch_data.batch, batch_data.num_graphs)

    assert call(Whole(), batch).tolist() == [[2], [2]]
    assert batch.y.tolist() == [2, 0]
