"""How many bits a quantized model really takes: sign bits, steps, ranges and what stayed in floats counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gnncompress.masks import NORMALIZATIONS, prunable_parameters
from gnncompress.measurements import Measurement
from gnncompress.quantization.building import AnyQuantizer
from gnncompress.quantization.learned import whole_bits
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.memory import published_bits
from gnncompress.quantization.preparing import quantizers
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.quantization.weights import QuantizedWeight

FLOAT = 32


class _Count:
    """Sums the bits and the number of the values that pass a quantizer."""

    def __init__(self) -> None:
        self.bits = 0.0
        self.values = 0
        self.published: dict[str, list[float]] = {}

    def __call__(self, quantizer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        x = args[0].values() if args[0].layout == torch.sparse_csr else args[0]
        self.values += x.numel()
        if isinstance(quantizer, LearnedQuantizer) and quantizer.step.numel():
            bits = quantizer.row_bits(x)
            self.bits += float(whole_bits(bits).sum()) * x.numel() / max(len(bits), 1)
            if quantizer.learns_bits:
                self.published.setdefault(quantizer.name, []).extend([published_bits(bits) * len(bits), len(bits)])
        else:
            self.bits += x.numel() * (quantizer.codes.bits if isinstance(quantizer, Quantizer) else FLOAT)


class _Floats:
    """Counts what enters and leaves a layer that stays in floats."""

    def __init__(self, count: _Count) -> None:
        self.count = count

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        for value in (args[0] if args else None, output):
            first = value[0] if isinstance(value, (tuple, list)) and value else value
            if isinstance(first, Tensor) and first.is_floating_point():
                number = first.values().numel() if first.layout == torch.sparse_csr else first.numel()
                self.count.values += number
                self.count.bits += FLOAT * number


@torch.no_grad()
def bit_measurements(model: nn.Module, run: Callable[[], object]) -> list[Measurement]:
    """Return the mean number of bits of a prepared model's weights and of the activations of ``run``.

    bits_average_weights: over all prunable weights, 32 for one in floats. bits_average_activations: over all values
    that pass a quantizer while ``run`` calls the model, 32 for raw input that A2Q leaves alone, and for what enters and
    leaves a layer that is kept in floats. Both count the sign bit and, at 32 bits each, the parameters of the
    quantizers: two a range, one a step, one a learnt number of bits. bits_average_published, for A2Q: the mean over
    feature quantizers of mean(bits - 1), without sign, weights and parameters, which is how its authors count.
    """
    weights = _weight_bits(model)
    if weights is None:
        return []
    count = _Count()
    activations = [quantizer for _, quantizer in quantizers(model) if quantizer not in _of_weights(model)]
    handles = [quantizer.register_forward_hook(count) for quantizer in activations]
    handles += [layer.register_forward_hook(_Floats(count)) for layer in _float_layers(model)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    bits = count.bits + sum(_parameter_bits(quantizer) for quantizer in activations)
    rows = [_row("bits_average_weights", weights)]
    if count.values:
        rows.append(_row("bits_average_activations", bits / count.values))
    if count.published:
        means = [sum(found[::2]) / sum(found[1::2]) for found in count.published.values()]
        rows.append(_row("bits_average_published", sum(means) / len(means)))
    return rows


def _weight_bits(model: nn.Module) -> float | None:
    """Return the mean bits of the weights; None if none is quantized."""
    plain = {id(parameter): parameter.numel() for parameter in prunable_parameters(model).values()}
    bits, values = 0.0, sum(plain.values())
    counted: set[int] = set()
    for chain in _chains(model):
        quantizer, weight = chain[-1].quantizer, chain.original
        if id(weight) not in plain:
            continue  # one weight of several layers is stored once
        plain.pop(id(weight))
        bits += weight.numel() * (quantizer.codes.bits if isinstance(quantizer, Quantizer) else 4)
        if id(quantizer) not in counted:
            bits += _parameter_bits(quantizer)
        counted.add(id(quantizer))
    return (bits + FLOAT * sum(plain.values())) / max(values, 1) if counted else None


def _parameter_bits(quantizer: AnyQuantizer) -> int:
    if isinstance(quantizer, Quantizer):
        return FLOAT * quantizer.observer.range.numel()
    return FLOAT * sum(parameter.numel() for parameter in quantizer.parameters())


def _float_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers with weights of their own that are not quantized."""
    quantizing = (Quantizer, LearnedQuantizer, QuantizedWeight, parametrize.ParametrizationList, *NORMALIZATIONS)
    return [
        module
        for module in model.modules()
        if not isinstance(module, quantizing)
        and any(parameter.dim() >= 2 for parameter in module.parameters(recurse=False))
    ]


def _chains(model: nn.Module) -> list[Any]:
    chains = []
    for module in model.modules():
        if parametrize.is_parametrized(module):
            found = module.parametrizations.values()  # type: ignore[operator]
            chains += [chain for chain in found if isinstance(chain[-1], QuantizedWeight)]
    return chains


def _of_weights(model: nn.Module) -> set[nn.Module]:
    return {chain[-1].quantizer for chain in _chains(model)}


def _row(metric: str, value: float) -> Measurement:
    return Measurement("compress", metric, value, "bits", "computed")
