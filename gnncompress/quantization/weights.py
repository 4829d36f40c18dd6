"""Quantized weights: the parametrization through which a model reads them, and what is left of them when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from gnncompress.errors import QuantizationError, UsageError
from gnncompress.masks import make_permanent
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.quantizer import Quantizer


class QuantizedWeight(nn.Module):
    """Reads a weight through its quantizer; once frozen, it turns stored codes into the same values.

    ``shared`` says that the observer is shown the weight elsewhere, together with others. The values of codes are kept
    from call to call.
    """

    # Pruning looks for this, so as to say that it has to come first.
    quantizes = True

    def __init__(self, quantizer: Quantizer | LearnedQuantizer, shared: bool = False) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.shared = shared
        self.frozen = False
        self._kept: list[tuple[Tensor, tuple[Any, ...], Tensor]] = []  # at most one

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that the layer is to use."""
        if not self.frozen or weight.is_inference():
            return self._values(weight)
        state = weight._version, weight.data_ptr(), *self.quantizer.state()
        if not self._kept or self._kept[0][0] is not weight or self._kept[0][1] != state:
            with torch.inference_mode(False), torch.no_grad():  # so that what is kept serves in every mode
                self._kept[:] = [(weight, state, self._values(weight))]
        return self._kept[0][2]

    def _values(self, weight: Tensor) -> Tensor:
        if self.frozen:
            return self.quantizer.values(weight).detach()
        if self.shared and isinstance(self.quantizer, Quantizer):
            return self.quantizer.quantized(weight)
        values: Tensor = self.quantizer(weight)
        return values


def freeze(model: nn.Module) -> nn.Module:
    """Turn the weights of a prepared model into whole numbers of 8 bits, in place; return it, in evaluation mode.

    The model computes what it did, bit for bit, and can be trained no more: no parameter takes a gradient, no range
    moves. Its state_dict holds the codes instead of the weights in floats, and is what a packed checkpoint is made of;
    masks are in the codes and gone. A prepared model that has seen nothing may be frozen, too, to be given such a
    state_dict.

    Raises:
        UsageError: if the model is not prepared.
        QuantizationError: naming the quantizers that have seen nothing while others have.
    """
    found = [module for module in model.modules() if isinstance(module, (Quantizer, LearnedQuantizer))]
    if not found:
        raise UsageError(f"{type(model).__name__} has no quantizers to freeze; prepare it first")
    missed = unreached(model)
    if missed and any(quantizer.seen for quantizer in activations(model)):
        raise QuantizationError(missed)
    model.eval()
    for quantizer in found:
        quantizer.frozen = True
    codes: dict[int, Tensor] = {}
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for chain in module.parametrizations.values():  # type: ignore[operator]
                if isinstance(chain[-1], QuantizedWeight) and isinstance(chain.original, nn.Parameter):
                    _freeze(chain, codes)
    make_permanent(model)
    for parameter in model.parameters():
        if not is_lazy(parameter):
            parameter.requires_grad_(False)
    return model


def unreached(model: nn.Module) -> str:
    """Say which quantizers of activations no value has passed, and what to do; nothing if there is none.

    Edge coefficients and weights do not count: not every layer is given the first or reads all of the second.
    """
    names = [one.name for one in activations(model) if not one.seen and one.name.rpartition(".")[2] != "norm"]
    if not names:
        return ""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    options = " ".join(f"--keep-float {layer}" for layer in layers[:5] if layer)
    return (
        f"no value passed {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}: the layer is not called, or "
        f"not as a module is{'; leave it in floats: ' if options else ''}{options}"
    )


def activations(model: nn.Module) -> list[Quantizer | LearnedQuantizer]:
    """Return the quantizers of a prepared model that are not those of weights."""
    weights = {id(module.quantizer) for module in model.modules() if isinstance(module, QuantizedWeight)}
    found = [module for module in model.modules() if isinstance(module, (Quantizer, LearnedQuantizer))]
    return [module for module in found if id(module) not in weights]


def is_frozen(model: nn.Module) -> bool:
    """Say whether the weights of a prepared model are codes."""
    return any(isinstance(module, QuantizedWeight) and module.frozen for module in model.modules())


def holds_codes(state: Mapping[str, Any]) -> bool:
    """Say whether a state_dict is that of a frozen model."""
    return any(
        name.endswith(".original") and isinstance(tensor, Tensor) and not tensor.is_floating_point()
        for name, tensor in state.items()
    )


def freeze_for(model: nn.Module, state: Mapping[str, Any], prefix: str = "", *rest: Any) -> None:
    """Freeze a prepared model that is about to be given the state_dict of a frozen one.

    Raises:
        UsageError: if it is the other way round.
    """
    own = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
    if holds_codes(own) and not is_frozen(model):
        freeze(model)
    elif is_frozen(model) and not holds_codes(own):
        raise UsageError("the model is frozen, the state_dict that of one that is not: load it into a prepared one")


@torch.no_grad()
def _freeze(chain: parametrize.ParametrizationList, known: dict[int, Tensor]) -> None:
    """Turn one weight into codes; those of a weight that several layers share are ``known`` after the first."""
    last = chain[-1]
    assert isinstance(last, QuantizedWeight)
    weight = original = chain.original
    for step in list(chain)[:-1]:
        weight = step(weight)
    if id(original) not in known:
        # A fresh model that is about to be given its tensors has seen nothing; then only the shape matters.
        seen = last.quantizer.seen
        known[id(original)] = last.quantizer.codes_of(weight) if seen else torch.zeros_like(weight, dtype=torch.int8)
    del chain.original
    chain.register_buffer("original", known[id(original)])
    chain._modules.clear()
    chain.append(last)
    last.frozen = True
