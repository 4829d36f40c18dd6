"""Which channels of a model hang together, found by Torch-Pruning's dependency graph.

Torch-Pruning follows autograd's graph and knows torch's own layers. Message passing, raw parameters and sparse inputs
would mislead it, so while it looks every layer with weights shows as a single node; what happens inside is told by its
rule in ``layers.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from gnncompress.errors import PruningError
from gnncompress.pruning.structured.layers import Shape, layer_shape

Forward = Callable[[nn.Module], Tensor]


def trace(model: nn.Module, forward: Forward) -> tuple[tp.DependencyGraph, dict[nn.Module, Shape], dict[str, str]]:
    """Return the dependency graph of one call ``forward(model)``, the layers with channels, and those without a rule.

    The latter come by name, with the reason; in the graph they are nodes, too, so that what they touch is known.

    Raises:
        PruningError: if the model cannot be traced.
    """
    shapes, opaque = _leaves(model)
    was_training = model.training
    graph = tp.DependencyGraph()
    # The factor makes the output a node of its own, even where it comes straight from a layer.
    with _single_nodes([*shapes, *opaque], shapes) as sizes:
        pruners = {type(module): _Channels(sizes, module in shapes and shapes[module].passes) for module in sizes}
        try:
            graph.build_dependency(
                model, None, forward_fn=lambda traced, _: forward(traced) * 1, customized_pruners=pruners, verbose=False
            )
        except Exception as error:
            raise PruningError(
                f"{type(model).__name__} cannot be traced for structured pruning: "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
        finally:
            model.train(was_training)
    names = {module: name for name, module in model.named_modules()}
    unseen = [names[module] for module in (*shapes, *opaque) if module not in graph.module2node]
    if unseen:
        raise PruningError(
            f"layer {', '.join(unseen)} is not called in inference, so its channels cannot be followed; "
            "take it out of the model, or prune single weights"
        )
    return graph, shapes, {names[module]: reason for module, reason in opaque.items()}


def _leaves(model: nn.Module) -> tuple[dict[nn.Module, Shape], dict[nn.Module, str]]:
    """Part a model into layers whose channels are known and layers that have weights but no rule."""
    shapes: dict[nn.Module, Shape] = {}
    opaque: dict[nn.Module, str] = {}

    def visit(module: nn.Module) -> None:
        found = layer_shape(module)
        if isinstance(found, Shape):
            shapes[module] = found
        elif found and module is not model:
            opaque[module] = found
        else:
            for child in module.children():
                visit(child)

    visit(model)
    return shapes, opaque


class _Node(torch.autograd.Function):
    """A layer's call as one node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, call: Callable[[], Any], anchor: Tensor, *inputs: Tensor) -> Any:
        output = call()
        if isinstance(output, tuple):
            return tuple(part.clone() if isinstance(part, Tensor) else part for part in output)
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError("the graph is only looked at")


@contextlib.contextmanager
def _single_nodes(
    modules: list[nn.Module], shapes: Mapping[nn.Module, Shape]
) -> Iterator[dict[nn.Module, tuple[int, int]]]:
    """Make each module's call one node of the graph; yield the modules' (output, input) channels.

    Those of a module without a shape are filled in when it is called.
    """
    # Makes every output part of the graph, also that of a layer whose input needs no gradient.
    anchor = torch.zeros((), requires_grad=True)
    sizes = {
        module: (shapes[module].outputs, shapes[module].inputs) if module in shapes else (1, 1) for module in modules
    }

    def one_node(module: nn.Module) -> Callable[..., Any]:
        original = module.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            inputs = [given for given in (*arguments, *named.values()) if isinstance(given, Tensor)]
            output = _Node.apply(lambda: original(*arguments, **named), anchor, *(t for t in inputs if t.requires_grad))
            if module not in shapes:
                first = output[0] if isinstance(output, tuple) else output
                sizes[module] = (first.size(-1), inputs[0].size(-1) if inputs else first.size(-1))
            return output

        return forward

    try:
        for module in modules:
            module.__dict__["forward"] = one_node(module)
        yield sizes
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)


class _Channels(tp.pruner.BasePruningFunc):
    """Tells Torch-Pruning how many channels a layer has; it never prunes by it."""

    def __init__(self, sizes: Mapping[nn.Module, tuple[int, int]], passes: bool) -> None:
        super().__init__()
        self._sizes = sizes
        if passes:
            self.__dict__["prune_in_channels"] = (
                self.prune_out_channels
            )  # what goes in comes out: the two hang together

    def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        raise NotImplementedError

    def prune_in_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
        raise NotImplementedError

    def get_out_channels(self, layer: nn.Module) -> int:
        return self._sizes[layer][0]

    def get_in_channels(self, layer: nn.Module) -> int:
        return self._sizes[layer][1]
