"""What the layers of PyG and of this package are to quantization: facts in tables, one line a layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch_geometric.nn import GATConv, GCNConv, GINConv, GraphConv, MessagePassing, SAGEConv, dense
from torch_geometric.nn.dense import Linear

from gnncompress.models.hgpsl import GraphConvolution, StructureLearningPool
from gnncompress.models.ness import Propagation
from gnncompress.models.spline import SplineConv

LINEARS: tuple[type, ...] = (nn.Linear, Linear, nn.Conv1d, nn.Conv2d)
# Only their weights are quantized: what they look up is then on the grid already.
TABLES: tuple[type, ...] = (nn.Embedding, nn.EmbeddingBag)
# They propagate what they are given, by other means than PyG's.
PROPAGATING: tuple[type, ...] = (GraphConvolution, Propagation)
# Convolutions of dense adjacencies: what they add up passes no hook.
DENSE: tuple[type, ...] = tuple(kind for name, kind in vars(dense).items() if name.startswith("Dense"))
# A layer that owns weights and is no convolution.
OWNING: tuple[type, ...] = (StructureLearningPool,)

_PLAIN = {MessagePassing.message, GINConv.message, SAGEConv.message}
_UNWEIGHTED = {GCNConv.message, GraphConv.message}
# Children that a layer reads the weights of and never calls.
_READ = {SplineConv: ("lin",)}
# Children that are whole networks: what enters them has lost its place among the nodes' protection.
_NETWORKS = ("nn", "mlp", "pre_nns", "post_nns", "local_nn", "global_nn")
# Which dimension of a weight is its output channels, where it is not the first.
_CHANNELS = {(SplineConv, "weight"): 2, (GATConv, "att_src"): 1, (GATConv, "att_dst"): 1}


@dataclass(frozen=True)
class Point:
    """A place at which a quantizer stands: its layer's path, its name in the methods' tables, how many bits.

    ``bits`` is a number, or what decides it.
    """

    layer: str
    name: str
    bits: int | str


def plain_messages(conv: MessagePassing) -> str:
    """Say which messages of a convolution are just x_j: all, those without edge weights (unweighted), or none."""
    message = getattr(type(conv), "message", None)
    if {"x", "x_i", "x_j"} & set(conv.inspector.get_flat_param_names(["aggregate", "update"])):
        return "none"  # they are to get the features as they are
    return "all" if message in _PLAIN else "unweighted" if message in _UNWEIGHTED else "none"


def only_read(parent: nn.Module | None, child: str) -> bool:
    """Say whether a layer reads this child's weights and never calls it."""
    return any(isinstance(parent, kind) and child in children for kind, children in _READ.items())


def by_node(parent: nn.Module | None, child: str) -> bool:
    """Say whether what this child of a convolution is given has a row a node, protected with the node."""
    return isinstance(parent, (MessagePassing, *PROPAGATING)) and child not in _NETWORKS


def channel_dim(module: nn.Module, parameter: str) -> int:
    """Return which dimension of a module's weight is its output channels, or heads."""
    return next((dim for (kind, name), dim in _CHANNELS.items() if isinstance(module, kind) and name == parameter), 0)


def propagates_features(conv: MessagePassing) -> bool:
    """Say whether a convolution's messages are made of its source nodes' features under the name x."""
    return "x_j" in conv.inspector.get_flat_param_names(["message"])


def propagates_weights(conv: MessagePassing) -> tuple[str, ...]:
    """Return the names of the edge coefficients that a convolution's ``propagate`` takes."""
    taken = conv.inspector.get_flat_param_names(["message", "aggregate", "update"])
    return tuple(name for name in ("edge_weight", "norm", "coefficients") if name in taken)
