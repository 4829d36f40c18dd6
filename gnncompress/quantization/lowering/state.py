"""What a forward changes of its own model while it is followed: a program has no such memory from call to call."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gnncompress.quantization.lowering.aliasing import changed_by

_NUMBERS = (bool, int, float)
# What torch.fx calls the tensors that a forward makes itself, and keeps on the model for the graph.
CONSTANT = "_tensor_constant"
_VIEWS = {
    "view", "t", "transpose", "permute", "reshape", "detach", "squeeze", "unsqueeze", "flatten", "narrow", "select",
    "expand",
}  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """One attribute or buffer of a module."""

    holder: dict[str, Any]
    name: str
    path: str


class Snapshot:
    """What the modules of a model hold, to be compared with, and gone back to."""

    def __init__(self, model: nn.Module) -> None:
        self._holders: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self._contents: list[tuple[Any, Any]] = []
        self._tensors: list[tuple[Tensor, int, Tensor]] = []
        for path, module in model.named_modules():
            for holder in (vars(module), module._buffers):
                self._holders.append((path, holder, dict(holder)))
                for name, value in holder.items():
                    self._keep(name, value)

    def _keep(self, name: str, value: Any) -> None:
        if isinstance(value, (list, dict, set)) and not name.startswith("_"):
            self._contents.append((value, value.copy()))
        elif isinstance(value, Tensor) and not value.is_inference() and not isinstance(value, nn.Parameter):
            self._tensors.append((value, value._version, value.detach().clone()))

    def changed(self) -> list[Slot]:
        """Return the attributes and buffers that are others now, or hold something else."""
        contents = {id(value) for value, before in self._contents if not _alike(value, before)}
        tensors = {id(value) for value, version, _ in self._tensors if value._version != version}
        found = []
        for path, holder, before in self._holders:
            for name, value in holder.items():
                same = name.startswith(CONSTANT) or (
                    name in before and (before[name] is value or _equal(before[name], value))
                )
                if not same or id(value) in contents or id(value) in tensors:
                    found.append(Slot(holder, name, f"{path}.{name}".lstrip(".")))
        return found

    def restore(self) -> None:
        """Undo all changes; what did not change is not touched, for other threads may run the same modules."""
        for _, holder, before in self._holders:
            for name in [one for one in holder if one not in before and not one.startswith(CONSTANT)]:
                del holder[name]
            holder.update({name: value for name, value in before.items() if holder.get(name, holder) is not value})
        for value, content in self._contents:
            if not _alike(value, content):
                value.clear()
                (value.extend if isinstance(value, list) else value.update)(content)
        for tensor, version, content in self._tensors:
            if tensor._version != version:
                with torch.no_grad():
                    tensor.copy_(content)


def is_number(value: Any) -> bool:
    """Say whether a value is a number, or a tensor of them."""
    return isinstance(value, (*_NUMBERS, Tensor))


def alike(first: fx.Graph, second: fx.Graph, model: nn.Module) -> bool:
    """Say whether two graphs of a model do the same with the same constants."""
    one, other = list(first.nodes), list(second.nodes)
    if len(one) != len(other):
        return False
    number = {node: at for nodes in (one, other) for at, node in enumerate(nodes)}

    def shown(node: fx.Node) -> str:
        place = fx.node.map_arg((node.args, node.kwargs), lambda given: number.get(given, -1))
        target = CONSTANT if _is_constant(node) else node.target
        return f"{node.op} {target} {place}"

    def equal(a: fx.Node, b: fx.Node) -> bool:
        values = [getattr(model, str(node.target)) for node in (a, b) if _is_constant(node)]
        return shown(a) == shown(b) and (len(values) < 2 or torch.equal(*values))

    return all(equal(a, b) for a, b in zip(one, other, strict=True))


def depends_on(graph: fx.Graph, carried: set[fx.Node], modules: Mapping[str, nn.Module]) -> bool:
    """Say whether what a graph returns or changes in place may depend on values carried from call to call."""
    tainted = set(carried)
    for node in graph.nodes:
        if not any(one in tainted for one in node.all_input_nodes):
            continue
        if node.op == "output":
            return True
        target = changed_by(node, modules)
        if target is not None and target not in tainted:
            return True
        tainted.add(node)
    return False


def changed_attributes(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> set[str]:
    """Return the names of the model's tensors that a graph changes in place, also through a view."""
    found = set()
    for node in graph.nodes:
        source = changed_by(node, modules)
        while source is not None and source.op in ("call_function", "call_method"):
            views = source.target in (getattr, operator.getitem) or source.target in _VIEWS
            source = source.args[0] if views and isinstance(source.args[0], fx.Node) else None
        if source is not None and source.op == "get_attr":
            found.add(str(source.target))
    return found


def constants(graph: fx.Graph) -> set[str]:
    """Return the names of the tensors that the forward made itself."""
    return {str(node.target) for node in graph.nodes if _is_constant(node)}


def _is_constant(node: fx.Node) -> bool:
    return node.op == "get_attr" and str(node.target).startswith(CONSTANT)


def _equal(before: Any, now: Any) -> bool:
    return type(before) is type(now) and isinstance(now, (*_NUMBERS, str)) and bool(before == now)


def _alike(value: Any, before: Any) -> bool:
    if isinstance(value, set):
        return bool(value == before)
    pairs = zip(value, before, strict=False) if isinstance(value, list) else ()
    if isinstance(value, dict):
        if value.keys() != before.keys():
            return False
        pairs = zip(value.values(), before.values(), strict=True)
    return len(value) == len(before) and all(a is b or _equal(b, a) for a, b in pairs)
