"""Claim: a training epoch of HGP-SL on PROTEINS takes under 0.5 s of CPU time on one thread.

Run: GNNCOMPRESS_DATA=... python benchmarks/hgpsl_speed.py
The peer is the same model by a message per edge, as the paper's formulas read, with everything left to autograd.
Both start from the same weights and see the same batches, interleaved; medians of CPU time and ratio.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.datasets import TUDataset
from torch_geometric.loader import DataLoader
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.nn.pool import global_max_pool, global_mean_pool
from torch_geometric.nn.pool.connect.filter_edges import filter_adj
from torch_geometric.utils import add_remaining_self_loops, coalesce

from gnncompress.models.hgpsl import HGPSL, StructureLearningPool, select

EPOCHS = 7
GRAPHS = 890
BATCH = 512


class MessagePerEdge(HGPSL):
    """The same parameters; in ``edges`` [2, E], row 0 is the row of A."""

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """Return one logit per graph and class."""
        assert batch is not None
        edges, weights = edge_index.flip(0), x.new_ones(edge_index.size(1))
        looped, normalised = gcn_norm(edges, num_nodes=x.size(0), flow="target_to_source")
        h = F.relu(aggregate(x @ self.conv1.lin.weight.t(), looped, normalised) + self.conv1.lin.bias)
        h, edges, weights, batch = pool(self.pool1, h, edges, weights, batch)
        summary = torch.cat([global_max_pool(h, batch), global_mean_pool(h, batch)], dim=1)
        h = F.relu(aggregate(h @ self.conv2.lin.weight.t(), edges, weights) + self.conv2.lin.bias)
        h, edges, weights, batch = pool(self.pool2, h, edges, weights, batch)
        summary = summary + torch.cat([global_max_pool(h, batch), global_mean_pool(h, batch)], dim=1)
        h = F.relu(aggregate(h @ self.conv3.lin.weight.t(), edges, weights) + self.conv3.lin.bias)
        summary = summary + torch.cat([global_max_pool(h, batch), global_mean_pool(h, batch)], dim=1)
        return self.lin3(F.relu(self.lin2(F.relu(self.lin1(summary)))))


def aggregate(x: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
    """Return A x by a message per edge."""
    return torch.zeros_like(x).index_add(0, edges[0], weights.unsqueeze(1) * x[edges[1]])


def pool(
    module: StructureLearningPool, x: Tensor, edges: Tensor, weights: Tensor, batch: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return features, edges, weights and graph numbers after pooling and structure learning."""
    nodes = x.size(0)
    degree = x.new_zeros(nodes).index_add(0, edges[0], weights)
    scale = torch.where(degree > 0, degree, 1.0).rsqrt()
    residual = x - aggregate(x, edges, scale[edges[0]] * weights * scale[edges[1]])
    score = residual.abs().sum(dim=1).detach()
    # With a top-k of its own, ties would leave the two models with different nodes.
    kept = torch.from_numpy(select(score, 1e-5 * (x.detach().abs().sum(dim=1) + score), batch, module.ratio))
    for _ in range(2):
        edges, weights = two_hops(edges, weights, nodes)
    edges, known = filter_adj(edges, weights, kept, num_nodes=nodes)
    x = x[kept]
    edges, known = add_remaining_self_loops(edges, known, 0.0, x.size(0))
    assert known is not None
    attention = (torch.cat([x[edges[0]], x[edges[1]]], dim=1) * module.att).sum(dim=1)
    weights = sorted_sparsemax(F.leaky_relu(attention, 0.2) + module.trade_off * known, edges[0], x.size(0))
    support = weights > 0
    return x, edges[:, support], weights[support], batch[kept]


def two_hops(edges: Tensor, weights: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Return A u A^2, the new pairs with weight 0."""
    with torch.no_grad():
        pattern = torch.sparse_coo_tensor(edges, torch.ones_like(weights), (nodes, nodes))
        reached = torch.sparse.mm(pattern, pattern).coalesce().indices()
    both = torch.cat([weights, weights.new_zeros(reached.size(1))])
    merged: tuple[Tensor, Tensor] = coalesce(torch.cat([edges, reached], dim=1), both, nodes, reduce="max")
    return merged


def sorted_sparsemax(values: Tensor, index: Tensor, groups: int) -> Tensor:
    """Return sparsemax in every group by the sorting algorithm."""
    with torch.no_grad():
        order = values.argsort(descending=True, stable=True)
        order = order[index[order].argsort(stable=True)]
        sizes = torch.bincount(index, minlength=groups)
        starts = sizes.cumsum(0) - sizes
        group, ordered = index[order], values[order].double()
        rank = torch.arange(1, len(order) + 1) - starts[group]
        sums = F.pad(ordered.cumsum(0), (1, 0))
        inside = 1 + rank * ordered > sums[1:] - sums[starts][group]
        support = torch.zeros(len(order), dtype=torch.bool).index_fill(0, order[inside], True)
        count = torch.bincount(index[support], minlength=groups)
    tau = (values.new_zeros(groups).index_add(0, index[support], values[support]) - 1) / count
    return (values - tau[index]).clamp(min=0)


def load(folder: str) -> Any:
    """Return PROTEINS with its node attribute, processed in ``folder``: the raw data may be read-only."""
    raw = Path(os.environ["GNNCOMPRESS_DATA"]) / "TUDataset" / "PROTEINS" / "raw"
    shutil.copytree(raw, Path(folder) / "PROTEINS" / "raw")
    return TUDataset(folder, "PROTEINS", use_node_attr=True)


def epoch(model: HGPSL, optimiser: torch.optim.Optimizer, loader: DataLoader) -> float:
    """Train for one epoch and return its CPU seconds."""
    started = time.process_time()
    for data in loader:
        optimiser.zero_grad()
        F.cross_entropy(model(data.x, data.edge_index, data.batch), data.y).backward()
        optimiser.step()
    return time.process_time() - started


def main() -> None:
    """Print the largest difference of the logits, both medians and their ratio."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", message="Sparse")
    with tempfile.TemporaryDirectory() as folder:
        data = load(folder)
    data = data[torch.randperm(len(data))[:GRAPHS]]
    models = {"gnncompress": HGPSL(data.num_features, 2), "message per edge": MessagePerEdge(data.num_features, 2)}
    ours, peer = models.values()
    peer.load_state_dict(ours.state_dict())
    first = next(iter(DataLoader(data, BATCH)))
    with torch.no_grad():
        difference = (ours(first.x, first.edge_index, first.batch) - peer(first.x, first.edge_index, first.batch)).abs()
    print(f"largest difference of two logits, same weights: {float(difference.max()):.1e}")
    optimisers = {
        name: torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-3) for name, model in models.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in models}
    for number in range(EPOCHS):
        for name, model in models.items():
            torch.manual_seed(number)
            samples[name].append(epoch(model, optimisers[name], DataLoader(data, BATCH, shuffle=True)))
    for name, times in samples.items():
        print(f"{name:16s} {statistics.median(times):6.3f} CPU-s for an epoch of {GRAPHS} graphs")
    medians = [statistics.median(times) for times in samples.values()]
    print(f"ratio {medians[0] / medians[1]:.3f}")


if __name__ == "__main__":
    main()
