"""``prepare``: a float PyG model becomes its quantization-aware twin, by parametrizations and hooks, in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense import Linear

from gnncompress.errors import QuantizationError, UsageError
from gnncompress.global_state import random_state_kept
from gnncompress.masks import NORMALIZATIONS, held, hold, make_permanent, own_parameters
from gnncompress.quantization.building import AnyQuantizer, Builder
from gnncompress.quantization.context import GRAPH, Context
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.memory import MemoryPenalty
from gnncompress.quantization.places import DENSE, LINEARS, OWNING, PROPAGATING, TABLES, Point
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.quantization.weights import freeze_for
from gnncompress.reparametrizations import computed_weights
from gnncompress.schemes import Scheme, insist_on_options
from gnncompress.schemes import scheme as find_scheme

_CONTEXT = "quantization_context"


@random_state_kept()
def prepare(
    model: nn.Module,
    scheme: str | Scheme,
    *,
    keep_float: Iterable[str] = (),
    config: str | None = None,
    observer: str | None = None,
    gradient: str | None = None,
    calibration: str | None = None,
    granularity: str | None = None,
    head_bits: int | None = None,
    protect: float | None = None,
    protect_more: float | None = None,
    draw: str | None = None,
    groups: int | None = None,
    target_bits: float | None = None,
) -> nn.Module:
    """Put the quantizers of ``scheme`` into ``model``, in place, and return it.

    Affine schemes (ptq, qat, dq) quantize what Degree-Quant does. Of every linear layer: inputs, weights, features (its
    output). Of every convolution of PyG: edge coefficients (norm), messages, aggregates, updates (its output); of a GAT
    its attention vector and raw logits, too. A message that is just x_j is quantized before it is gathered. A2Q
    quantizes the inputs of linear layers row by row, weights by output channel, and what is propagated by channel, all
    but the model's raw input. Biases, normalizations, activations, softmax and pooling stay in floats.

    Masks of pruning stay on the weights; zero has a code. ``keep_float`` names layers that stay as they are, with all
    that is in them. The other settings are those of ``Scheme``; ``config`` is a
    gradient and an observer, such as gc-abs. Calibrate or train the model before use; make
    optimizers after. PyG's Linear layers are replaced by torch's with the same parameters.

    Raises:
        UsageError: for an unknown scheme, setting or layer, or a model that is prepared already.
        QuantizationError: naming every layer that cannot be quantized, or a lazy one.

    Source: Tailor et al., Degree-Quant, ICLR 2021, and Zhu et al., A2Q, ICLR 2023, with their official code.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"prepare takes a torch.nn.Module, not a {type(model).__name__}")
    if is_prepared(model):
        raise UsageError("the model is prepared already; prepare a fresh one")
    settings = {
        "observer": observer,
        "gradient": gradient,
        "calibration": calibration,
        "granularity": granularity,
        "head_bits": head_bits,
        "protect": protect,
        "protect_more": protect_more,
        "draw": draw,
        "groups": groups,
        "target_bits": target_bits,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(scheme, str):
        insist_on_options(scheme, given if config is None else {**given, "config": config})
    chosen = scheme if isinstance(scheme, Scheme) else find_scheme(scheme, config, **given)
    if chosen.kind == "fp32":
        return model
    floats = _paths(model, [keep_float] if isinstance(keep_float, str) else keep_float)
    _refuse(model, floats)
    masks = held(model)
    make_permanent(model)
    _use_torch_linears(model)
    hold(model, masks)
    context = Context(chosen)
    if chosen.kind == "a2q" and not chosen.groups:
        model.register_buffer(GRAPH, torch.zeros(3, dtype=torch.long))
    model.register_forward_pre_hook(context.begin, with_kwargs=True)
    model.register_forward_hook(context.end, always_call=True)
    model.register_load_state_dict_pre_hook(freeze_for)
    parents = dict(model.named_modules())
    builder = Builder(chosen, context, [path for path, module in parents.items() if _has_weights_to_propagate(module)])
    for path, module in list(_convertible(model, floats)):
        builder.attach(path, module, parents.get(path.rpartition(".")[0]) if path else None)
    device = next((parameter.device for parameter in model.parameters()), None)
    for _, quantizer in quantizers(model):
        quantizer.to(device)
    if chosen.kind == "a2q":
        learned = [quantizer for _, quantizer in quantizers(model) if isinstance(quantizer, LearnedQuantizer)]
        model.memory_penalty = MemoryPenalty(learned, chosen.target)  # type: ignore[assignment]
    if not list(quantizers(model)):
        raise QuantizationError(f"{type(model).__name__}: there is no layer to quantize")
    setattr(model, _CONTEXT, context)
    return model.train(model.training)


def is_prepared(model: nn.Module) -> bool:
    """Say whether ``prepare`` has put quantizers into ``model``."""
    return hasattr(model, _CONTEXT)


def context_of(model: nn.Module) -> Context:
    """Return what the quantizers of a prepared model share."""
    context: Context = getattr(model, _CONTEXT)
    return context


def quantizers(model: nn.Module) -> Iterator[tuple[str, AnyQuantizer]]:
    """Yield the quantizers of a prepared model by the names of their places, each once."""
    for module in model.modules():
        if isinstance(module, (Quantizer, LearnedQuantizer)):
            yield module.name, module


def points(model: nn.Module) -> list[Point]:
    """Return the places of a prepared model at which there are quantizers."""
    found = []
    for name, quantizer in quantizers(model):
        layer, _, point = name.rpartition(".")
        if isinstance(quantizer, Quantizer):
            found.append(Point(layer, point, quantizer.codes.bits))
        else:
            if quantizer.seen and not quantizer.step.numel():
                found.append(Point(layer, point, "32, raw input"))
                continue
            shared = f"{quantizer.groups} groups" if quantizer.by == "group" else f"one a {quantizer.by}"
            bits = "learnt" if quantizer.learns_bits else "4"
            found.append(Point(layer, point, f"{bits}, {shared}"))
    return found


def _has_weights_to_propagate(module: nn.Module) -> bool:
    return isinstance(module, (MessagePassing, *PROPAGATING)) and any(True for _ in module.parameters())


def _paths(model: nn.Module, keep_float: Iterable[str]) -> tuple[str, ...]:
    layers = [name for name, _ in model.named_modules() if name and "parametrizations" not in name]
    found = tuple(keep_float)
    for name in found:
        if name not in layers:
            near = get_close_matches(name, layers, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(layers[:20])}"
            raise UsageError(f"--keep-float {name}: the model has no such layer; {hint}")
    return found


def _convertible(model: nn.Module, floats: tuple[str, ...]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that are not to stay in floats; a module that stands at two places comes once."""
    for path, module in model.named_modules():
        inside = any(path == name or path.startswith(f"{name}.") for name in floats)
        if not inside and "parametrizations" not in path and not isinstance(module, NORMALIZATIONS):
            yield path, module


def _refuse(model: nn.Module, floats: tuple[str, ...]) -> None:
    """Name the layers whose weights are used in ways that no quantizer can stand in.

    Raises:
        QuantizationError: if there are any.
    """
    refused = []
    for path, module in _convertible(model, floats):
        reason = _computed_by(module)
        if reason:
            raise QuantizationError(
                f"layer {path} ({type(module).__name__}): its weight is computed by {reason}, so that codes of it "
                f"would not last; make it a plain parameter first, or leave it in floats: --keep-float {path}"
            )
        own = own_parameters(module)
        if any(isinstance(parameter, nn.parameter.UninitializedParameter) for parameter in own.values()):
            raise QuantizationError(
                f"layer {path} ({type(module).__name__}): its shape is not known yet; run the model once before"
            )
        known = isinstance(module, (MessagePassing, *LINEARS, *TABLES, *PROPAGATING, *OWNING))
        weighty = any(parameter.dim() >= 2 and parameter.is_floating_point() for parameter in own.values())
        if isinstance(module, DENSE) or (weighty and not known):
            refused.append(f"{path or 'the model itself'} ({type(module).__name__})")
    if refused:
        raise QuantizationError(
            f"cannot quantize {', '.join(refused)}: own weights outside PyG's convolutions and linear layers, or "
            "a dense adjacency; leave "
            f"{'it' if len(refused) == 1 else 'them'} in floats: "
            + " ".join(f"--keep-float {layer.partition(' ')[0]}" for layer in refused)
        )


def _computed_by(module: nn.Module) -> str:
    """Say what computes a weight of a module from several others, whose codes would not be the weight's; or nothing."""
    for weight in computed_weights(module):
        if not isinstance(weight.hook, BasePruningMethod):
            return f"torch.nn.utils' {type(weight.hook).__name__}"
    chains: Any = getattr(module, "parametrizations", {})
    mixed = [chain for chain in chains.values() if not chain.is_tensor]
    return type(mixed[0][0]).__name__.strip("_") if mixed else ""


def _use_torch_linears(model: nn.Module) -> None:
    """Replace PyG's Linear layers by torch's, their parameters kept: PyG's cannot load a parametrized weight."""
    replaced: dict[nn.Module, nn.Linear] = {}  # a layer may stand at several places
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            wide: Any = child
            if type(child) is Linear and child not in replaced:
                new = nn.Linear(wide.in_channels, wide.out_channels, wide.bias is not None, device="meta")
                new.weight, new.bias = wide.weight, wide.bias
                new.train(wide.training)
                new._forward_hooks, new._forward_pre_hooks = wide._forward_hooks, wide._forward_pre_hooks
                replaced[wide] = new
            if wide in replaced:
                setattr(module, name, replaced[wide])
