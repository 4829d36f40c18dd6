"""Masks on a model's weights: which may be pruned, how a mask holds, how it becomes permanent.

A mask is a parametrization: wherever the model reads its weight it reads ``where(mask, weight, +0.0)``. Any
optimizer may then train the model; neither a gradient, momentum nor weight decay brings a pruned weight back.
Multiplying by the mask instead would leave -0.0 in half of the pruned weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch_geometric.nn import norm as pyg_norm

from gnncompress.errors import PruningError
from gnncompress.measurements import Measurement

NORMALIZATIONS: tuple[type, ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    *(layer for layer in vars(pyg_norm).values() if isinstance(layer, type)),
)


class Mask(nn.Module):
    """A parametrization that reads a weight as +0.0 wherever ``keep`` is False."""

    keep: Tensor
    baked_into_checkpoints = True

    def __init__(self, keep: Tensor) -> None:
        super().__init__()
        self.register_buffer("keep", keep)

    def forward(self, weight: Tensor) -> Tensor:
        """Return where(keep, weight, +0.0)."""
        return torch.where(self.keep, weight, weight.new_zeros(()))

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the weight as it is: a value assigned to the parameter is masked when it is read."""
        return weight


def prunable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the prunable weights by name: floating, two or more dimensions, not in a normalization layer.

    A weight shared by several layers appears once, under its first name. A masked weight appears under the
    name it had before.

    Raises:
        PruningError: naming a lazy weight that has no shape yet.
    """
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, (*NORMALIZATIONS, parametrize.ParametrizationList)):
            continue
        for name, parameter in own_parameters(module).items():
            full = f"{path}.{name}" if path else name
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                raise PruningError(
                    f"layer {full}: its shape is not known yet; run the model once before it is compressed"
                )
            if id(parameter) in seen or parameter.dim() < 2 or not parameter.is_floating_point():
                continue
            seen.add(id(parameter))
            found[full] = parameter
    return found


def effective_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the prunable weights by name as the model reads them, masked where they have a mask."""
    return {layer: attrgetter(layer)(model).detach() for layer in prunable_parameters(model)}


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return a module's direct parameters, those behind a parametrization under their plain name."""
    own = {name: parameter for name, parameter in module._parameters.items() if parameter is not None}
    if parametrize.is_parametrized(module):
        for name, chain in module.parametrizations.items():  # type: ignore[union-attr, operator]
            if isinstance(getattr(chain, "original", None), nn.Parameter):
                own[name] = chain.original
    return own


def hold(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Put masks on ``model`` in place; where a weight has one already, both hold.

    Shapes: each mask is bool, shaped as the weight of its name.
    """
    parametrize_weights(model, {layer: Mask(keep) for layer, keep in masks.items()})


def held(model: nn.Module) -> dict[str, Tensor]:
    """Return the masks that are on ``model``, by the weight's name; of several on one weight all hold."""
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for name, chain in module.parametrizations.items():
                keeps = [step.keep for step in chain if isinstance(step, Mask)]
                if keeps:
                    found[f"{path}.{name}" if path else name] = torch.stack(keeps).all(0)
    return found


def parametrize_weights(model: nn.Module, steps: Mapping[str, nn.Module]) -> None:
    """Let each named weight be read through its step, wherever in the model it is used."""
    prunable = prunable_parameters(model)
    owners: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        if not isinstance(module, parametrize.ParametrizationList):
            for name, parameter in own_parameters(module).items():
                owners.setdefault(id(parameter), []).append((module, name))
    for layer, step in steps.items():
        for module, name in owners[id(prunable[layer])]:
            parametrize.register_parametrization(module, name, step, unsafe=True)


def make_permanent(model: nn.Module) -> nn.Module:
    """Write the masked weights into the model as plain parameters and remove the masks; return the model.

    Optimizers made before hold the old parameters, so make new ones after. Parametrizations of other kinds
    stay as they are.
    """
    shared: dict[int, nn.Parameter] = {}
    for module in model.modules():
        if not parametrize.is_parametrized(module):
            continue
        # A deep copy shares the class that parametrize made: what is removed would be gone for the original, too.
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
        for name, chain in list(module.parametrizations.items()):  # type: ignore[union-attr, operator]
            if all(isinstance(step, Mask) for step in chain):
                original = chain.original
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
                setattr(module, name, shared.setdefault(id(original), getattr(module, name)))
    return model


def sparsity_measurements(model: nn.Module) -> list[Measurement]:
    """Count parameters, and zeros as the model reads its weights, per prunable layer and in total.

    Rows: parameters, nonzero_parameters (all parameters), sparsity (prunable weights; one row a layer and one
    for the model), collapsed_layers (prunable layers without a single non-zero weight). All are computed.
    """
    weights = effective_weights(model)
    zeros = {layer: int((weight == 0).sum()) for layer, weight in weights.items()}
    total = sum(weight.numel() for weight in weights.values())
    everything = list(model.parameters())
    prunable = {id(parameter) for parameter in prunable_parameters(model).values()}
    nonzero = sum(int(parameter.count_nonzero()) for parameter in everything if id(parameter) not in prunable)
    nonzero += total - sum(zeros.values())

    def row(metric: str, value: float | int, unit: str, layer: str = "") -> Measurement:
        return Measurement("compress", metric, value, unit, "computed", layer)

    return [
        row("parameters", sum(parameter.numel() for parameter in everything), "parameters"),
        row("nonzero_parameters", nonzero, "parameters"),
        row("sparsity", sum(zeros.values()) / max(total, 1), "fraction"),
        row("collapsed_layers", len(collapsed_layers(model)), "layers"),
        *(
            row("sparsity", zeros[layer] / max(weight.numel(), 1), "fraction", layer)
            for layer, weight in weights.items()
        ),
    ]


def collapsed_layers(model: nn.Module) -> list[str]:
    """Return the prunable layers all of whose weights are zero; an empty layer is not one of them."""
    return [
        layer for layer, weight in effective_weights(model).items() if weight.numel() and not weight.count_nonzero()
    ]
