"""Which values of a traced forward are changed through another name, so that both names must share their memory."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv

from gnncompress.models.convnet import read_out
from gnncompress.models.spline import SplineConv
from gnncompress.quantization.lowering.known import BY_CHANNEL
from gnncompress.quantization.lowering.proxies import AUGMENTED, POOLS, set_item
from gnncompress.quantization.places import LINEARS

# What surely returns memory of its own; all else may return a view of what it is given.
_FRESH_FUNCTIONS = {
    F.relu, torch.relu, F.relu6, F.elu, F.selu, F.celu, F.gelu, F.leaky_relu, F.silu, F.softplus, torch.tanh,
    F.hardtanh, torch.sigmoid, F.sigmoid, F.tanh, F.linear, F.softmax, F.log_softmax, torch.softmax, torch.log_softmax,
    F.normalize, operator.add, operator.sub, operator.mul, operator.truediv, operator.matmul, operator.neg,
    operator.pow, operator.gt, operator.lt, operator.ge, operator.le, torch.add, torch.sub, torch.mul, torch.div,
    torch.matmul, torch.mm, torch.cat, torch.stack, torch.exp, torch.abs, torch.clamp, torch.where, torch.sum,
    torch.mean, torch.zeros_like, torch.ones_like, torch.clone, read_out, *POOLS,
}  # fmt: skip
_FRESH_METHODS = {
    "relu", "sigmoid", "tanh", "clamp", "clone", "exp", "abs", "add", "sub", "mul", "div", "matmul", "mm", "softmax",
    "log_softmax", "sum", "mean", "neg", "pow", "sqrt", "size", "dim", "index_select", "scatter", "index_add",
}  # fmt: skip
_FRESH_MODULES = (*LINEARS, *BY_CHANNEL, GATConv, GCNConv, GINConv, SAGEConv, SplineConv)


def changed_by(node: fx.Node, modules: Mapping[str, nn.Module]) -> fx.Node | None:
    """Return the node whose value a node changes in place, None if it changes none."""
    if node.op == "call_module":
        inplace = getattr(modules[str(node.target)], "inplace", False)
        return node.all_input_nodes[0] if inplace and node.all_input_nodes else None
    if node.op not in ("call_method", "call_function"):
        return None
    out = node.kwargs.get("out")
    if isinstance(out, fx.Node):
        return out
    first = node.args[0] if node.args else None
    if not isinstance(first, fx.Node):
        return None
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    augmented = name in AUGMENTED or (name.startswith("__") and name.strip("_") in AUGMENTED)
    in_place = re.fullmatch(r"[a-z]\w*[a-z\d]_", name) is not None
    changes = node.target is set_item or name == "__setitem__" or augmented or in_place or _told_to(node)
    return first if changes else None


def held_in_floats(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> set[fx.Node]:
    """Return the values that must be held in floats, in memory that all their names share.

    They are those that one name changes in place and another name, made before the change, shows later. Everything that
    is not known to return memory of its own is taken to return a view.
    """
    order = {node: number for number, node in enumerate(graph.nodes)}
    family: dict[fx.Node, set[fx.Node]] = {}
    constants: dict[str, fx.Node] = {}
    for node in graph.nodes:
        first = constants.setdefault(str(node.target), node) if node.op == "get_attr" else node
        family.setdefault(first, {first}).add(node)
        family[node] = family[first]
        if not _is_fresh(node, modules) or changed_by(node, modules) is not None:
            for source in node.all_input_nodes:
                if family[source] is not family[node]:
                    family[source] |= family[node]
                    for one in family[source]:
                        family[one] = family[source]
    held: set[fx.Node] = set()
    for node in graph.nodes:
        target = changed_by(node, modules)
        if target is None:
            continue
        before = {one for one in family[target] if order[one] < order[node]}
        others = before - {target}
        if any(order[user] > order[node] for one in others for user in one.users):
            held |= before
    return held


def _is_fresh(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, _FRESH_MODULES) and not getattr(module, "inplace", False)
    if node.op == "call_method":
        return str(node.target) in _FRESH_METHODS
    if node.op == "call_function":
        return node.target in _FRESH_FUNCTIONS and not _told_to(node)
    return True


def _told_to(node: fx.Node) -> bool:
    """Say whether a function is told by an argument, named or not, to work in place."""
    if node.kwargs.get("inplace"):
        return True
    if node.op != "call_function" or len(node.args) < 2:
        return False
    try:
        bound: dict[str, Any] = signature(node.target).bind(*node.args, **node.kwargs).arguments  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a builtin, which has no signature and no such argument
        return False
    return bool(bound.get("inplace"))
