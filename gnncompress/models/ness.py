"""NESS: node embeddings from static subgraphs, for link prediction.

The published code drops edges anew from the already thinned graph in every epoch and sums its losses cumulatively;
neither is done here. Two choices differ from it and reach what a plain autoencoder reaches: every subgraph is trained
to reconstruct all training edges, not its own quarter, and the input features are dropped out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gnncompress.models.dropout import FeatureDropout

# Nodes that one step of the contrastive loss compares: all 2,708 of Cora would cost more than the model itself.
CONTRASTED = 512


class Propagation(nn.Module):
    """Return A'_k h for all subgraphs at once, as one graph of K N nodes whose parts do not touch.

    Shapes: hidden [N, F], edge_index [2, E], part [E] the subgraph of each edge -> [K, N, F].
    """

    def __init__(self, subgraphs: int) -> None:
        super().__init__()
        self.subgraphs = subgraphs

    def forward(self, hidden: Tensor, edge_index: Tensor, part: Tensor) -> Tensor:
        """Return the features propagated over each subgraph."""
        nodes = hidden.size(0)
        source, target = edge_index[0], part * nodes + edge_index[1]
        degree = torch.ones(self.subgraphs * nodes, device=hidden.device)
        degree.index_add_(0, target, degree.new_ones(target.numel()))
        scale = degree.rsqrt().unsqueeze(1)
        weighted = hidden.repeat(self.subgraphs, 1) * scale
        gathered = weighted.index_add(0, target, weighted[part * nodes + source])
        return (gathered * scale).view(self.subgraphs, nodes, -1)


class NESS(nn.Module):
    """A linear encoder propagated over disjoint static subgraphs; the embedding is the mean over the subgraphs.

    z_k = A'_k s normalize(W x + b), with A'_k = D^-1/2 (A_k + I) D^-1/2 of the k-th subgraph and s = ``scale``;
    z = mean_k z_k. An edge is in subgraph ``edge_order`` mod ``subgraphs``. In training each edge is dropped with
    probability ``edge_dropout`` and all z_k are returned. With ``contrastive`` weight c > 0, c times the NT-Xent loss
    (temperature 0.1, two-layer projection) between the z_k of successive subgraphs is added.

    Shapes: x [N, features] dense or CSR, edge_index [2, E] with both directions, edge_order [E] of edge numbers ->
    [N, hidden], in training [K, N, hidden]. 45,888 parameters on Cora (1,433 features); 2,112 more with contrast.

    Source: Ucar, NESS, TMLR 2023; encoder of Salha et al. / Ahn and Kim (GNAE), CIKM 2021, equation 5.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        hidden: int = 32,
        subgraphs: int = 4,
        dropout: float = 0.5,
        edge_dropout: float = 0.2,
        scale: float = 1.8,
        contrastive: float = 0.0,
    ) -> None:
        super().__init__()
        self.propagation = Propagation(subgraphs)
        self.subgraphs = subgraphs
        self.edge_dropout = edge_dropout
        self.scale = scale
        self.contrastive = contrastive
        self.dropout = FeatureDropout(dropout)
        self.lin = nn.Linear(features, hidden)
        if contrastive > 0:
            self.projection = nn.Sequential(nn.Linear(hidden, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden))
        self._contrast: Tensor | float = 0.0

    def forward(self, x: Tensor, edge_index: Tensor, edge_order: Tensor) -> Tensor:
        """Return the nodes' embeddings, one set a subgraph in training."""
        hidden = self.scale * F.normalize(self.lin(self.dropout(x)), dim=1)
        part = edge_order % self.subgraphs
        if self.training and self.edge_dropout > 0:
            # Drawn by edge number, so both directions of an edge share its fate.
            drawn = torch.rand(int(edge_order.max()) + 1 if edge_order.numel() else 0, device=x.device)
            kept = drawn[edge_order] >= self.edge_dropout
            edge_index, part = edge_index[:, kept], part[kept]
        views = self.propagation(hidden, edge_index, part)
        if not self.training:
            return views.mean(0)
        if self.contrastive > 0:
            self._contrast = self.contrastive * self._nt_xent(views)
        return views

    def auxiliary_loss(self) -> Tensor | float:
        """Return the contrastive loss of the last training call."""
        return self._contrast

    def _nt_xent(self, views: Tensor) -> Tensor:
        """Return the mean cross-entropy of recognizing a node in the next subgraph among the nodes drawn."""
        drawn = torch.randperm(views.size(1), device=views.device)[:CONTRASTED]
        projected = F.normalize(self.projection(views[:, drawn]), dim=2)
        similar = projected @ projected.roll(-1, dims=0).transpose(1, 2) / 0.1
        truth = torch.arange(drawn.numel(), device=views.device).expand(self.subgraphs, -1)
        return F.cross_entropy(similar.flatten(0, 1), truth.flatten())
