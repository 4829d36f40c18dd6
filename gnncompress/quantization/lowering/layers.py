"""How each layer becomes operations on codes, one rule a class, and which are done channel by channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv, aggr
from torch_geometric.nn.conv import MessagePassing

from gnncompress.models.spline import SplineConv
from gnncompress.quantization.lowering.builder import Builder, Value, has_codes, weight_codes
from gnncompress.quantization.lowering.known import BY_CHANNEL, IDENTITIES, UnloweredError, known_as
from gnncompress.quantization.lowering.values import Codes, Floats, Sum, stored
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.runtime.aggregation import Aggregate, Largest, Weighted
from gnncompress.runtime.arrays import numbers
from gnncompress.runtime.coefficients import Attention, Normalized, Scale, Splines
from gnncompress.runtime.rounding import HIGH, LOW


def lower_linear(builder: Builder, module: Any, name: str, value: Value) -> Value:
    """Lower a linear layer: its inputs, product and features."""
    known_as(module, (nn.Linear,))
    if not has_codes(module):
        raise UnloweredError("kept in floats")
    quantizers: Any = module.quantizers
    codes = builder.quantized(value, quantizers.inputs, module.in_features)
    return builder.linear(codes, quantizers.inputs, _transposed(module), module.bias, quantizers.features, name)


def lower_gin(builder: Builder, conv: GINConv, name: str, x: Value, edge_index: str) -> Value:
    """Lower a GIN: MLP((1 + eps) x + sum of the neighbours' x)."""
    first = next((module for module in conv.nn.modules() if isinstance(module, nn.Linear)), None)
    if first is None:
        raise UnloweredError("its network has no linear layer")
    x = _known(x, first.in_features)
    x = x if isinstance(x, Codes) else builder.rows(builder.in_floats(x))
    total = _plain(builder, conv, name, x, edge_index)
    return builder.follow(builder, conv.nn, f"{name}.nn", Sum(total, x, 1 + conv.eps.item()))


def lower_sage(builder: Builder, conv: SAGEConv, name: str, x: Value, edge_index: str) -> Value:
    """Lower a GraphSAGE: W_l mean of the neighbours' x + W_r x."""
    if conv.project or conv.normalize:
        raise UnloweredError("it projects, or normalizes, in floats")
    x = _known(x, conv.lin_l.in_features)
    around = lower_linear(builder, conv.lin_l, f"{name}.lin_l", _plain(builder, conv, name, x, edge_index))
    if not conv.root_weight:
        return around
    own = lower_linear(builder, conv.lin_r, f"{name}.lin_r", x)
    assert isinstance(around, Codes)
    assert isinstance(own, Codes)
    return Sum(own, around)


def lower_gcn(builder: Builder, conv: GCNConv, name: str, x: Value, edge_index: str, edge_weight: str = "") -> Value:
    """Lower a GCN: D^-1/2 (A + I) D^-1/2 x W + b."""
    if not conv.normalize or conv.flow != "source_to_target":
        raise UnloweredError("its edges are not normalized, or flow from targets to sources")
    _insist_on_sums(conv)
    h = lower_linear(builder, conv.lin, f"{name}.lin", x)
    assert isinstance(h, Codes)
    quantizers: Any = conv.quantizers
    grid = _scale(quantizers.norm)
    edges = builder.add(
        Normalized(
            builder.name(f"{name}.norm"), edge_index, edge_weight, h.register, conv.improved, conv.add_self_loops, grid
        )
    )
    return _biased(builder, _weighted(builder, conv, h, edges, 1, h.width), conv.bias)


def lower_gat(builder: Builder, conv: GATConv, name: str, x: Value, edge_index: str, edge_attr: str = "") -> Value:
    """Lower a GAT without edge features, of which it takes no notice; its softmax stays in floats."""
    if conv.lin is None or conv.edge_dim is not None or conv.residual or conv.flow != "source_to_target":
        raise UnloweredError("it has sources and targets of its own, edge features or a residual")
    _insist_on_sums(conv)
    h = lower_linear(builder, conv.lin, f"{name}.lin", x)
    assert isinstance(h, Codes)
    quantizers: Any = conv.quantizers
    of_lin = stored(conv.lin.quantizers.features)
    attention = torch.cat([conv.att_src, conv.att_dst]).detach().contiguous().numpy()
    edges = builder.add(
        Attention(
            builder.name(f"{name}.attention"),
            edge_index,
            h.register,
            float(of_lin.scale),
            float(of_lin.zero),
            attention,
            conv.negative_slope,
            conv.add_self_loops,
            _scale(quantizers.alpha),
        )
    )
    out: Value = _weighted(builder, conv, h, edges, conv.heads, conv.out_channels)
    if not conv.concat and conv.heads > 1:
        shape = conv.heads, conv.out_channels
        out = builder.call(lambda v: v.view(-1, *shape).mean(1), [out], f"{name}.mean", conv.out_channels)
    return _biased(builder, out, conv.bias)


def lower_spline(builder: Builder, conv: SplineConv, name: str, x: Value, edge_index: str, pseudo: str) -> Value:
    """Lower a SplineCNN: mean over neighbours of sum over k of B_k x_j W_k, plus x W_root + b."""
    quantizers: Any = conv.quantizers
    codes = builder.quantized(x, quantizers.inputs, conv.in_channels)
    kernel, scale, zero = weight_codes(conv)
    kernels, inputs, outputs = kernel.shape
    flat = kernel.transpose(1, 0, 2).reshape(inputs, kernels * outputs)
    scale, zero = (np.tile(np.ravel(part), kernels) if np.ndim(part) else part for part in (scale, zero))
    h = builder.linear(codes, quantizers.inputs, (flat, scale, zero), None, quantizers.features, name)
    root = builder.linear(codes, quantizers.inputs, _transposed(conv.lin), conv.bias, None, f"{name}.lin")
    assert isinstance(h, Codes)
    assert isinstance(root, Floats)
    edges = builder.add(
        Splines(
            builder.name(f"{name}.norm"),
            edge_index,
            pseudo,
            h.register,
            tuple(conv.kernel_size),
            tuple(conv.is_open_spline),
            conv.degree,
            _scale(quantizers.norm),
        )
    )
    return Sum(_weighted(builder, conv, h, edges, 1, outputs, mean=True), root)


CONVOLUTIONS: dict[type, Callable[..., Value]] = {
    GINConv: lower_gin,
    SAGEConv: lower_sage,
    GCNConv: lower_gcn,
    GATConv: lower_gat,
    SplineConv: lower_spline,
}


def lower_module(builder: Builder, module: nn.Module, name: str, value: Value, *given: str) -> Value:
    """Lower a layer.

    Raises:
        UnloweredError: if it has to run in floats.
    """
    kind = known_as(module, (*IDENTITIES, *BY_CHANNEL, nn.Linear, *CONVOLUTIONS))
    if kind in IDENTITIES:
        return value
    if kind in BY_CHANNEL:
        return builder.each(value, module, name)
    if kind is nn.Linear:
        return lower_linear(builder, module, name, value)
    if not hasattr(module, "quantizers"):
        raise UnloweredError("kept in floats")
    rule = CONVOLUTIONS[kind]
    insist_on_arguments(rule, given)
    quantizers: Any = module.quantizers
    return builder.quantized(rule(builder, module, name, value, *given), quantizers.update)


def insist_on_arguments(rule: Callable[..., Value], given: Sequence[str]) -> None:
    """Refuse to lower a convolution that is given more or fewer inputs than the rule for its class takes."""
    most = rule.__code__.co_argcount - 4
    if not most - len(rule.__defaults__ or ()) <= len(given) <= most:
        raise UnloweredError("it is given more, or fewer, inputs than its rule knows")


def _plain(builder: Builder, conv: MessagePassing, name: str, x: Value, edge_index: str) -> Codes:
    """Lower the aggregation of messages that are just x_j."""
    quantizers: Any = conv.quantizers
    if conv.flow != "source_to_target":
        raise UnloweredError("it flows from targets to sources")
    codes = builder.quantized(x, quantizers.message)
    edges = builder.edges(edge_index, codes.register, name)
    of_messages, grid = stored(quantizers.message), stored(quantizers.aggregate)
    kind = type(conv.aggr_module)
    if kind is aggr.MaxAggregation:
        nothing = round(of_messages.zero)
        largest = builder.add(Largest(builder.name(f"{name}.largest"), edges, codes.register, nothing, codes.width))
        return builder.quantized(Codes(largest, codes.table, codes.low, codes.high), quantizers.aggregate)
    if kind not in (aggr.SumAggregation, aggr.MeanAggregation):
        raise UnloweredError(f"its aggregation is {kind.__name__}")
    table = numbers(codes.width, {LOW: grid.low, HIGH: grid.high})
    out = builder.add(
        Aggregate(
            builder.name(quantizers.aggregate.name),
            edges,
            codes.register,
            float(of_messages.zero),
            of_messages.scale / grid.scale,
            float(grid.zero),
            kind is aggr.MeanAggregation,
            table,
        )
    )
    builder.reached(quantizers.aggregate, out)
    return Codes(out, grid.table(quantizers.aggregate, codes.width), grid.low, grid.high)


def _weighted(
    builder: Builder, conv: MessagePassing, h: Codes, edges: str, heads: int, columns: int, mean: bool = False
) -> Codes:
    quantizers: Any = conv.quantizers
    of_source = stored(quantizers.features if hasattr(quantizers, "features") else conv.lin.quantizers.features)
    message, grid = stored(quantizers.message), stored(quantizers.aggregate)
    width = heads * columns
    table = numbers(width, {LOW: grid.low, HIGH: grid.high})
    out = builder.add(
        Weighted(
            builder.name(quantizers.aggregate.name),
            edges,
            h.register,
            heads,
            columns,
            float(of_source.zero),
            float(of_source.scale),
            float(message.scale),
            float(message.zero),
            float(message.low),
            float(message.high),
            message.scale / grid.scale,
            float(grid.zero),
            mean,
            table,
        )
    )
    builder.reached(quantizers.aggregate, out)
    return Codes(out, grid.table(quantizers.aggregate, width), grid.low, grid.high)


def _biased(builder: Builder, value: Value, bias: Tensor | None) -> Value:
    return value if bias is None else builder.each(value, lambda v: v + bias, "bias")


def _insist_on_sums(conv: MessagePassing) -> None:
    if type(conv.aggr_module) is not aggr.SumAggregation:
        raise UnloweredError(f"its aggregation is {type(conv.aggr_module).__name__}")


def _known(value: Value, width: int) -> Value:
    return Floats(value.register, width, value.rows) if isinstance(value, Floats) and not value.width else value


def _scale(quantizer: Quantizer) -> Scale:
    grid = quantizer.grid()
    return Scale(float(grid.scale), float(grid.zero_point), float(grid.codes.lowest), float(grid.codes.highest))


def _transposed(module: nn.Module) -> tuple[np.ndarray, Any, Any]:
    codes, scale, zero = weight_codes(module)
    return codes.T, *(np.ravel(part) if np.ndim(part) else part for part in (scale, zero))
