"""Graph lottery tickets: masks on weights and on edges that are learnt together, and then cut.

Source: Chen et al., A Unified Lottery Ticket Hypothesis for Graph Neural Networks (UGS), ICML 2021, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from gnncompress.errors import PruningError, UsageError
from gnncompress.masks import hold, parametrize_weights, prunable_parameters
from gnncompress.measurements import NODES, Measurement
from gnncompress.pruning.allocation import ranked
from gnncompress.pruning.edges import drop_edges
from gnncompress.pruning.selection import keep_mask
from gnncompress.tasks.base import Task
from gnncompress.tasks.trainer import Trainer

# Weight of the L1 penalties on the masks of weights and of edges, as published for Cora.
PENALTY = 1e-2


class SoftMask(nn.Module):
    """A parametrization that reads a weight times a mask that is learnt, 1 at first."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.ones_like(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """Return mask * weight."""
        return self.mask * weight


class _Penalized:
    """A task whose loss has the L1 norm of the masks in it."""

    def __init__(self, task: Task, masks: Iterable[nn.Parameter]) -> None:
        self._task = task
        self._masks = list(masks)

    def batches(self, size: int) -> Iterable[Any]:
        return self._task.batches(size)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return self._task.loss(model, batch) + PENALTY * torch.stack([mask.abs().sum() for mask in self._masks]).sum()

    def validate(self, model: nn.Module) -> tuple[float, float]:
        return self._task.validate(model)

    def evaluate(self, model: nn.Module) -> list[Measurement]:
        return self._task.evaluate(model)

    @property
    def metric(self) -> str:
        return self._task.metric


def learned_masks(
    network: nn.Module,
    alive: Mapping[str, Tensor],
    keep: Tensor | None,
    sparsity: float,
    edge_rate: float,
    trainer: Trainer,
) -> tuple[dict[str, Tensor], Tensor]:
    """Learn masks on what is left of weights and edges, and return which of them stay after this round.

    Loss + 0.01 (|m_w|_1 + |m_e|_1) is minimized over weights and masks, from ``network``'s weights and masks of 1; the
    masks of the best epoch count. The weights of smallest |m_w| go until ``sparsity`` of all are gone, and
    ``edge_rate`` of the remaining edges, those of smallest |m_e|. A message over an edge is multiplied by its m_e; the
    self-loops that a layer adds have none.

    Shapes: ``alive`` bool masks by layer, ``keep`` [E] or None for all -> the same.

    Raises:
        UsageError: if the task is not node classification.
        PruningError: if no message could be masked.

    Deviations: a layer's own normalization comes before the mask, as with a fixed normalized adjacency, and the epoch
    is chosen by the workload's rule.
    """
    if trainer.task.name != NODES:
        raise UsageError("edges can be pruned in node classification only, where all items share one graph")
    edge_index = trainer.task.data.edge_index
    if keep is None:
        keep = torch.ones(edge_index.size(1), dtype=torch.bool, device=edge_index.device)
    hold(network, alive)
    drop_edges(network, keep)
    steps = {layer: SoftMask(weight) for layer, weight in prunable_parameters(network).items()}
    parametrize_weights(network, steps)
    edge_mask = nn.Parameter(torch.ones(int(keep.sum()), device=keep.device))
    network.register_parameter("edge_mask", edge_mask)
    masked = _mask_messages(network, edge_mask, edge_index[:, keep])
    task = _Penalized(trainer.task, [edge_mask, *(step.mask for step in steps.values())])
    trainer.train(network, task=task)
    if not masked:
        raise PruningError(
            f"{type(network).__name__} passes no messages through a PyG MessagePassing layer, so no mask on its edges "
            "can be learnt"
        )
    scores = {layer: step.mask.detach().abs() * alive[layer] for layer, step in steps.items()}
    stay = keep.clone()
    stay[keep] = keep_mask(edge_mask.detach().abs(), round(edge_rate * edge_mask.numel()))
    return ranked(scores, sparsity), stay


def _mask_messages(network: nn.Module, mask: Tensor, edge_index: Tensor) -> set[MessagePassing]:
    """Multiply every message by the mask of its edge; return the layers that did, as they are called."""
    called: set[MessagePassing] = set()
    no_loop = edge_index[0] != edge_index[1]

    def weigh(layer: MessagePassing, inputs: Any, messages: Tensor) -> Tensor:
        called.add(layer)
        factor = mask
        if messages.size(layer.node_dim) != factor.numel():  # the layer put self-loops of its own at the end
            loops = messages.size(layer.node_dim) - int(no_loop.sum())
            factor = torch.cat([factor[no_loop], factor.new_ones(loops)])
        shape = [1] * messages.dim()
        shape[layer.node_dim] = -1
        return messages * factor.view(shape)

    for layer in network.modules():
        if isinstance(layer, MessagePassing):
            layer.register_message_forward_hook(weigh)
    return called
