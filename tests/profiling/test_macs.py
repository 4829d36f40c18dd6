from __future__ import annotations

import torch
from torch import nn
from torch_geometric.nn import GCNConv

from gnncompress.profiling.macs import count_macs


def test_products_count_the_weights_that_are_not_zero() -> None:
    layer = nn.Linear(5, 3)
    assert count_macs(lambda: layer(torch.ones(7, 5))) == 7 * 15
    with torch.no_grad():
        layer.weight[0] = 0
    assert count_macs(lambda: layer(torch.ones(7, 5))) == 7 * 10
    plain = nn.Linear(5, 3, bias=False)
    assert count_macs(lambda: plain(torch.zeros(7, 5))) == 7 * 15, "zeros among activations are not saved"


def test_sparse_inputs_count_what_is_stored() -> None:
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]]))
    x = torch.tensor([[1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 3.0]]).to_sparse_csr()
    assert count_macs(lambda: x @ layer.weight.t()) == 2 + 1 + 2


def test_messages_count_one_for_every_number_added() -> None:
    conv = GCNConv(3, 2, bias=False)
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    loops = 4
    # 4 x 3 x 2 in the product, a sum of the degrees over 3 edges and 4 loops, 2 channels a message.
    assert count_macs(lambda: conv(torch.ones(4, 3), edges)) == 24 + (3 + loops) + 2 * (3 + loops)
