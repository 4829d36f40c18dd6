"""The GCN classifier that the paper calls GNNNet."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from gnncompress.models.convnet import read_out


class GNNNet(nn.Module):
    """Three graph convolutions, each followed by ReLU, the maximum over the nodes, and a linear layer.

    Shapes: x [N, features], edge_index [2, E], batch [N], one graph if absent -> logits [G, outputs]. 34,562
    parameters for BBBP's 9 features.

    Source: the GCN encoder of Zhang et al., ProtGNN, AAAI 2022, without prototypes.
    """

    def __init__(self, features: int, outputs: int, hidden: int = 128, layers: int = 3) -> None:
        super().__init__()
        widths = [features, *[hidden] * (layers - 1)]
        self.convs = nn.ModuleList(GCNConv(width, hidden) for width in widths)
        self.lin = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Return one logit per graph and class."""
        for conv in self.convs:
            x = F.relu(conv(x, edge_index))
        return self.lin(read_out("max", x, batch))
