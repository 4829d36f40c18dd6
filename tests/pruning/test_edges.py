from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.utils import to_dense_adj

from gnncompress.errors import PruningError
from gnncompress.masks import parametrize_weights
from gnncompress.models.convnet import GCN
from gnncompress.pruning.edges import drop_edges, kept_edges, random_like
from gnncompress.pruning.graph_lottery import SoftMask, _mask_messages

EDGES = torch.tensor([[0, 1, 2, 3, 1, 2], [1, 0, 1, 2, 2, 2]])
X = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))


def model() -> GCN:
    torch.manual_seed(0)
    return GCN(3, 2, hidden=4).eval()


def test_dropped_edges_are_not_seen_and_the_mask_is_in_the_state() -> None:
    keep = torch.tensor([True, False, True, True, False, True])
    thinned = drop_edges(model(), keep)
    torch.testing.assert_close(thinned(x=X, edge_index=EDGES), model()(X, EDGES[:, keep]))
    assert torch.equal(thinned.state_dict()["edge_keep"], keep)
    assert kept_edges(model()) is None
    drop_edges(thinned, torch.zeros(6, dtype=torch.bool))
    torch.testing.assert_close(thinned(x=X, edge_index=EDGES), model()(X, EDGES[:, :0]))


def test_attributes_of_edges_go_with_them() -> None:
    class Weighted(nn.Module):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor, edge_attr: torch.Tensor) -> torch.Tensor:
            return torch.cat([edge_index, edge_attr.t().long()])

    keep = torch.tensor([True, False, False, True, False, False])
    seen = drop_edges(Weighted(), keep)(x=X, edge_index=EDGES, edge_attr=torch.arange(6.0).unsqueeze(1))
    assert seen.tolist() == [[0, 3], [1, 2], [0, 3]]


def test_a_mask_of_another_graph_is_refused() -> None:
    with pytest.raises(PruningError, match="the mask is of 5 edges, the graph has 6"):
        drop_edges(model(), torch.ones(5, dtype=torch.bool))(x=X, edge_index=EDGES)


def test_random_masks_keep_as_many() -> None:
    keep = torch.tensor([[True, False, False], [True, True, False]])
    drawn = random_like(keep, torch.Generator().manual_seed(1))
    assert drawn.shape == keep.shape
    assert int(drawn.sum()) == 3


def test_a_masked_message_is_a_masked_entry_of_the_normalized_adjacency() -> None:
    torch.manual_seed(1)
    conv, mask = GCNConv(3, 2), torch.rand(6)
    # Self-loop 2 -> 2 is in the graph; GCN puts loops with weight 1 at every node, at the end.
    dense = to_dense_adj(EDGES[:, EDGES[0] != EDGES[1]], max_num_nodes=4)[0] + torch.eye(4)
    scale = dense.sum(0).rsqrt()
    normalized = scale[:, None] * dense * scale[None]
    for (source, target), factor in zip(EDGES.t().tolist(), mask.tolist(), strict=True):
        if source != target:
            normalized[source, target] *= factor
    expected = normalized.t() @ (X @ conv.lin.weight.t()) + conv.bias
    _mask_messages(conv, mask, EDGES)
    torch.testing.assert_close(conv(X, EDGES), expected)


def test_soft_masks_multiply_weights() -> None:
    layer = nn.Linear(3, 2)
    weight = layer.weight.detach().clone()
    step = SoftMask(layer.weight)
    parametrize_weights(layer, {"weight": step})
    with torch.no_grad():
        step.mask.fill_(0.5)
    torch.testing.assert_close(layer.weight, weight / 2)
    layer(torch.ones(1, 3)).sum().backward()
    torch.testing.assert_close(step.mask.grad, weight)


def test_a_model_that_takes_the_whole_data() -> None:
    class Whole(nn.Module):
        def forward(self, data: Data) -> torch.Tensor:
            return torch.cat([data.edge_index, data.edge_attr.t().long()])

    data = Data(x=X, edge_index=EDGES, edge_attr=torch.arange(6.0).unsqueeze(1))
    keep = torch.tensor([True, False, False, True, False, False])
    assert drop_edges(Whole(), keep)(data=data).tolist() == [[0, 3], [1, 2], [0, 3]]
    assert data.edge_index is EDGES, "the data themselves stay"


def test_a_model_without_edges_is_refused() -> None:
    class Blind(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(PruningError, match=r"Blind\.forward takes no edge_index, so its edges cannot be pruned"):
        drop_edges(Blind(), torch.ones(6, dtype=torch.bool))(x=X)
