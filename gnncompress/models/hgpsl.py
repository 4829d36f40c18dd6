"""HGP-SL in plain PyTorch and scipy: no compiled extension and no dense matrix over the batch is needed.

The original builds a dense N x N matrix over the whole batch. Here everything that needs no gradient (the pooling
score, the candidate pairs, the support of sparsemax) is settled first, outside autograd, in CSR form. Autograd then
sees nothing but the few edges that survive, and one sparse product per layer instead of a message per edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gnncompress.models.sparsemax import sparsemax

# Endpoint features of this many edges fit into the second-level cache.
CHUNK = 2048


@dataclass(frozen=True)
class Adjacency:
    """The matrix A of a batch of graphs, block-diagonal and sparse, with weights that may carry a gradient.

    Shapes: indptr [N + 1] and indices [E] as in CSR, weights [E].
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: Tensor

    @property
    def nodes(self) -> int:
        """The number of rows N."""
        return len(self.indptr) - 1

    def rows(self) -> np.ndarray:
        """Return the row of every entry: [E]."""
        return np.repeat(np.arange(self.nodes), np.diff(self.indptr))

    def matrix(self, values: np.ndarray | None = None) -> sp.csr_matrix:
        """Return the pattern with ``values`` [E], or with the weights, as a scipy matrix."""
        data = self.weights.detach().cpu().numpy() if values is None else values
        return sp.csr_matrix((data, self.indices, self.indptr), shape=(self.nodes, self.nodes))

    @classmethod
    def from_matrix(cls, matrix: sp.csr_matrix, like: Tensor) -> Adjacency:
        """Wrap a scipy matrix, its values in the type and on the device of ``like``."""
        return cls(matrix.indptr, matrix.indices, torch.from_numpy(matrix.data).to(like))

    @classmethod
    def from_edges(cls, edge_index: Tensor, like: Tensor) -> Adjacency:
        """Build A from edge_index [2, E] for the nodes of ``like`` [N, F]; A_ij counts the edges j -> i."""
        source, target = edge_index.cpu().numpy()
        nodes = like.size(0)
        return cls.from_matrix(sp.csr_matrix((np.ones(len(source)), (target, source)), shape=(nodes, nodes)), like)


def gcn_adjacency(adjacency: Adjacency) -> Adjacency:
    """Return D^-1/2 (A + I) D^-1/2; a node that has a loop keeps it and gets no other.

    Source: Kipf and Welling, ICLR 2017, equation 2.
    """
    matrix = adjacency.matrix()
    matrix = matrix + sp.diags((matrix.diagonal() == 0).astype(matrix.dtype), format="csr")
    return Adjacency.from_matrix(_normalised(matrix), adjacency.weights)


