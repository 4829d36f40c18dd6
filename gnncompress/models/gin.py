"""The graph isomorphism network on which the paper's quantizers are compared."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GINConv

from gnncompress.models.convnet import read_out


class GIN(nn.Module):
    """GIN with two batch normalizations a layer: h <- BN(MLP((1 + eps) h + sum of the neighbours' h)).

    MLP = Linear, ReLU, Linear, ReLU, BN; eps is trained. Sum over the nodes, Linear, ReLU, dropout, Linear.

    Shapes: x [N, features], edge_index [2, E], batch [N], one graph if absent -> logits [G, outputs]. 43,271
    parameters for 3 features and 43,655 for 9 (5 layers, 64 hidden units, 2 classes).

    Source: Xu et al., ICLR 2019, equation 4.1; the order of its layers and the second normalization are those of the
    program of Zhu et al., A2Q, ICLR 2023, the dropout is that of Tailor et al., Degree-Quant, ICLR 2021.
    Deviation: those two take the mean over the nodes (readout mean), which hides a graph's size; the sum is as in Xu.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        hidden: int = 64,
        layers: int = 5,
        dropout: float = 0.5,
        readout: str = "sum",
    ) -> None:
        super().__init__()
        self.readout = readout
        widths = [features, *[hidden] * (layers - 1)]
        self.convs = nn.ModuleList(GINConv(_mlp(width, hidden), train_eps=True) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in widths)
        self.lin1 = nn.Linear(hidden, hidden)
        self.lin2 = nn.Linear(hidden, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Return one logit per graph and class."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, edge_index))
        pooled = read_out(self.readout, x, batch)
        return self.lin2(self.dropout(F.relu(self.lin1(pooled))))


def _mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.BatchNorm1d(hidden)
    )
