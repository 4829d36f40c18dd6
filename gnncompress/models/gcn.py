"""The two-layer graph convolutional network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from gnncompress.models.dropout import FeatureDropout


class GCN(nn.Module):
    """GCN: logits = A' ReLU(A' x W1 + b1) W2 + b2, with A' = D^-1/2 (A + I) D^-1/2 and dropout on both inputs.

    Shapes: x [N, features] dense or CSR, edge_index [2, E] -> logits [N, classes].

    Source: Kipf and Welling, ICLR 2017, equations 2 and 9.
    """

    def __init__(self, features: int, classes: int, hidden: int = 16, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = FeatureDropout(dropout)
        self.conv1 = GCNConv(features, hidden)
        self.conv2 = GCNConv(hidden, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Return one logit per node and class."""
        hidden = F.relu(self.conv1(self.dropout(x), edge_index))
        logits: Tensor = self.conv2(self.dropout(hidden), edge_index)
        return logits
