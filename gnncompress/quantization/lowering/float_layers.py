"""How each layer becomes operations on floats: no tensor of messages, and what is sparse taken as sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv, aggr
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.nn.dense import Linear

from gnncompress.models.spline import SplineConv
from gnncompress.quantization.lowering.builder import Builder, Value
from gnncompress.quantization.lowering.known import UnloweredError, known_as
from gnncompress.quantization.lowering.layers import insist_on_arguments
from gnncompress.quantization.lowering.values import Floats
from gnncompress.runtime.coefficients import Attention, Normalized, Splines
from gnncompress.runtime.floating import FloatAggregate, FloatLinear

# From this fraction of zeros on a sparse weight is faster, if it has so many outputs (8,000 rows, one thread: 1.3 times
# with 128 x 128, 1.5 with 512 x 128, 1.0 with 64 x 64).
CROSSOVER, LEAST_OUTPUTS = 0.8, 128


def float_linear(builder: Builder, weight: Tensor, bias: Tensor | None, name: str, value: Value) -> Floats:
    """Lower a product with a weight [inputs, outputs]."""
    made = weight.detach().float().contiguous()
    outputs = made.size(1)
    added = torch.zeros(outputs) if bias is None else bias.detach().float().contiguous()
    sparse = None
    if outputs >= LEAST_OUTPUTS and (made == 0).double().mean() >= CROSSOVER:
        rows = csr_array(made.t().numpy())
        sparse = rows.indptr, rows.indices, rows.data
    source = builder.in_floats(value)
    out = builder.add(FloatLinear(builder.name(name), source.register, made.numpy(), added.numpy(), sparse))
    return Floats(out, outputs)


def lower_linear(builder: Builder, module: Any, name: str, value: Value) -> Floats:
    """Lower a linear layer."""
    known_as(module, (nn.Linear, Linear))
    return float_linear(builder, module.weight.t(), module.bias, name, value)


def lower_gin(builder: Builder, conv: GINConv, name: str, x: Value, edge_index: str) -> Floats:
    """Lower a GIN."""
    own, factor = builder.in_floats(x), 1 + conv.eps.item()
    total = _plain(builder, conv, name, own, edge_index)
    value = builder.call(lambda a, b: a + factor * b, [total, own], f"{name}.add")
    return builder.in_floats(builder.follow(builder, conv.nn, f"{name}.nn", value))


def lower_sage(builder: Builder, conv: SAGEConv, name: str, x: Value, edge_index: str) -> Floats:
    """Lower a GraphSAGE."""
    if conv.project or conv.normalize:
        raise UnloweredError("it projects, or normalizes")
    own = builder.in_floats(x)
    around = lower_linear(builder, conv.lin_l, f"{name}.lin_l", _plain(builder, conv, name, own, edge_index))
    if not conv.root_weight:
        return around
    root = lower_linear(builder, conv.lin_r, f"{name}.lin_r", own)
    return builder.call(torch.add, [around, root], f"{name}.add", around.width)


def lower_gcn(builder: Builder, conv: GCNConv, name: str, x: Value, edge_index: str, edge_weight: str = "") -> Floats:
    """Lower a GCN."""
    if not conv.normalize or conv.flow != "source_to_target" or type(conv.aggr_module) is not aggr.SumAggregation:
        raise UnloweredError("its edges are not normalized, flow from targets to sources, or are not added up")
    h = lower_linear(builder, conv.lin, f"{name}.lin", x)
    norm = Normalized(
        builder.name(f"{name}.norm"), edge_index, edge_weight, h.register, conv.improved, conv.add_self_loops, None
    )
    out = builder.add(FloatAggregate(builder.name(name), builder.add(norm), h.register, False))
    return _biased(builder, Floats(out, h.width), conv.bias, name)


def lower_gat(builder: Builder, conv: GATConv, name: str, x: Value, edge_index: str, edge_attr: str = "") -> Floats:
    """Lower a GAT."""
    if conv.lin is None or conv.edge_dim is not None or conv.residual or conv.flow != "source_to_target":
        raise UnloweredError("it has sources and targets of its own, edge features or a residual")
    h = lower_linear(builder, conv.lin, f"{name}.lin", x)
    attention = torch.cat([conv.att_src, conv.att_dst]).detach().contiguous().numpy()
    given = edge_index, h.register, 1.0, 0.0, attention, conv.negative_slope, conv.add_self_loops, None
    edges = builder.add(Attention(builder.name(f"{name}.attention"), *given))
    heads, columns = conv.heads, conv.out_channels
    out = Floats(
        builder.add(FloatAggregate(builder.name(name), edges, h.register, False, heads, columns)), heads * columns
    )
    if not conv.concat and heads > 1:
        out = builder.call(lambda v: v.view(-1, heads, columns).mean(1), [out], f"{name}.mean", columns)
    return _biased(builder, out, conv.bias, name)


def lower_spline(builder: Builder, conv: SplineConv, name: str, x: Value, edge_index: str, pseudo: str) -> Floats:
    """Lower a SplineCNN: one product for all kernels and the root."""
    stacked = torch.cat([*conv.weight.unbind(0), conv.lin.weight.t()], dim=1)
    h = float_linear(builder, stacked, None, f"{name}.lin", x)
    options = tuple(conv.kernel_size), tuple(conv.is_open_spline), conv.degree, None
    edges = builder.add(Splines(builder.name(f"{name}.basis"), edge_index, pseudo, h.register, *options))
    columns = conv.out_channels
    out = Floats(builder.add(FloatAggregate(builder.name(name), edges, h.register, True, 1, columns)), columns)
    bias = conv.bias.detach()
    return builder.call(lambda a, b: a + b[:, -columns:] + bias, [out, h], f"{name}.root", columns)


CONVOLUTIONS: dict[type, Callable[..., Floats]] = {
    GINConv: lower_gin,
    SAGEConv: lower_sage,
    GCNConv: lower_gcn,
    GATConv: lower_gat,
    SplineConv: lower_spline,
}


def lower_float_module(builder: Builder, module: nn.Module, name: str, value: Value, *given: str) -> Floats:
    """Lower a layer of floats.

    Raises:
        UnloweredError: if there is no rule for it; torch then does what it does.
    """
    kind = known_as(module, (nn.Linear, Linear, *CONVOLUTIONS))
    if kind not in CONVOLUTIONS:
        return lower_linear(builder, module, name, value)
    rule = CONVOLUTIONS[kind]
    insist_on_arguments(rule, given)
    return rule(builder, module, name, value, *given)


def _plain(builder: Builder, conv: MessagePassing, name: str, x: Floats, edge_index: str) -> Floats:
    kind = type(conv.aggr_module)
    if kind not in (aggr.SumAggregation, aggr.MeanAggregation) or conv.flow != "source_to_target":
        raise UnloweredError(f"its aggregation is {kind.__name__}, or it flows from targets to sources")
    edges = builder.edges(edge_index, x.register, name)
    mean = kind is aggr.MeanAggregation
    return Floats(builder.add(FloatAggregate(builder.name(f"{name}.aggregate"), edges, x.register, mean)), x.width)


def _biased(builder: Builder, value: Floats, bias: Tensor | None, name: str) -> Floats:
    if bias is None:
        return value
    added = bias.detach()
    return builder.call(lambda v: v + added, [value], f"{name}.bias", value.width)
