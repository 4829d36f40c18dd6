"""Following a model's forward by torch.fx, layer by layer."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection
from dataclasses import replace
from inspect import getsource, signature
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch_geometric.nn import MessagePassing, global_add_pool, global_max_pool, global_mean_pool

from gnncompress.errors import QuantizationError
from gnncompress.models.convnet import read_out
from gnncompress.quantization.lowering.builder import Builder, Value
from gnncompress.quantization.lowering.float_layers import lower_float_module
from gnncompress.quantization.lowering.known import BY_CHANNEL, IDENTITIES, UnloweredError
from gnncompress.quantization.lowering.layers import lower_module
from gnncompress.quantization.lowering.values import Codes, Floats, Sum
from gnncompress.quantization.places import LINEARS
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.runtime.aggregation import graphs_in
from gnncompress.runtime.program import Program

_POOLS = {global_add_pool: "sum", global_mean_pool: "mean", global_max_pool: "max"}
_READOUTS = {kind: function for function, kind in _POOLS.items()}
# Functions and methods that look at one channel of one row at a time.
_FUNCTIONS: tuple[Any, ...] = (
    F.relu, torch.relu, F.relu6, F.elu, F.selu, F.celu, F.gelu, F.leaky_relu, F.silu, F.softplus, torch.tanh,
    torch.sigmoid, F.sigmoid, F.tanh, F.hardtanh,
)  # fmt: skip
_METHODS = ("relu", "sigmoid", "tanh", "clamp")
_IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ipow", "relu_")


# Arguments that may be left out and are data; all others have their defaults.
_DATA = ("batch", "edge_weight", "edge_attr", "pseudo")


class _Value(fx.Proxy):
    """A value of which ``+=`` is known from ``+``: the former changes what other names stand for, too."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what stands for a node's value."""
        return _Value(node, self)

    def __init__(self) -> None:
        super().__init__(autowrap_functions=(read_out, *_POOLS))

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Say whether a module is a layer; what a user's own modules and PyG's models do is followed."""
        if isinstance(module, (MessagePassing, *IDENTITIES, *BY_CHANNEL, *LINEARS)):
            return True
        home = type(module).__module__
        holds = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
        return home.startswith(("torch.", "torch_geometric.nn.")) and not holds and ".models." not in home


def lower(model: nn.Module) -> Program:
    """Return the program of a model, frozen or of floats.

    Raises:
        QuantizationError: if its forward cannot be followed.
    """
    walk = _Walk(model, Builder())
    program = walk.program()
    if not walk.tested:
        return program
    try:
        return replace(program, without=_Walk(model, Builder(), left_out=tuple(walk.tested)).program())
    except QuantizationError:  # then what is tested has to be given
        return replace(program, optional=tuple(name for name in program.optional if name not in walk.tested))


def _follow(builder: Builder, module: nn.Module, name: str, value: Value) -> Value:
    """Return what a network within a layer makes of a value."""
    if _Tracer().is_leaf_module(module, name):
        found = _by_rule(builder, module, name, value)
        return builder.call(module, [value], name) if found is None else found
    return _Walk(module, builder, f"{name}.").result(value)


def _by_rule(builder: Builder, module: nn.Module, name: str, value: Value, *given: str) -> Value | None:
    """Return what a layer makes of a value by the rule for its class, or None, the reason noted, if there is none."""
    # A layer of which parts are quantized computes as it does simulated.
    plain = not any(isinstance(inner, Quantizer) for inner in module.modules())
    for rule in (lower_module, lower_float_module) if plain else (lower_module,):
        before = builder.mark()
        try:
            return rule(builder, module, name, value, *given)
        except UnloweredError as why:
            builder.forget(before)
            builder.floats.setdefault(name, str(why))
    return None


class _Walk:
    """A walk through one module's forward, whose operations it adds to a program."""

    def __init__(self, model: nn.Module, builder: Builder, prefix: str = "", left_out: Collection[str] = ()) -> None:
        self.model, self.builder, self.prefix, self.left_out = model, builder, prefix, left_out
        builder.follow = _follow
        self.modules = dict(model.named_modules())
        self.values: dict[fx.Node, Any] = {}
        self.inputs: list[str] = []
        self.optional: list[str] = []
        self.tested: list[str] = []

    def program(self) -> Program:
        """Return the program of the whole forward."""
        result = self.builder.in_floats(self.result(None))
        operations, floats = tuple(self.builder.operations), tuple(self.builder.floats.items())
        return Program(operations, tuple(self.inputs), result.register, result.width, tuple(self.optional), floats)

    def result(self, first: Value | None) -> Value:
        """Return what the forward returns; ``first`` is what it is given, inputs of the program if None."""
        kind = type(self.model).__name__
        taken = signature(self.model.forward).parameters.values()
        left_out = {
            one.name: one.default
            for one in taken
            if one.default is not one.empty
            and (first is not None or one.name not in _DATA or one.name in self.left_out)
        }
        try:
            graph = _Tracer().trace(self.model, left_out)
        except Exception as error:  # whatever a forward does that cannot be followed
            why = f"{kind}: its forward cannot be followed ({' '.join(str(error).split())[:200]})"
            if first is not None:
                raise UnloweredError(why) from error
            raise QuantizationError(f"{why}; run it simulated") from error
        fixed: set[fx.Node] = set()  # what only checks that arguments have their defaults
        for node in graph.nodes:
            is_fixed = node.op == "placeholder" and re.sub(r"_\d+$", "", node.name) in left_out
            if is_fixed or (node.all_input_nodes and fixed.issuperset(node.all_input_nodes)):
                fixed.add(node)
            elif node.op == "placeholder":
                self._take(node, first)
            elif node.op == "output":
                (output,) = node.args
                value = self.values.get(output) if isinstance(output, fx.Node) else None
                if value is None:
                    raise QuantizationError(f"{kind}: its forward must return one tensor")
                return value
            else:
                self.values[node] = getattr(self, f"_{node.op}")(node)
                if self._in_place(node):
                    self.values[node.all_input_nodes[0]] = self.values[node]
        raise QuantizationError(f"{kind}: its forward returns nothing")

    def _take(self, node: fx.Node, first: Value | None) -> None:
        if first is None:
            self.inputs.append(node.name)
            self.optional += [node.name] if node.args else []
            # A branch on whether an input is there is taken as if it were: without it the program is another one.
            if node.args and re.search(rf"\b{node.name}\s+is\s+(not\s+)?None", _source(self.model)):
                self.tested.append(node.name)
            self.values[node] = Floats(self.builder.name(node.name))
        elif not self.values:
            self.values[node] = first
        else:
            raise UnloweredError(f"its network takes {node.name}, too")

    def _in_place(self, node: fx.Node) -> bool:
        """Say whether a node changes what it is given first."""
        if node.op == "call_module":
            return bool(getattr(self.modules[str(node.target)], "inplace", False))
        if node.op == "call_method":
            return re.fullmatch(r"[a-z]\w*[a-z\d]_", str(node.target)) is not None
        return bool(node.kwargs.get("inplace")) or getattr(node.target, "__name__", "") in _IN_PLACE

    def _call_module(self, node: fx.Node) -> Any:
        name, module = f"{self.prefix}{node.target}", self.modules[str(node.target)]
        value, *rest = _positional(node, module)
        if not isinstance(value, fx.Node) or not all(self._is_input(one) for one in rest):
            self.builder.floats[name] = "it is given more than tensors of the model's inputs"
            return self._in_floats(node, module, name)
        given = [self.values[one].register for one in rest if isinstance(one, fx.Node)]
        found = _by_rule(self.builder, module, name, self.values[value], *given)
        return self._in_floats(node, module, name) if found is None else found

    def _call_function(self, node: fx.Node) -> Any:
        function: Any = node.target
        if function is read_out and isinstance(node.args[0], str):
            return self._pool(node, node.args[0], *node.args[1:])
        if function in _POOLS and not node.kwargs and len(node.args) == 2:
            return self._pool(node, _POOLS[function], *node.args)
        if function is F.dropout and node.kwargs.get("training", node.args[2:3] != (False,)) is False:
            return self.values[node.args[0]]  # type: ignore[index]
        if function in _FUNCTIONS and node.all_input_nodes == [node.args[0]]:
            return self._each(node, lambda v: function(v, *node.args[1:], **node.kwargs))
        if function in (operator.add, operator.iadd, torch.add) and not node.kwargs:
            first, second = (self.values.get(one) if isinstance(one, fx.Node) else None for one in node.args[:2])
            if isinstance(second, Codes) and isinstance(first, Floats):
                first, second = second, first
            if isinstance(first, Codes) and isinstance(second, (Codes, Floats)) and first.width == second.width:
                return Sum(first, second)
        what = getattr(function, "__name__", str(function))
        self.builder.floats[f"{self.prefix}{node.name}"] = f"torch's {what}"
        return self._in_floats(node, function, what)

    def _call_method(self, node: fx.Node) -> Any:
        method = str(node.target)
        if method in _METHODS and node.all_input_nodes == [node.args[0]]:
            return self._each(node, lambda v: getattr(v, method)(*node.args[1:], **node.kwargs))
        self.builder.floats[f"{self.prefix}{node.name}"] = f"a tensor's {method}"
        return self._in_floats(node, lambda v, *args, **kwargs: getattr(v, method)(*args, **kwargs), method)

    def _get_attr(self, node: fx.Node) -> Any:
        found: Any = self.model
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return self.builder.call(lambda: found, [], str(node.target))

    def _each(self, node: fx.Node, function: Callable[[Any], Any]) -> Value:
        return self.builder.each(self.values[node.args[0]], function, node.name)  # type: ignore[index]

    def _pool(self, node: fx.Node, kind: str, x: Any, batch: Any) -> Value:
        value = self.values[x]
        if isinstance(value, Codes) and isinstance(batch, fx.Node) and self._is_input(batch):
            found = self.builder.pooled(value, self.values[batch].register, kind, node.name)
            if found is not None:
                return found
        return self._in_floats(node, lambda *given: _pooled(_READOUTS[kind], *given[-2:]), node.name)

    def _is_input(self, value: Any) -> bool:
        return isinstance(value, fx.Node) and value.op == "placeholder"

    def _in_floats(self, node: fx.Node, function: Callable[..., Any], what: str) -> Floats:
        """Let torch do what a node does: its nodes' values come from registers, all else is as it is in the graph."""
        nodes = list(node.all_input_nodes)
        given = [self.values[one] for one in nodes]
        args, kwargs = node.args, node.kwargs

        def call(*tensors: Any) -> Any:
            known = dict(zip(nodes, tensors, strict=True))
            return function(
                *fx.node.map_arg(args, lambda one: known[one]), **fx.node.map_arg(kwargs, lambda one: known[one])
            )

        return self.builder.call(call, given, what, name=node.name)


def _pooled(pool: Callable[..., Tensor], x: Tensor, batch: Tensor | None) -> Tensor:
    """Let PyG pool rows once the graphs are counted: it would make a row for each number up to the largest."""
    return pool(x, batch, None if batch is None else graphs_in(batch, len(x)))


def _positional(node: fx.Node, module: nn.Module) -> tuple[Any, ...]:
    """Return the arguments of a layer in the order of its parameters; a gap, or what is no argument, as None."""
    given = signature(module.forward).bind(*node.args, **node.kwargs).arguments
    found = [given.get(name) for name in signature(module.forward).parameters]
    while found and found[-1] is None:
        found.pop()
    return tuple(found)


def _source(model: nn.Module) -> str:
    try:
        return getsource(type(model).forward)
    except (OSError, TypeError):  # made by a program, and not in a file
        return ""