def _normalised(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return D^-1/2 A D^-1/2 with D the row sums; an empty row stays empty."""
    degree = np.asarray(matrix.sum(axis=1)).ravel()
    scale = np.zeros_like(degree)
    np.power(degree, -0.5, out=scale, where=degree > 0)
    data = matrix.data * np.repeat(scale, np.diff(matrix.indptr)) * scale[matrix.indices]
    return sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


@torch.no_grad()
def information_score(x: Tensor, adjacency: Adjacency) -> tuple[Tensor, Tensor]:
    """Score every node by how badly its neighbours predict it: s_i = || x_i - sum_j (D^-1/2 A D^-1/2)_ij x_j ||_1.

    Shapes: x [N, F] -> score [N] and resolution [N], the size of the rounding error. No gradient flows: the score
    ranks the nodes and enters nothing else.

    Source: Zhang et al., HGP-SL, 2019, the node information score of section 3, with the symmetric normalisation of
    their program; the paper itself writes D^-1 A.
    """
    matrix = _normalised(adjacency.matrix())
    residual = (sp.identity(adjacency.nodes, dtype=matrix.dtype, format="csr") - matrix) @ x.detach().cpu().numpy()
    score = torch.linalg.vector_norm(torch.from_numpy(residual).to(x.device), ord=1, dim=1)
    # The sum over the neighbours, which is rounded too, is at most as large as these two together.
    return score, 64 * torch.finfo(x.dtype).eps * (torch.linalg.vector_norm(x, ord=1, dim=1) + score)


def select(score: Tensor, resolution: Tensor, batch: Tensor, ratio: float) -> np.ndarray:
    """Keep the ceil(ratio n) nodes of highest score in every graph of n nodes; of equal nodes the first.

    Neighbours in the ranking are equal if they differ by no more than the resolution. Every sixth graph of
    PROTEINS has equal nodes at the cut; rounding would decide between them, and batching would change the result.

    Shapes: score [N], resolution [N], batch [N] -> positions [K] in ascending order.

    Source: Zhang et al., HGP-SL, 2019, graph pooling in section 3.
    """
    values, tolerance, graph = (part.cpu().numpy() for part in (score, resolution, batch))
    order = np.lexsort((-values, graph))
    parted = (-np.diff(values[order]) > tolerance[order[1:]]) | (np.diff(graph[order]) > 0)
    order = order[np.lexsort((order, np.concatenate([[0], np.cumsum(parted)])))]
    sizes = np.bincount(graph)
    rank = np.arange(len(graph)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # The small number keeps a product such as 0.07 * 100 from being rounded up to 8.
    quota = np.ceil(ratio * sizes - 1e-9)
    return np.sort(order[rank < np.repeat(quota, sizes)])


def candidates(adjacency: Adjacency, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the pairs of kept nodes at most four hops apart, and every kept node with itself.

    Two rounds of A <- A u A^2 on the graph before pooling, then its kept rows and columns.

    Shapes: kept [K] -> rows [C] (sorted), columns [C] (distinct in a row), position [C]: 1 + the entry of A that the
    pair has, 0 for a pair that A does not have.

    Source: the three-hop sampling of Zhang et al., HGP-SL, 2019, as their program does it.
    """
    entries = len(adjacency.indices)
    near = adjacency.matrix(np.ones(entries, dtype=np.int64))
    near = near + near @ near
    near.data[:] = 1
    loops = sp.identity(len(kept), dtype=np.int64, format="csr")
    # Numbers of paths stay below 2^32 and positions go above, so that one product finds both.
    known = adjacency.matrix(np.arange(1, entries + 1, dtype=np.int64) << 32)[kept][:, kept] + loops
    right = near[:, kept]
    pairs = sp.hstack([near[kept], right[kept] + known], format="csr") @ sp.vstack([right, loops], format="csr")
    rows = np.repeat(np.arange(len(kept)), np.diff(pairs.indptr))
    return rows, pairs.indices, pairs.data >> 32


def propagate(adjacency: Adjacency, x: Tensor) -> Tensor:
    """Return A x, differentiable in the weights of A and in x.

    Shapes: x [N, F] -> [N, F].
    """
    if x.device.type == "cpu":
        result: Tensor = _SparseProduct.apply(adjacency.weights, x, adjacency)
        return result
    return _gather_and_add(adjacency, x)


def _gather_and_add(adjacency: Adjacency, x: Tensor) -> Tensor:
    """Return A x by a message per entry, on any device."""
    rows, columns = (torch.from_numpy(part).to(x.device) for part in (adjacency.rows(), adjacency.indices))
    messages = adjacency.weights.unsqueeze(1) * x.index_select(0, columns)
    return torch.zeros_like(x).index_add(0, rows, messages)


class _SparseProduct(torch.autograd.Function):
    """A x by scipy, whose products on block-diagonal matrices are several times faster than torch's."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor, adjacency: Adjacency) -> Tensor:
        ctx.adjacency = adjacency
        ctx.save_for_backward(weights, x)
        return torch.from_numpy(adjacency.matrix(weights.numpy()) @ x.numpy())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, x = ctx.saved_tensors
        for_weights = for_x = None
        if ctx.needs_input_grad[0]:
            for_weights = _sampled_products(gradient, x, ctx.adjacency)
        if ctx.needs_input_grad[1]:
            for_x = torch.from_numpy(ctx.adjacency.matrix(weights.numpy()).T @ gradient.numpy())
        return for_weights, for_x, None


def _sampled_products(left: Tensor, right: Tensor, adjacency: Adjacency) -> Tensor:
    """Return left_i . right_j for every entry (i, j) of A: [E]."""
    rows, columns = torch.from_numpy(adjacency.rows()), torch.from_numpy(adjacency.indices)
    result = left.new_empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        product = left.index_select(0, rows[part]).mul_(right.index_select(0, columns[part]))
        torch.sum(product, dim=1, out=result[part])
    return result


class GraphConvolution(nn.Module):
    """Graph convolution with the normalisation left to the caller: out = A x W + b.

    Shapes: x [N, in], A [N, N] -> [N, out]. A x comes first, which is the cheaper order as long as in <= out.

    Source: Kipf and Welling, ICLR 2017, equation 2.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels)
        nn.init.xavier_uniform_(self.lin.weight)
        nn.init.zeros_(self.lin.bias)

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        """Return the convolved features [N, out]."""
        result: Tensor = self.lin(propagate(adjacency, x))
        return result


