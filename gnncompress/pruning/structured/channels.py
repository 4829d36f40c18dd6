"""What can be removed from a model: units of channels that only go together, and the slices that are theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch_pruning as tp
from torch import nn

from gnncompress.errors import PruningError
from gnncompress.masks import NORMALIZATIONS
from gnncompress.pruning.structured.layers import Shape, find
from gnncompress.pruning.structured.tracing import Forward, trace

_MOST_PASSES = 8
OUTPUT = "its channels are the model's output"


@dataclass(frozen=True)
class Channels:
    """The units of a model, numbered through.

    ``owner`` gives, for a dimension of a tensor (name, dim), the unit that each index belongs to, or -1. ``group``
    [units] numbers the sets of layers that share their channels, ``layers`` names those of each set, ``passes`` counts
    the operations besides products that work on them. ``whole`` says of every layer that keeps all its channels why
    it does.
    """

    owner: dict[tuple[str, int], np.ndarray]
    group: np.ndarray
    layers: tuple[tuple[str, ...], ...]
    passes: tuple[int, ...]
    whole: dict[str, str]


@dataclass(frozen=True)
class _Member:
    """A layer in a group: its shape, the side whose channels are meant, and each channel's root, -1 for none."""

    module: Any
    shape: Shape | None
    outwards: bool
    root: np.ndarray

    def slots(self) -> Iterator[tuple[str, int, np.ndarray]]:
        """Yield the tensor's path in the layer, the dimension, and the root of each of its indices."""
        assert self.shape is not None
        for slot in self.shape.out_slots if self.outwards else self.shape.in_slots:
            yield slot.tensor, slot.dim, self.root[slot.channel]


def find_channels(model: nn.Module, forward: Forward, free_outputs: bool = False) -> Channels:
    """Return the channels of ``model`` that may be removed, as seen in one differentiable call ``forward(model)``.

    The channels that make up the model's output stay, unless ``free_outputs``: an embedding may get narrower.

    Raises:
        PruningError: if the model cannot be traced, or nothing can be removed; the message names layers and reasons.

    Source: Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023.
    """
    graph, shapes, opaque = trace(model, forward)
    whole = dict(opaque)
    names = {module: name for name, module in model.named_modules()}
    tensors = {id(tensor): name for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    owner: dict[tuple[str, int], np.ndarray] = {}
    group: list[int] = []
    layers: list[tuple[str, ...]] = []
    passes: list[int] = []
    for items in _groups(graph, shapes, names):
        members = [member for item in items if (member := _member(item, graph, shapes, names)) is not None]
        widened = tuple(dict.fromkeys(names[m.module] for m in members if m.outwards))
        reason = _why_whole(items, names, opaque, free_outputs)
        if reason:
            whole |= {name: reason for name in widened if name not in whole}
            continue
        units = _units(members, len(items[0].idxs))
        for member in members:
            for path, dim, root in member.slots():
                key = (tensors[id(find(member.module, path))], dim)
                unit = np.where(root >= 0, units[root] + len(group), -1)
                owner[key] = np.where(unit >= 0, unit, owner.get(key, unit))
        group += [len(layers)] * (int(units.max()) + 1)
        layers.append(widened)
        passes.append(_passes(items, shapes))
    if not group:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in whole.items())
        raise PruningError(f"{type(model).__name__} has no channels that could be removed ({reasons or 'no layers'})")
    return Channels(owner, np.array(group), tuple(layers), tuple(passes), whole)


def _groups(
    graph: tp.DependencyGraph, shapes: Mapping[nn.Module, Shape], names: Mapping[nn.Module, str]
) -> list[Sequence[Any]]:
    """Return the sets of layers that share channels, in the order in which the layers stand in the model."""
    place = {module: number for number, module in enumerate(names)}
    groups = graph.get_all_groups(root_module_types=[type(module) for module in shapes])

    def first(items: Sequence[Any]) -> int:
        return min(place[item.dep.target.module] for item in items if item.dep.target.module in place)

    return sorted((group.items for group in groups), key=first)


def _member(
    item: Any, graph: tp.DependencyGraph, shapes: Mapping[nn.Module, Shape], names: Mapping[nn.Module, str]
) -> _Member | None:
    """Return the layer that an item of a group is about; operations without weights are none."""
    module = item.dep.target.module
    if module not in shapes:
        return None
    shape = shapes[module]
    outwards = graph.is_out_channel_pruning_fn(item.dep.handler)
    root = np.full(shape.outputs if outwards else shape.inputs, -1)
    if max(item.idxs, default=0) >= len(root):
        raise PruningError(
            f"layer {names[module]}: between it and the layers that share its channels the model cuts or reshapes them "
            "in a way that cannot be followed"
        )
    root[np.asarray(item.idxs)] = np.asarray(item.root_idxs)
    return _Member(module, shape, outwards, root)


def _why_whole(
    items: Sequence[Any], names: Mapping[nn.Module, str], opaque: Mapping[str, str], free_outputs: bool
) -> str:
    """Say why a group keeps its channels; nothing if it need not."""
    for item in items:
        target = item.dep.target
        name = names.get(target.module, "") if isinstance(target.module, nn.Module) else ""
        if name in opaque:
            return f"shares channels with {name}, {opaque[name]}"
        if target.type == tp.ops.OPTYPE.PARAMETER:
            return "shares channels with a parameter of the model itself; put it into a layer of its own"
        if target.type == tp.ops.OPTYPE.OUTPUT and not free_outputs:
            return OUTPUT
    return ""


def _passes(items: Sequence[Any], shapes: Mapping[nn.Module, Shape]) -> int:
    """Count the operations on a group's channels that are no products, 1 to 8.

    More than eight say that a residual stream is long, not that its channels are worth so much less than others.
    """
    modules = {item.dep.target.module for item in items}
    found = sum(module not in shapes or isinstance(module, NORMALIZATIONS) for module in modules)
    return min(max(found, 1), _MOST_PASSES)


def _units(members: Sequence[_Member], roots: int) -> np.ndarray:
    """Number the sets of root channels that only go together: [roots]."""
    parent = np.arange(roots)

    def top(root: int) -> int:
        while parent[root] != root:
            root = parent[root]
        return root

    for member in members:
        if member.shape is not None and member.outwards:
            for column in member.root[member.shape.tied].T:
                present = [top(root) for root in column if root >= 0]
                for other in present[1:]:
                    parent[top(other)] = top(present[0])
    return np.unique([top(root) for root in range(roots)], return_inverse=True)[1]
