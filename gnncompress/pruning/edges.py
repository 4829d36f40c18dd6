"""Edges that a model does not see: a mask over the one graph of a node task, kept in the model's own state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

KEEP = "edge_keep"
# Fields that have one row an edge, beside edge_index with its one column.
_PER_EDGE = ("edge_attr", "edge_weight")


def drop_edges(model: nn.Module, keep: Tensor) -> nn.Module:
    """Make ``model`` see only the edges that ``keep`` [E] says, in every later call; return the model.

    The mask is the buffer ``edge_keep``, so a checkpoint holds it. Calls pass the fields of the graph by name.
    """
    if KEEP not in dict(model.named_buffers(recurse=False)):
        model.register_buffer(KEEP, keep.clone())
        model.register_forward_pre_hook(_thinned, with_kwargs=True)
    getattr(model, KEEP).copy_(keep)
    return model


def kept_edges(model: nn.Module) -> Tensor | None:
    """Return the mask of a model's edges, or None if it sees all."""
    return dict(model.named_buffers(recurse=False)).get(KEEP)


def _thinned(model: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    keep: Tensor = getattr(model, KEEP)
    seen = dict(named)
    if named["edge_index"].size(1) != keep.numel():
        raise ValueError(f"the mask is of {keep.numel()} edges, the graph has {named['edge_index'].size(1)}")
    seen["edge_index"] = named["edge_index"][:, keep]
    for field in _PER_EDGE:
        if named.get(field) is not None:
            seen[field] = named[field][keep]
    return positional, seen


def random_like(keep: Tensor, generator: torch.Generator) -> Tensor:
    """Return a mask that keeps as many entries as ``keep``, drawn at random by a generator on the CPU."""
    order = torch.randperm(keep.numel(), generator=generator).to(keep.device)
    return keep.flatten()[order].view_as(keep)
