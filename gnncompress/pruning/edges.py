"""Edges that a model does not see: a mask over the one graph of a node task, kept in the model's own state."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from gnncompress.errors import PruningError

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
    if named.get("edge_index") is not None:
        return positional, named | _kept(named, keep)
    whole = {name: value for name, value in named.items() if isinstance(value, Data)}
    if not whole:
        raise PruningError(f"{type(model).__name__}.forward takes no edge_index, so its edges cannot be pruned")
    return positional, named | {name: copy.copy(data).update(_kept(data, keep)) for name, data in whole.items()}


def _kept(fields: Any, keep: Tensor) -> dict[str, Tensor]:
    """Return the fields that run over edges, with the kept ones only."""
    edges = fields["edge_index"]
    if edges.size(1) != keep.numel():
        raise PruningError(f"the mask is of {keep.numel()} edges, the graph has {edges.size(1)}")
    found = {field: fields.get(field) for field in _PER_EDGE}
    return {"edge_index": edges[:, keep]} | {field: v[keep] for field, v in found.items() if v is not None}


def random_like(keep: Tensor, generator: torch.Generator) -> Tensor:
    """Return a mask that keeps as many entries as ``keep``, drawn at random by a generator on the CPU."""
    order = torch.randperm(keep.numel(), generator=generator).to(keep.device)
    return keep.flatten()[order].view_as(keep)
