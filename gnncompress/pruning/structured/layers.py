"""What a channel is in each kind of layer: which slices of which tensors belong to it.

A rule names, for a layer's output and its input, the dimensions that run over channels. PyG's ``Linear`` is not a
``torch.nn.Linear`` and its convolutions keep raw parameters, so nothing here relies on what a library recognizes:
a layer without a rule is left whole and named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch_geometric import nn as pyg

from gnncompress.models.hgpsl import StructureLearningPool
from gnncompress.models.spline import SplineConv


@dataclass(frozen=True)
class Slot:
    """A dimension of one of a layer's tensors; ``channel[i]`` is the channel that index i belongs to."""

    tensor: str
    dim: int
    channel: np.ndarray


@dataclass(frozen=True)
class Shape:
    """A layer's channels: their slots on the output and on the input side, and which outputs go together only.

    Shapes: ``tied`` [ways, units]: the channels of a column are kept or removed together. A layer that only passes
    channels on, as a normalization does, has the same slots on both sides and ``passes`` True.
    """

    outputs: int
    inputs: int
    out_slots: tuple[Slot, ...]
    in_slots: tuple[Slot, ...]
    tied: np.ndarray
    passes: bool = False


Rule = Callable[[nn.Module], Shape]


def layer_shape(module: nn.Module) -> Shape | str:
    """Return a layer's channels; or why they are not known; or nothing where it has none of its own.

    A subclass may do anything with its weights, so the class itself must have a rule.
    """
    kind, rule = type(module).__name__, RULES.get(type(module))
    weights = {name for name, parameter in module.named_parameters() if parameter.numel() > 1}
    statistics = any(buffer.numel() > 1 for buffer in module.buffers(recurse=False))
    if rule is None:
        own = any(parameter.numel() > 1 for parameter in module.parameters(recurse=False))
        unclear = isinstance(module, pyg.MessagePassing) and type(module) not in TRANSPARENT
        return f"no rule for {kind}" if weights and (own or unclear) else ""
    if not weights and not statistics:
        return ""
    shape = rule(module)
    unknown = sorted(weights - {slot.tensor for slot in shape.out_slots})
    return f"no rule for the {', '.join(unknown)} of this {kind}" if unknown else shape


def find(module: nn.Module, path: str) -> Tensor | None:
    """Return the tensor ``module.path``, or None where the layer was made without it."""
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _slots(module: nn.Module, dim: int, *paths: str) -> tuple[Slot, ...]:
    """Return slots in which index i is channel i, for those tensors that the layer has."""
    tensors = {path: find(module, path) for path in paths}
    return tuple(Slot(path, dim, np.arange(t.shape[dim])) for path, t in tensors.items() if t is not None)


def _free(outputs: int) -> np.ndarray:
    return np.arange(outputs)[None]


def _linear_like(out: tuple[str, ...], extra: tuple[str, ...] = ("bias",)) -> Rule:
    """Return the rule of layers made of matrices [out, in] that all read the input, and vectors [out]."""

    def rule(module: nn.Module) -> Shape:
        outs = _slots(module, 0, *out, *extra)
        ins = _slots(module, 1, *out)
        outputs, inputs = len(outs[0].channel), len(ins[0].channel)
        return Shape(outputs, inputs, outs, ins, _free(outputs))

    return rule


def _per_channel(*tensors: str) -> Rule:
    """Return the rule of layers that treat every channel alone, with vectors [channels]."""

    def rule(module: nn.Module) -> Shape:
        slots = _slots(module, 0, *tensors)
        channels = len(slots[0].channel)
        return Shape(channels, channels, slots, slots, _free(channels), passes=True)

    return rule


def _attention(linears: tuple[str, ...], vectors: tuple[str, ...]) -> Rule:
    """Return the rule of attention layers: ``linears`` [heads C, in], ``vectors`` [1, heads, C].

    A channel of one head can only go together with that channel of every other head.
    """

    weights, biases = [f"{path}.weight" for path in linears], [f"{path}.bias" for path in linears]

    def rule(module: nn.Module) -> Shape:
        vector = find(module, vectors[0])
        if vector is None:
            return Shape(0, 0, (), (), _free(0))  # another form of attention, whose weights have no rule
        heads, width = vector.shape[1:]
        concatenated = bool(module.concat)
        outputs = heads * width if concatenated else width
        channel = np.arange(heads * width) % outputs
        rows = (Slot(slot.tensor, 0, channel) for slot in _slots(module, 0, *weights, *biases))
        outs = (*rows, *_slots(module, 2, *vectors), *_slots(module, 0, "bias"))
        ins = _slots(module, 1, *weights)
        tied = np.arange(outputs).reshape(-1, width)
        return Shape(outputs, len(ins[0].channel) if ins else 0, outs, ins, tied)

    return rule


def _spline(module: nn.Module) -> Shape:
    outs = (*_slots(module, 2, "weight"), *_slots(module, 0, "lin.weight", "bias"))
    ins = (*_slots(module, 1, "weight"), *_slots(module, 1, "lin.weight"))
    return Shape(len(outs[0].channel), len(ins[0].channel), outs, ins, _free(len(outs[0].channel)))


def _structure_learning(module: nn.Module) -> Shape:
    """The attention vector [1, 2 C] of HGP-SL reads a node's channels and then its neighbour's."""
    assert isinstance(module, StructureLearningPool)
    width = module.att.shape[1] // 2
    slots = (Slot("att", 1, np.tile(np.arange(width), 2)),)
    return Shape(width, width, slots, slots, _free(width), passes=True)


_MATRIX = _linear_like(("weight",))
_NORM = _per_channel("weight", "bias", "running_mean", "running_var")

# Message passing whose weights lie in layers of their own, called on all channels at once.
TRANSPARENT = {pyg.GINConv}

RULES: dict[type, Rule] = {
    nn.Linear: _MATRIX,
    pyg.Linear: _MATRIX,
    nn.BatchNorm1d: _NORM,
    nn.PReLU: _per_channel("weight"),
    pyg.GraphNorm: _per_channel("weight", "bias", "mean_scale"),
    pyg.GCNConv: _linear_like(("lin.weight",)),
    pyg.SAGEConv: _linear_like(("lin_l.weight", "lin_r.weight"), ("lin_l.bias",)),
    pyg.GraphConv: _linear_like(("lin_rel.weight", "lin_root.weight"), ("lin_rel.bias",)),
    pyg.LEConv: _linear_like(("lin1.weight", "lin2.weight", "lin3.weight"), ("lin1.bias", "lin3.bias")),
    pyg.GATConv: _attention(("lin",), ("att_src", "att_dst")),
    pyg.GATv2Conv: _attention(("lin_l", "lin_r"), ("att",)),
    pyg.SuperGATConv: _attention(("lin",), ("att_l", "att_r")),
    pyg.SplineConv: _spline,
    SplineConv: _spline,
    StructureLearningPool: _structure_learning,
}
