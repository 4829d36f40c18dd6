"""Following a model's forward by torch.fx, layer by layer."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gnncompress.errors import QuantizationError
from gnncompress.models.convnet import read_out
from gnncompress.quantization.lowering.aliasing import changed_by, held_in_floats
from gnncompress.quantization.lowering.builder import Builder, Value
from gnncompress.quantization.lowering.float_layers import lower_float_module
from gnncompress.quantization.lowering.known import UnloweredError, calls_otherwise, has_own_hooks
from gnncompress.quantization.lowering.layers import lower_module
from gnncompress.quantization.lowering.proxies import POOLS, Tracer, tensors_stood_for
from gnncompress.quantization.lowering.state import (
    Slot,
    Snapshot,
    alike,
    changed_attributes,
    constants,
    depends_on,
    is_number,
)
from gnncompress.quantization.lowering.values import Codes, Floats, Sum
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.runtime.aggregation import graphs_in
from gnncompress.runtime.program import Program

_READOUTS = {kind: function for function, kind in POOLS.items()}
# Functions and methods that look at one channel of one row at a time.
_FUNCTIONS: tuple[Any, ...] = (
    F.relu, torch.relu, F.relu6, F.elu, F.selu, F.celu, F.gelu, F.leaky_relu, F.silu, F.softplus, torch.tanh,
    torch.sigmoid, F.sigmoid, F.tanh, F.hardtanh,
)  # fmt: skip
_METHODS = ("relu", "sigmoid", "tanh", "clamp")
_STRIDED: Mapping[str, torch.layout] = MappingProxyType({})


def lower(
    model: nn.Module, absent: Collection[str] = (), layouts: Mapping[str, torch.layout] = _STRIDED
) -> tuple[Program, frozenset[str]]:
    """Return the program of a model, frozen or of floats, and the inputs whose layout its forward asks for.

    ``absent`` names the inputs that are None, ``layouts`` gives the layouts of those that are not strided: the program
    is that of calls of this kind.

    Raises:
        QuantizationError: if its forward cannot be followed.
    """
    walk = _Walk(model, Builder(model), absent=absent, layouts=layouts)
    return walk.program(), frozenset(walk.asked)


def _follow(builder: Builder, module: nn.Module, name: str, value: Value) -> Value:
    """Return what a network within a layer makes of a value."""
    if Tracer().is_leaf_module(module, name):
        found = _by_rule(builder, module, name, value)
        if found is None:
            builder.passed_by(module)
            found = builder.call(module, [value], name)
        return builder.reached_module(module, found)
    if has_own_hooks(module) or "forward" in vars(module):
        raise UnloweredError("its network has hooks, or a forward of its own")
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

    def __init__(
        self,
        model: nn.Module,
        builder: Builder,
        prefix: str = "",
        absent: Collection[str] = (),
        layouts: Mapping[str, torch.layout] = _STRIDED,
    ) -> None:
        self.model, self.builder, self.prefix = model, builder, prefix
        self.absent, self.layouts = absent, layouts
        builder.follow = _follow
        self.modules = dict(model.named_modules())
        self.values: dict[fx.Node, Any] = {}
        self.inputs: list[str] = []
        self.asked: set[str] = set()
        self.unfollowed: list[nn.Module] = []
        # Constants that the forward makes and then changes: each call has copies of its own.
        self.own: set[str] = set()
        self.copies: dict[str, Floats] = {}

    def program(self) -> Program:
        """Return the program of the whole forward."""
        result = self.builder.in_floats(self.result(None))
        return Program(
            tuple(self.builder.operations),
            tuple(self.inputs),
            result.register,
            result.width,
            floats=tuple(self.builder.floats.items()),
            stands_for=dict(self.builder.stands_for),
            calls=dict(self.builder.calls),
        )

    def result(self, first: Value | None) -> Value:
        """Return what the forward returns; ``first`` is what it is given, inputs of the program if None."""
        kind = type(self.model).__name__
        graph = self._graph(kind, first)
        held = held_in_floats(graph, self.modules)
        self.own = changed_attributes(graph, self.modules) & constants(graph)
        for node in graph.nodes:
            if node.op == "placeholder":
                self._take(node, first)
            elif node.op == "output":
                return self._returned(node, kind)
            else:
                self.values[node] = getattr(self, f"_{node.op}")(node)
                target = changed_by(node, self.modules)
                if target is not None:
                    self.values[target] = self.values[node]
            if node in held:
                self.values[node] = self.builder.shared(self.values[node])
        raise QuantizationError(f"{kind}: its forward returns nothing")

    def _graph(self, kind: str, first: Value | None) -> fx.Graph:
        taken = signature(self.model.forward).parameters.values()
        known = {
            one.name: None if one.name in self.absent else one.default
            for one in taken
            if one.name in self.absent
            or (one.default is not one.empty and (first is not None or not may_be_input(one)))
        }
        try:
            with _forward_of_class(self.model), tensors_stood_for():
                tracer = self._trace(known)
        except Exception as error:  # whatever a forward does that cannot be followed
            why = f"{kind}: its forward cannot be followed ({' '.join(str(error).split())[:200]})"
            if first is not None:
                raise UnloweredError(why) from error
            raise QuantizationError(f"{why}; run it simulated") from error
        self.asked, self.unfollowed = tracer.asked, tracer.unfollowed
        return tracer.graph

    def _trace(self, known: Mapping[str, Any]) -> Tracer:
        """Follow the forward; what it changes of the model is undone, and must not decide what it returns.

        Raises:
            TraceError: if what one call leaves in the model may decide what the next returns.
        """
        before = Snapshot(self.model)

        def traced(state: Sequence[Slot] = ()) -> Tracer:
            tracer = Tracer(self.layouts, state)
            tracer.trace(self.model, dict(known))
            if tracer.refused:
                raise fx.proxy.TraceError(tracer.refused[-1])
            return tracer

        try:
            tracer = traced()
            changed = before.changed()
            if changed:
                names = ", ".join(slot.path for slot in changed)
                again = traced()  # with what the first left
                before.restore()
                numbers = [slot for slot in changed if slot.name in slot.holder and is_number(slot.holder[slot.name])]
                unknown = traced(numbers) if numbers else None
                carried = unknown is not None and depends_on(unknown.graph, unknown.carried, self.modules)
                if carried or (len(numbers) < len(changed) and not alike(tracer.graph, again.graph, self.model)):
                    raise fx.proxy.TraceError(f"what it returns depends on what calls before left in {names}")
        finally:
            before.restore()
        own = changed_attributes(tracer.graph, self.modules) - constants(tracer.graph)
        read = {node for node in tracer.graph.nodes if node.op == "get_attr" and str(node.target) in own}
        called = {str(node.target) for node in tracer.graph.nodes if node.op == "call_module"}
        held = any(name.startswith(f"{layer}.") for name in own for layer in called)
        if held or depends_on(tracer.graph, read, self.modules):
            raise fx.proxy.TraceError(f"it changes its own {', '.join(sorted(own))}")
        return tracer

    def _take(self, node: fx.Node, first: Value | None) -> None:
        if first is None:
            self.inputs.append(str(node.target))
            self.values[node] = Floats(self.builder.name(str(node.target)))
        elif not self.values:
            self.values[node] = first
        else:
            raise UnloweredError(f"its network takes {node.name}, too")

    def _returned(self, node: fx.Node, kind: str) -> Value:
        (output,) = node.args
        value = self.values.get(output) if isinstance(output, fx.Node) else None
        if value is None:
            raise QuantizationError(f"{kind}: its forward must return one tensor")
        found: Value = value
        return found

    def _call_module(self, node: fx.Node) -> Any:
        name, module = f"{self.prefix}{node.target}", self.modules[str(node.target)]
        value, *rest = _positional(node, module) or (None,)
        found = None
        if not isinstance(value, fx.Node) or not all(self._is_input(one) for one in rest):
            self.builder.floats[name] = "it is given more than tensors of the model's inputs"
        else:
            given = [self.values[one].register for one in rest if isinstance(one, fx.Node)]
            found = _by_rule(self.builder, module, name, self.values[value], *given)
        if found is None:
            self.builder.passed_by(module)
            own = any(module is one for one in self.unfollowed)
            # What a __call__ of its own does around the layer's forward is in the graph.
            called = partial(nn.Module.__call__, module) if calls_otherwise(module) else module
            found = self._in_floats(node, _on_copies(called) if own else called, name)
        return self.builder.reached_module(module, found)

    def _call_function(self, node: fx.Node) -> Any:
        function: Any = node.target
        if function is read_out and isinstance(node.args[0], str):
            return self._pool(node, node.args[0], *node.args[1:])
        if function in POOLS and not node.kwargs and len(node.args) == 2:
            return self._pool(node, POOLS[function], *node.args)
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
        name = str(node.target)
        if name in self.own:
            if name not in self.copies:
                constant = getattr(self.model, name)
                self.copies[name] = self.builder.call(lambda: constant.clone(), [], name)
            return self.copies[name]
        found: Any = self.model
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return self.builder.call(lambda: found, [], str(node.target))

    def _each(self, node: fx.Node, function: Callable[[Any], Any]) -> Value:
        return self.builder.each(self.values[node.args[0]], function, node.name)  # type: ignore[index]

    def _pool(self, node: fx.Node, kind: str, x: Any, batch: Any) -> Value:
        value = self.values[x]
        if isinstance(value, Codes) and (batch is None or self._is_input(batch)):
            graphs = "" if batch is None else self.values[batch].register
            found = self.builder.pooled(value, graphs, kind, node.name)
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


@contextmanager
def _forward_of_class(module: nn.Module) -> Iterator[None]:
    """Let a method that was set on a module, as PyG's Sequential does, be that of its class, which torch.fx looks at.

    Raises:
        ValueError: if it is no method of this very module.
    """
    forward, kind = vars(module).get("forward"), type(module)
    if forward is None:
        yield
        return
    if getattr(forward, "__self__", None) is not module:
        raise ValueError("forward was replaced on this very object; write a subclass")
    module.__class__ = type(kind.__name__, (kind,), {"forward": forward.__func__, "__module__": kind.__module__})
    try:
        yield
    finally:
        module.__class__ = kind


def _on_copies(module: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls a module on copies: the memory of registers is not the module's to free."""

    def call(*args: Any, **kwargs: Any) -> Any:
        given = [one.clone() if isinstance(one, Tensor) else one for one in args]
        return module(*given, **{name: one.clone() if isinstance(one, Tensor) else one for name, one in kwargs.items()})

    return call


def may_be_input(parameter: Parameter) -> bool:
    """Say whether a parameter of a forward may be data: it has no default, or the default None."""
    return parameter.default is parameter.empty or parameter.default is None
