"""Quantized weights: the parametrization through which a model reads them, and what is left of them when it is done."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.quantizer import Quantizer


class QuantizedWeight(nn.Module):
    """Reads a weight through its quantizer; once frozen, it turns stored codes into the same values.

    ``shared`` says that the observer is shown the weight elsewhere, together with others. In evaluation the values are
    kept from call to call.
    """

    def __init__(self, quantizer: Quantizer | LearnedQuantizer, shared: bool = False) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.shared = shared
        self.frozen = False
        self._kept: list[tuple[Tensor, int, tuple[float, ...], Tensor]] = []  # at most one

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that the layer is to use."""
        settled = not self.training and not self.quantizer.calibrating and not torch.is_grad_enabled()
        # What another parametrization returns is new in every call.
        lasting = self.frozen or (settled and isinstance(weight, nn.Parameter))
        if not lasting or weight.is_inference():
            return self._values(weight)
        state = self.quantizer.state()
        if not self._kept or self._kept[0][0] is not weight or self._kept[0][1:3] != (weight._version, state):
            self._kept[:] = [(weight, weight._version, state, self._values(weight))]
        return self._kept[0][3]

    def _values(self, weight: Tensor) -> Tensor:
        if self.frozen:
            return self.quantizer.values(weight).detach()
        if self.shared and isinstance(self.quantizer, Quantizer):
            return self.quantizer.quantized(weight)
        values: Tensor = self.quantizer(weight)
        return values


def freeze(model: nn.Module) -> nn.Module:
    """Turn the weights of a prepared model into whole numbers of 8 bits, in place; return it, in evaluation mode.

    The model computes what it did, bit for bit, and can be trained no more. Its state_dict holds the codes instead of
    the weights in floats, and is what a packed checkpoint is made of; masks are in the codes.
    """
    model.eval()
    for module in model.modules():
        if parametrize.is_parametrized(module):
            for chain in module.parametrizations.values():  # type: ignore[operator]
                if isinstance(chain[-1], QuantizedWeight) and not chain[-1].frozen:
                    _freeze(chain)
    return model


@torch.no_grad()
def _freeze(chain: parametrize.ParametrizationList) -> None:
    last = chain[-1]
    assert isinstance(last, QuantizedWeight)
    weight = chain.original
    for step in list(chain)[:-1]:
        weight = step(weight)
    # A fresh model that is about to be given its tensors has seen nothing; then only the shape matters.
    codes = last.quantizer.codes_of(weight) if last.quantizer.seen else torch.zeros_like(weight, dtype=torch.int8)
    del chain.original
    chain.register_buffer("original", codes)
    chain._modules.clear()
    chain.append(last)
    last.frozen = True
