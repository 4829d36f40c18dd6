"""The field's usual networks: convolutions one after the other, for nodes, links or whole graphs.

For nodes the last convolution gives the logits, for links the embeddings. For graphs all convolutions are hidden,
their nodes are pooled, and a linear layer gives the logits.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch_geometric.nn import (
    GATConv,
    GCNConv,
    SAGEConv,
    SuperGATConv,
    global_add_pool,
    global_max_pool,
    global_mean_pool,
)

from gnncompress.models.dropout import FeatureDropout
from gnncompress.models.non_edges import draw_non_edges

READOUTS = {"mean": global_mean_pool, "max": global_max_pool, "sum": global_add_pool}


def read_out(kind: str, x: Tensor, batch: Tensor | None) -> Tensor:
    """Return the mean, max or sum over the nodes of each graph; all nodes are one graph without ``batch``."""
    return READOUTS[kind](x, batch)


class ConvNet(nn.Module):
    """h_l = activation(conv_l(dropout(h_{l-1}))), without activation after the last convolution of a node model.

    ``readout`` is empty for nodes and links, else mean, max or sum over the nodes of a graph.

    Shapes: x [N, features], edge_index [2, E] -> [N, outputs]; with a readout and batch [N] of graph numbers, one
    graph if absent -> [G, outputs].
    """

    activation: ClassVar[type[nn.Module]] = nn.ReLU
    wide: ClassVar[int] = 1

    def __init__(
        self, features: int, outputs: int, hidden: int = 16, layers: int = 2, dropout: float = 0.5, readout: str = ""
    ) -> None:
        super().__init__()
        self.dropout = FeatureDropout(dropout)
        self.act = self.activation()
        self.readout = readout
        widths = [features, *[hidden * self.wide] * (layers - 1)]
        convs = [self.convolution(width, hidden, last=False) for width in widths[:-1]]
        if readout:
            convs.append(self.convolution(widths[-1], hidden, last=False))
            self.lin = nn.Linear(hidden * self.wide, outputs)
        else:
            convs.append(self.convolution(widths[-1], outputs, last=True))
        self.convs = nn.ModuleList(convs)

    @abstractmethod
    def convolution(self, inputs: int, outputs: int, last: bool) -> nn.Module:
        """Return one convolution; all but the last of a node model return ``outputs`` times ``wide`` channels."""

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Return one row a node, or a graph where there is a readout."""
        for conv in self.convs[:-1]:
            x = self.act(self.convolve(conv, self.dropout(x), edge_index, batch))
        x = self.convolve(self.convs[-1], self.dropout(x), edge_index, batch)
        if not self.readout:
            return x
        return self.lin(self.dropout(read_out(self.readout, self.act(x), batch)))

    def convolve(self, conv: nn.Module, x: Tensor, edge_index: Tensor, batch: Tensor | None) -> Tensor:
        """Call one convolution."""
        out: Tensor = conv(x, edge_index)
        return out


class GCN(ConvNet):
    """Graph convolutional network: conv(x) = D^-1/2 (A + I) D^-1/2 x W + b.

    Source: Kipf and Welling, ICLR 2017, equations 2 and 9.
    """

    def convolution(self, inputs: int, outputs: int, last: bool) -> nn.Module:
        """Return a graph convolution."""
        return GCNConv(inputs, outputs)


class GraphConvNet(ConvNet):
    """GCN without self loops, as DGL's GraphConv is: conv(x) = D^-1/2 A D^-1/2 x W + b.

    A node without neighbours gets the bias alone. PyG's layer of the same name is another one.

    Source: Kipf and Welling, ICLR 2017, in the form of arXiv 2510.22058, table 2 ("GraphConv (DGL)").
    """

    def convolution(self, inputs: int, outputs: int, last: bool) -> nn.Module:
        """Return a graph convolution without self loops."""
        return GCNConv(inputs, outputs, add_self_loops=False)


class GraphSAGE(ConvNet):
    """GraphSAGE with mean aggregation: conv(x)_i = x_i W_r + mean_{j -> i} x_j W_l + b.

    Source: Hamilton et al., NeurIPS 2017, algorithm 1.
    """

    def convolution(self, inputs: int, outputs: int, last: bool) -> nn.Module:
        """Return a mean-aggregating convolution."""
        return SAGEConv(inputs, outputs)


class GAT(ConvNet):
    """Graph attention network: 8 heads side by side in hidden layers, one head of all outputs in the last.

    Source: Velickovic et al., ICLR 2018, equations 3 to 6.
    """

    activation = nn.ELU
    wide = 8

    def convolution(self, inputs: int, outputs: int, last: bool) -> nn.Module:
        """Return an attention layer."""
        return GATConv(inputs, outputs, heads=1 if last else self.wide, concat=not last, dropout=self.dropout.p)


class SuperGAT(ConvNet):
    """Graph attention that is also trained to tell edges from non-edges; attention of the MX form.

    8 heads, side by side in hidden layers and averaged in the last. In training, the layers' attention losses, times
    ``attention_weight``, are added to the task's loss.

    Source: Kim and Oh, ICLR 2021, equations 3 to 8.
    """

    activation = nn.ELU
    wide = 8

    def __init__(self, *sizes: int, attention_weight: float = 4.0, **arguments: float | str) -> None:
        super().__init__(*sizes, **arguments)  # type: ignore[arg-type]
        self.attention_weight = attention_weight

    def convolution(self, inputs: int, outputs: int, last: bool) -> nn.Module:
        """Return a self-supervised attention layer."""
        return SuperGATConv(
            inputs,
            outputs,
            heads=self.wide,
            concat=not last,
            dropout=self.dropout.p,
            attention_type="MX",
            edge_sample_ratio=0.8,
        )

    def convolve(self, conv: nn.Module, x: Tensor, edge_index: Tensor, batch: Tensor | None) -> Tensor:
        """Call one layer; the non-edges of its loss are drawn within the graphs of a batch."""
        non_edges = self._non_edges(cast(SuperGATConv, conv), x, edge_index, batch) if self.training else None
        out: Tensor = conv(x, edge_index, neg_edge_index=non_edges)
        return out

    def auxiliary_loss(self) -> Tensor:
        """Return the weighted sum of the layers' attention losses of the last training call."""
        losses = [cast(SuperGATConv, conv).get_attention_loss() for conv in self.convs]
        total: Tensor = torch.stack(losses).sum()
        return self.attention_weight * total

    def _non_edges(self, conv: SuperGATConv, x: Tensor, edge_index: Tensor, batch: Tensor | None) -> Tensor:
        """Draw what the layer is to tell from edges; its own draws take edges of a batch for non-edges."""
        if batch is None:
            batch = edge_index.new_zeros(x.size(0))
        return draw_non_edges(edge_index, batch, conv.neg_sample_ratio * conv.edge_sample_ratio)
