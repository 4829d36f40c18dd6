"""Where the quantizers of a scheme stand in one module, and how they are hooked into it."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn
from torch.nn.utils import parametrize
from torch_geometric.nn import GATConv, MessagePassing

from gnncompress.masks import own_parameters
from gnncompress.models.ness import Propagation
from gnncompress.models.spline import SplineConv
from gnncompress.quantization import hooks
from gnncompress.quantization.context import Context
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.places import (
    LINEARS,
    PROPAGATING,
    by_node,
    channel_dim,
    only_read,
    plain_messages,
    propagates_features,
    propagates_weights,
)
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.quantization.weights import QuantizedWeight
from gnncompress.schemes import Scheme

AnyQuantizer = Quantizer | LearnedQuantizer


class Builder:
    """Makes quantizers and hooks them into one module after the other."""

    def __init__(self, scheme: Scheme, context: Context, convolutions: Collection[str]) -> None:
        self.scheme = scheme
        self.convolutions = convolutions
        self.context = context
        self.weights: dict[int, QuantizedWeight] = {}
        self.learned = scheme.kind == "a2q"

    def attach(self, path: str, module: nn.Module, parent: nn.Module | None) -> None:
        """Quantize a module's own places; its children are modules of their own."""
        child = path.rpartition(".")[2]
        if isinstance(module, MessagePassing):
            self._convolution(path, module)
        elif isinstance(module, PROPAGATING):
            self._propagating(path, module)
        elif isinstance(module, LINEARS) and not only_read(parent, child):
            self._linear(path, module, parent, child)
        self._weights(path, module)

    def _linear(self, path: str, module: nn.Module, parent: nn.Module | None, child: str) -> None:
        nodes = by_node(parent, child)
        inputs = self._rows(path) if self.learned else self._affine(path, "inputs", not _after_relu(parent, child))
        self._own(module, inputs=inputs)
        module.register_forward_pre_hook(hooks.Inputs(inputs, self.context, nodes))
        if not self.learned:
            features = self._affine(path, "features")
            self._own(module, features=features)
            module.register_forward_hook(hooks.Output(features, self.context, nodes))

    def _convolution(self, path: str, conv: MessagePassing) -> None:
        conv.fuse = False  # a fused product of a sparse adjacency would pass the messages by
        attention = self._attention(path, conv) if isinstance(conv, GATConv) and not self.learned else None
        conv.register_forward_pre_hook(hooks.Enter(self.context, path, attention), with_kwargs=True)
        spline = isinstance(conv, SplineConv)
        if spline:
            inputs = self._rows(path) if self.learned else self._affine(path, "inputs")
            self._own(conv, inputs=inputs)
            conv.register_forward_pre_hook(hooks.Inputs(inputs, self.context, True))
        if self.learned:
            by_row = isinstance(conv, GATConv)
            features: AnyQuantizer | None = None
            if propagates_features(conv):
                features = self._rows(path, "features") if by_row else self._slices(path, "features", -1)
            self._own(conv, features=features)
            propagate = hooks.Propagate(self.context, "none", None, features, None)
            conv.register_propagate_forward_pre_hook(propagate)
            update: Quantizer | None = None
        else:
            names = propagates_weights(conv)
            norm = self._affine(path, "norm") if names else None
            features = self._affine(path, "features") if spline else None
            message, aggregate, update = (self._affine(path, name) for name in ("message", "aggregate", "update"))
            self._own(conv, norm=norm, features=features, message=message, aggregate=aggregate, update=update)
            plain = plain_messages(conv)
            propagate = hooks.Propagate(self.context, plain, norm, features, message, names)
            conv.register_propagate_forward_pre_hook(propagate)
            conv.register_message_forward_hook(hooks.Messages(message, self.context))
            conv.register_aggregate_forward_hook(hooks.Aggregates(aggregate, self.context))
        if isinstance(conv, GATConv):
            alpha = self._slices(path, "alpha", -1) if self.learned else self._affine(path, "alpha")
            self._own(conv, alpha=alpha)
            conv.register_edge_update_forward_pre_hook(hooks.Logits(alpha, self.context))
        conv.register_forward_hook(hooks.Leave(self.context, update))

    def _propagating(self, path: str, module: nn.Module) -> None:
        module.register_forward_pre_hook(hooks.Enter(self.context, path), with_kwargs=True)
        message = self._slices(path, "message", -1) if self.learned else self._affine(path, "message")
        aggregate = None
        if isinstance(module, Propagation) and not self.learned:
            aggregate = self._affine(path, "aggregate")
        self._own(module, message=message, aggregate=aggregate)
        module.register_forward_pre_hook(hooks.Inputs(message, self.context, True))
        module.register_forward_hook(hooks.Leave(self.context, aggregate))

    def _attention(self, path: str, conv: GATConv) -> tuple[nn.Module, tuple[nn.Module, ...]]:
        """Quantize both halves of the attention vector on one grid, as the one vector that they are in print."""
        quantizer = self._affine(path, "attention")
        for name in ("att_src", "att_dst"):
            parametrize.register_parametrization(conv, name, QuantizedWeight(quantizer, shared=True), unsafe=True)
        return quantizer, tuple(conv.parametrizations[name] for name in ("att_src", "att_dst"))

    def _weights(self, path: str, module: nn.Module) -> None:
        for name, parameter in own_parameters(module).items():
            chain = module.parametrizations[name] if parametrize.is_parametrized(module, name) else ()  # type: ignore[index]
            if parameter.dim() < 2 or any(isinstance(step, QuantizedWeight) for step in chain):
                continue
            if id(parameter) not in self.weights:
                point = name if name != "weight" else "weights"
                self.weights[id(parameter)] = QuantizedWeight(
                    self._weight(path, point, parameter, channel_dim(module, name))
                )
            parametrize.register_parametrization(module, name, self.weights[id(parameter)], unsafe=True)

    def _weight(self, path: str, point: str, parameter: nn.Parameter, dim: int) -> AnyQuantizer:
        if self.learned:
            learned = LearnedQuantizer(_join(path, point), "slice", dim, feedback="global")
            learned.start(parameter)
            return learned
        if self.scheme.granularity == "channel":
            return self._affine(path, point, channel=dim, channels=parameter.size(dim))
        return self._affine(path, point)

    def _affine(
        self, path: str, point: str, signed: bool = True, channel: int | None = None, channels: int = 1
    ) -> Quantizer:
        chosen = self.scheme
        inside = any(path == conv or path.startswith(f"{conv}.") or not conv for conv in self.convolutions)
        return Quantizer(
            _join(path, point),
            chosen.bits if inside or not self.convolutions else chosen.bits_outside,
            signed,
            observer=chosen.observer,  # type: ignore[arg-type]
            gradient=chosen.gradient,  # type: ignore[arg-type]
            channel=channel,
            channels=channels,
        )

    def _rows(self, path: str, point: str = "inputs") -> LearnedQuantizer:
        if self.scheme.groups:
            return LearnedQuantizer(
                _join(path, point), "group", groups=self.scheme.groups, feedback="global", most=self.scheme.first_bits
            )
        return LearnedQuantizer(_join(path, point), "row", most=self.scheme.first_bits)

    def _slices(self, path: str, point: str, dim: int) -> LearnedQuantizer:
        return LearnedQuantizer(_join(path, point), "slice", dim)

    def _own(self, module: nn.Module, **found: nn.Module | None) -> None:
        """Make quantizers part of the module, so that its state_dict and its mode are theirs."""
        if not hasattr(module, "quantizers"):
            module.quantizers = nn.Module()
        for name, quantizer in found.items():
            if quantizer is not None:
                setattr(module.quantizers, name, quantizer)


def _join(path: str, point: str) -> str:
    return f"{path}.{point}" if path else point


def _after_relu(parent: nn.Module | None, child: str) -> bool:
    """Say whether a layer of a Sequential is given what a ReLU returns, which is not negative."""
    if not isinstance(parent, nn.Sequential) or not child.isdigit():
        return False
    before = [module for module in list(parent)[: int(child)] if not isinstance(module, nn.Dropout)]
    return bool(before) and isinstance(before[-1], (nn.ReLU, nn.ReLU6))
