"""Following a model's forward by torch.fx, layer by layer."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch_geometric.nn import global_add_pool, global_max_pool, global_mean_pool

from gnncompress.errors import QuantizationError
from gnncompress.models.convnet import read_out
from gnncompress.quantization.lowering.builder import Builder, UnloweredError, Value
from gnncompress.quantization.lowering.float_layers import lower_float_module
from gnncompress.quantization.lowering.layers import lower_module
from gnncompress.quantization.lowering.values import Codes, Floats, Sum
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.runtime.program import Program

_POOLS = {global_add_pool: "sum", global_mean_pool: "mean", global_max_pool: "max"}
_READOUTS = {kind: function for function, kind in _POOLS.items()}
# Functions and methods that look at one channel of one row at a time.
_FUNCTIONS: tuple[Any, ...] = (
    F.relu, torch.relu, F.relu6, F.elu, F.selu, F.celu, F.gelu, F.leaky_relu, F.silu, F.softplus, F.dropout, torch.tanh,
    torch.sigmoid, F.sigmoid, F.tanh, F.hardtanh,
)  # fmt: skip
_METHODS = ("relu", "sigmoid", "tanh", "clamp")


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__(autowrap_functions=(read_out, *_POOLS))

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Follow what only holds other modules; every other module is a layer."""
        return not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


def lower(model: nn.Module) -> Program:
    """Return the program of a model, frozen or of floats.

    Raises:
        QuantizationError: if its forward cannot be followed.
    """
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever a forward does that cannot be followed
        raise QuantizationError(
            f"{type(model).__name__}: its forward cannot be followed ({' '.join(str(error).split())[:200]}); "
            "run it simulated"
        ) from error
    walk = _Walk(model)
    return walk.program(graph)


class _Walk:
    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = dict(model.named_modules())
        self.builder = Builder()
        self.values: dict[fx.Node, Any] = {}

    def program(self, graph: fx.Graph) -> Program:
        inputs, optional = [], []
        for node in graph.nodes:
            if node.op == "placeholder":
                inputs.append(node.name)
                optional += [node.name] if node.args else []
                self.values[node] = Floats(self.builder.name(node.name))
            elif node.op == "output":
                (output,) = node.args
                value = self.values.get(output) if isinstance(output, fx.Node) else None
                if value is None:
                    raise QuantizationError(f"{type(self.model).__name__}: its forward must return one tensor")
                result = self.builder.in_floats(value)
            else:
                self.values[node] = getattr(self, f"_{node.op}")(node)
        floats = tuple(self.builder.floats.items())
        operations = tuple(self.builder.operations)
        return Program(operations, tuple(inputs), result.register, result.width, tuple(optional), floats)

    def _call_module(self, node: fx.Node) -> Any:
        name, module = str(node.target), self.modules[str(node.target)]
        value, *rest = node.args
        if node.kwargs or not isinstance(value, fx.Node) or not all(self._is_input(one) for one in rest):
            self.builder.floats[name] = "it is given more than tensors of the model's inputs"
            return self._in_floats(node, module, name)
        given = [self.values[one].register for one in rest if isinstance(one, fx.Node)]
        # A layer of which parts are quantized computes as it does simulated.
        plain = not any(isinstance(inner, Quantizer) for inner in module.modules())
        for rule in (lower_module, lower_float_module) if plain else (lower_module,):
            before = len(self.builder.operations)
            try:
                return rule(self.builder, module, name, self.values[value], *given)
            except UnloweredError as why:
                del self.builder.operations[before:]
                self.builder.floats.setdefault(name, str(why))
        return self._in_floats(node, module, name)

    def _call_function(self, node: fx.Node) -> Any:
        function: Any = node.target
        if function is read_out and isinstance(node.args[0], str):
            return self._pool(node, node.args[0], *node.args[1:])
        if function in _POOLS and not node.kwargs and len(node.args) == 2:
            return self._pool(node, _POOLS[function], *node.args)
        if function in _FUNCTIONS and isinstance(node.args[0], fx.Node):
            return self._each(node, lambda v: function(v, *node.args[1:], **node.kwargs))
        if function in (operator.add, operator.iadd, torch.add) and not node.kwargs:
            first, second = (self.values.get(one) if isinstance(one, fx.Node) else None for one in node.args[:2])
            if isinstance(first, Codes) and isinstance(second, (Codes, Floats)):
                return Sum(first, second)
        return self._in_floats(node, function, getattr(function, "__name__", str(function)))

    def _call_method(self, node: fx.Node) -> Any:
        method = str(node.target)
        if method in _METHODS:
            return self._each(node, lambda v: getattr(v, method)(*node.args[1:], **node.kwargs))
        return self._in_floats(node, lambda v, *args, **kwargs: getattr(v, method)(*args, **kwargs), method)

    def _get_attr(self, node: fx.Node) -> Any:
        found: Any = self.model
        for part in str(node.target).split("."):
            found = getattr(found, part)
        return self.builder.call(lambda: found, [], str(node.target))

    def _each(self, node: fx.Node, function: Callable[[Any], Any]) -> Value:
        with_model = function
        return self.builder.each(self.values[node.args[0]], with_model, node.name)  # type: ignore[index]

    def _pool(self, node: fx.Node, kind: str, x: Any, batch: Any) -> Value:
        value = self.values[x]
        if isinstance(value, Codes) and isinstance(batch, fx.Node) and self._is_input(batch):
            found = self.builder.pooled(value, self.values[batch].register, kind, node.name)
            if found is not None:
                return found
        pool = _READOUTS[kind]
        return self._in_floats(node, lambda *given: pool(*given[-2:]), node.name)

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