class StructureLearningPool(nn.Module):
    """Keep the nodes that their neighbours predict worst, and learn the edges between them.

    For nodes i, j that are candidates: E_ij = LeakyReLU_0.2(a . [x_i || x_j]) + trade_off A_ij, and the new A is
    sparsemax of E over every row. Entries that are 0 are dropped; the rows sum to 1.

    Shapes: x [N, channels], A [N, N], batch [N] -> x [K, channels], A [K, K], batch [K].
    Parameter: att [1, 2 channels].

    Source: Zhang et al., HGP-SL, 2019, graph pooling and structure learning in section 3. As in the paper the rows of
    A select what a node receives; their program normalises over the rows but propagates with the transpose.
    """

    def __init__(self, channels: int, ratio: float, trade_off: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.trade_off = trade_off
        self.att = nn.Parameter(torch.empty(1, 2 * channels))
        nn.init.xavier_uniform_(self.att)

    def forward(self, x: Tensor, adjacency: Adjacency, batch: Tensor) -> tuple[Tensor, Adjacency, Tensor]:
        """Return the features, the edges and the graph numbers of the kept nodes."""
        kept = select(*information_score(x, adjacency), batch, self.ratio)
        positions = torch.from_numpy(kept).to(x.device)
        x = x.index_select(0, positions)
        return x, self.learn_structure(x, adjacency, kept), batch[positions]

    def learn_structure(self, x: Tensor, adjacency: Adjacency, kept: np.ndarray) -> Adjacency:
        """Return the new A [K, K] between the kept nodes, whose features are x [K, channels]."""
        rows, columns, entries = (torch.from_numpy(part).to(x.device) for part in candidates(adjacency, kept))
        parts = x @ self.att.view(2, -1).t()
        known = F.pad(adjacency.weights, (1, 0))
        with torch.no_grad():
            weights = sparsemax(self._logits(parts, known, rows, columns, entries), rows, len(kept))
        support = weights.nonzero().squeeze(1)
        rows, columns, entries = rows[support], columns[support], entries[support]
        weights = sparsemax(self._logits(parts, known, rows, columns, entries), rows, len(kept))
        indptr = np.zeros(len(kept) + 1, dtype=np.int32)
        np.cumsum(np.bincount(rows.cpu().numpy(), minlength=len(kept)), out=indptr[1:])
        return Adjacency(indptr, columns.cpu().numpy(), weights)

    def _logits(self, parts: Tensor, known: Tensor, rows: Tensor, columns: Tensor, entries: Tensor) -> Tensor:
        """Return E for the listed pairs: a . [x_i || x_j] is one number of node i plus one of node j."""
        first, second = parts.unbind(1)
        attention = first.index_select(0, rows) + second.index_select(0, columns)
        return F.leaky_relu(attention, 0.2) + self.trade_off * known.index_select(0, entries)


def readout(x: Tensor, sizes: Tensor) -> Tensor:
    """Return [max || mean] over the nodes of every graph; equal maxima share their gradient evenly.

    Shapes: x [N, F] in the order of the graphs, sizes [G] -> [G, 2 F].

    Source: Zhang et al., HGP-SL, 2019, the readout function of section 3.
    """
    highest, mean = _Readout.apply(x, sizes)
    return torch.cat([highest, mean], dim=1)


class _Readout(torch.autograd.Function):
    """Segment maximum and mean with a gradient of its own.

    torch's segment_reduce divides the gradient among equal maxima only where that gradient is positive, and equal
    maxima are common here: nodes that attend to the same single neighbour have the same features.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        highest, mean = (torch.segment_reduce(x, how, lengths=sizes, unsafe=True) for how in ("max", "mean"))
        ctx.save_for_backward(x, sizes, highest)
        return highest, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, for_highest: Tensor, for_mean: Tensor) -> tuple[Tensor, None]:
        x, sizes, highest = ctx.saved_tensors
        graph = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
        winners = (x == highest.index_select(0, graph)).to(x.dtype)
        share = for_highest / torch.segment_reduce(winners, "sum", lengths=sizes, unsafe=True)
        result = (for_mean / sizes.unsqueeze(1)).index_select(0, graph)
        return result.addcmul_(winners, share.index_select(0, graph)), None


class HGPSL(nn.Module):
    """HGP-SL for graph classification: three convolutions with two structure-learning pools in between.

    h_1 = ReLU(GCN(x)), h_k = ReLU(A_k h_{k-1} W_k + b_k) on what the pool before it kept, with A_k learned there;
    logits = MLP(sum_k [max || mean] of the (pooled) h_k). Because the rows of A_k sum to 1, A_k is its own
    normalisation D^-1/2 A_k D^-1/2.

    Shapes: x [N, features], edge_index [2, E] of undirected graphs, in any order, batch [N] in ascending order, one
    graph if absent -> logits [G, classes]. 75,458 parameters on PROTEINS (4 features, 2 classes).

    Source: Zhang et al., Hierarchical Graph Pooling with Structure Learning, 2019; sizes as in their program.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: int = 128,
        ratio: float = 0.5,
        dropout: float = 0.0,
        trade_off: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < ratio <= 1:
            raise ValueError(f"pooling ratio {ratio} is not in (0, 1]")
        self.conv1 = GraphConvolution(features, hidden)
        self.pool1 = StructureLearningPool(hidden, ratio, trade_off)
        self.conv2 = GraphConvolution(hidden, hidden)
        self.pool2 = StructureLearningPool(hidden, ratio, trade_off)
        self.conv3 = GraphConvolution(hidden, hidden)
        self.lin1 = nn.Linear(2 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.lin2 = nn.Linear(hidden, hidden // 2)
        self.lin3 = nn.Linear(hidden // 2, classes)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Return one logit per graph and class."""
        if batch is None:
            batch = edge_index.new_zeros(x.size(0))
        if bool((batch.diff() < 0).any()):
            raise ValueError("batch is not in ascending order: the nodes of a graph must be next to each other")
        adjacency = Adjacency.from_edges(edge_index, x)
        h = F.relu(self.conv1(x, gcn_adjacency(adjacency)))
        h, adjacency, batch = self.pool1(h, adjacency, batch)
        sizes = torch.bincount(batch)
        summary = readout(h, sizes)
        h = F.relu(self.conv2(h, adjacency))
        h, adjacency, batch = self.pool2(h, adjacency, batch)
        sizes = torch.bincount(batch)
        summary = summary + readout(h, sizes)
        h = F.relu(self.conv3(h, adjacency))
        summary = summary + readout(h, sizes)
        hidden = self.dropout(F.relu(self.lin1(summary)))
        logits: Tensor = self.lin3(F.relu(self.lin2(hidden)))
        return logits
