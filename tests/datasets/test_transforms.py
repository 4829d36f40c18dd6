from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from gnncompress.datasets.transforms import TRANSFORMS, sparse_features, target_indegree


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
