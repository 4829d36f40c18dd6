"""The hooks by which quantizers take part in a model's forward pass, one small object for each kind of place.

They are objects and not closures, so that a deep copy of a model has hooks of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import is_torch_sparse_tensor, to_edge_index

from gnncompress.errors import QuantizationError
from gnncompress.quantization.context import Context
from gnncompress.quantization.quantizer import Rows


@dataclass
class Inputs:
    """Quantizes the first argument of a module; ``by_node``: its rows may be those of the convolution's nodes."""

    quantizer: nn.Module
    context: Context
    by_node: bool = False

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments, the first one quantized."""
        first = _head(args[0]) if args else None
        if not _floating(first):
            name, kind = getattr(self.quantizer, "name", ""), getattr(first, "dtype", type(first).__name__)
            raise QuantizationError(
                f"{name}: its layer's first argument must be features of floats, not {kind}: give floats, or leave the "
                "layer in floats"
            )
        rows = self.context.current.nodes(first) if self.by_node else None
        self.context.meet(self.quantizer)
        return _first(args[0], self.quantizer(first, rows)), *args[1:]


@dataclass
class Output:
    """Quantizes what a module returns, or the first of what it returns."""

    quantizer: nn.Module
    context: Context
    by_node: bool = False

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Return the output, quantized."""
        first = _head(output)
        rows = self.context.current.nodes(first) if self.by_node else None
        return _first(output, self.quantizer(first, rows))


@dataclass
class Enter:
    """Tells the context that a convolution begins; ``shared`` is a quantizer of several parameters together."""

    context: Context
    name: str
    shared: tuple[nn.Module, tuple[nn.Module, ...]] | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Draw the masks of the call."""
        self.context.enter(module, args, kwargs, self.name)
        if self.shared is None:
            return
        quantizer, chains = self.shared
        if quantizer.training or quantizer.calibrating:
            quantizer.observe(torch.cat([chain.original.flatten() for chain in chains]))  # type: ignore[operator]


@dataclass
class Leave:
    """Quantizes what a convolution returns and tells the context that it has ended."""

    context: Context
    update: nn.Module | None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Return the output, quantized."""
        call = self.context.leave()
        if self.update is None:
            return None
        first = _head(output)
        return _first(output, self.update(first, call.nodes(first)))


@dataclass
class Propagate:
    """Quantizes what a convolution propagates: its edge coefficients, and its messages where they are just x_j.

    A message x_j is one of the source nodes' rows: it is quantized before it is gathered for every edge, with the same
    result. The observer counts a node as often as it is gathered, so the range is that of the messages, too.
    """

    context: Context
    plain: str  # which messages are just x_j: all, those without edge weights, or none
    norm: nn.Module | None
    features: nn.Module | None
    message: nn.Module | None
    coefficients: tuple[str, ...] = ()

    def __call__(self, conv: MessagePassing, given: tuple[Any, Any, dict[str, Any]]) -> tuple[Any, Any, dict[str, Any]]:
        """Return the arguments of ``propagate``, quantized."""
        edge_index, size, kwargs = given
        call = self.context.current
        call.edge_index = _edges(edge_index)
        if is_torch_sparse_tensor(edge_index) and kwargs.get("edge_weight", 0) is None:
            kwargs["edge_weight"] = to_edge_index(edge_index)[1]  # which PyG would do, later
        for name in self.coefficients:
            if self.norm is not None and _floating(kwargs.get(name)):
                kwargs[name] = self.norm(kwargs[name])
        if self.features is not None and _floating(_head(kwargs["x"])):
            x = _head(kwargs["x"])
            self.context.meet(self.features)
            kwargs["x"] = _first(kwargs["x"], _by_row(conv, self.features, x, call.nodes))
        call.early = self.message is not None and self._is_plain(kwargs)
        if call.early and self.message is not None:
            x = _head(kwargs["x"])
            rows = call.sources(_sources(conv, call.edge_index), len(x)) if self.message.watches else None
            kwargs["x"] = _first(kwargs["x"], self.message(x, rows))
        return edge_index, size, kwargs

    def _is_plain(self, kwargs: Mapping[str, Any]) -> bool:
        return self.plain == "all" or (self.plain == "unweighted" and kwargs.get("edge_weight") is None)


@dataclass
class Messages:
    """Quantizes messages after they were made, unless they were quantized before."""

    quantizer: nn.Module
    context: Context

    def __call__(self, conv: MessagePassing, given: tuple[Any, ...], messages: Tensor) -> Tensor:
        """Return the messages [edges, ...], quantized."""
        call = self.context.current
        if call.early:
            return messages
        sources = _sources(conv, call.edge_index)
        return _by_row(conv, self.quantizer, messages, lambda _: call.edges(sources))


@dataclass
class Aggregates:
    """Quantizes what the messages of each node add up to."""

    quantizer: nn.Module
    context: Context

    def __call__(self, conv: MessagePassing, given: tuple[Any, ...], aggregates: Tensor) -> Tensor:
        """Return the aggregates [nodes, ...], quantized."""
        return _by_row(conv, self.quantizer, aggregates, self.context.current.nodes)


@dataclass
class Logits:
    """Quantizes the raw attention logits of a GAT, one an edge and head, before LeakyReLU and softmax."""

    quantizer: nn.Module
    context: Context

    def __call__(self, conv: MessagePassing, given: tuple[Any, Any, dict[str, Any]]) -> tuple[Any, Any, dict[str, Any]]:
        """Return the arguments of ``edge_update``, source and target's parts made one and quantized."""
        edge_index, size, kwargs = given
        alpha = kwargs["alpha_j"] if kwargs["alpha_i"] is None else kwargs["alpha_j"] + kwargs["alpha_i"]
        rows = self.context.current.edges(_sources(conv, _edges(edge_index))) if conv.training else None
        kwargs.update(alpha_j=self.quantizer(alpha, rows), alpha_i=None)
        return edge_index, size, kwargs


def _by_row(conv: MessagePassing, quantizer: nn.Module, x: Tensor, rows: Callable[[Tensor], Rows | None]) -> Tensor:
    """Quantize ``x`` with the dimension along which its nodes or edges lie in front, as quantizers have it."""
    dim = conv.node_dim % x.dim()
    first = x if dim == 0 else x.movedim(dim, 0)
    quantized: Tensor = quantizer(first, rows(first))
    return quantized if dim == 0 else quantized.movedim(0, dim)


def _edges(edge_index: Tensor) -> Tensor:
    """Return edges [2, E], sources first, of a sparse adjacency A [targets, sources], too."""
    return to_edge_index(edge_index)[0].flip(0) if is_torch_sparse_tensor(edge_index) else edge_index


def _sources(conv: MessagePassing, edge_index: Tensor | None) -> Tensor:
    assert edge_index is not None
    return edge_index[0 if conv.flow == "source_to_target" else 1]


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _head(value: Any) -> Any:
    return value[0] if isinstance(value, (tuple, list)) else value


def _first(value: Any, new: Any) -> Any:
    """Return ``value`` with ``new`` in place of it, or of its first part."""
    return type(value)([new, *value[1:]]) if isinstance(value, (tuple, list)) else new
