"""Degree-Quant's protective masks: nodes of high degree are left in full precision more often while training."""

from __future__ import annotations

import torch
from torch import Tensor

from gnncompress.errors import UsageError


def protection_probability(
    degree: Tensor, low: float, change: float, batch: Tensor | None = None, graphs: int = 1
) -> Tensor:
    """Return the probability with which each node is protected, by the rank of its in-degree within its graph.

    p(v) = low + (high - low) |{u : deg(u) <= deg(v)}| / n, high = min(low + change, 1): the nodes of the highest
    degree have exactly ``high``, and so have all nodes of a regular graph.

    Shapes: degree [nodes], ``batch`` [nodes] the graph of each node, none for one graph; the result [nodes].

    Raises:
        UsageError: if ``low`` is not in [0, 1] or ``change`` is negative.

    Source: Tailor et al., Degree-Quant, ICLR 2021, section 4.1, and official code.
    """
    if not 0 <= low <= 1 or change < 0:
        raise UsageError(f"protection {low}, {change}: the first must be in [0, 1], the second not below 0")
    high = min(low + change, 1.0)
    if batch is None:
        batch, graphs = torch.zeros_like(degree, dtype=torch.long), 1
    # Sorted by graph, then degree, the last node of a run of equals stands at the number of those not above it.
    order = torch.argsort(degree, stable=True)
    order = order[torch.argsort(batch[order], stable=True)]
    sizes = torch.bincount(batch, minlength=graphs)
    keys = torch.stack([batch[order], degree[order].long()])
    _, run, counts = torch.unique_consecutive(keys, dim=1, return_inverse=True, return_counts=True)
    before = torch.cumsum(sizes, 0) - sizes
    rank = torch.cumsum(counts, 0)[run] - before[batch[order]]
    probability = torch.empty(len(degree), device=degree.device)
    probability[order] = low + (high - low) * (rank / sizes[batch[order]])
    return probability
