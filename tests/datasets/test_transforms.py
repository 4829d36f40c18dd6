from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from gnncompress.datasets.transforms import (
    TRANSFORMS,
    edge_order,
    sparse_features,
    standardized,
    target_indegree,
    unit_rows,
)


def test_target_indegree_by_hand() -> None:
    data = Data(x=torch.zeros(3, 1), edge_index=torch.tensor([[0, 1, 2, 0], [2, 2, 1, 2]]))
    assert target_indegree(data).edge_attr.flatten().tolist() == pytest.approx([1, 1, 1 / 3, 1])
    assert "edge_attr" not in data


def test_only_sparse_features_become_sparse() -> None:
    x = torch.zeros(10, 10)
    x[0, 0] = 1
    data = Data(x=x)
    sparse = sparse_features(data).x
    assert sparse.layout == torch.sparse_csr
    assert torch.equal(sparse.to_dense(), x)
    assert data.x.layout == torch.strided
    assert sparse_features(Data(x=torch.ones(2, 2))).x.layout == torch.strided


def test_names_match() -> None:
    assert all(transform.__name__ == name for name, transform in TRANSFORMS.items())


def test_indegree_of_a_graph_without_edges() -> None:
    data = Data(x=torch.zeros(3, 1), edge_index=torch.empty(2, 0, dtype=torch.long))
    assert target_indegree(data).edge_attr.shape == (0, 1)


def test_unit_rows_by_hand() -> None:
    data = Data(x=torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    assert unit_rows(data).x.tolist() == [[0.25, 0.75], [0.0, 0.0]]
    assert data.x[0, 0] == 1


def test_both_directions_have_one_number() -> None:
    data = Data(x=torch.zeros(4, 1), edge_index=torch.tensor([[0, 1, 2, 1, 3, 2], [1, 0, 1, 2, 2, 3]]))
    order = edge_order(data).edge_order.tolist()
    assert sorted(order) == [0, 0, 1, 1, 2, 2]
    assert order[0] == order[1]
    assert order[2] == order[3]
    assert order[4] == order[5]


def test_standardized_by_hand() -> None:
    graphs = [Data(x=torch.tensor([[1.0, 4.0], [3.0, 4.0]])), Data(x=torch.tensor([[5.0, 6.0]]))]
    one, two = standardized(graphs, graphs[0].x)
    assert one.x.tolist() == [[-1, 0], [1, 0]]
    assert two.x.tolist() == [[3, 2]]
