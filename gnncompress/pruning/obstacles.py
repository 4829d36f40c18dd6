"""Weights that pruning refuses: a mask would not hold on them, or they cannot be ranked."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm

from gnncompress.errors import PruningError
from gnncompress.masked_states import Mask
from gnncompress.masks import Weight, effective_weights, held, insist_on_one_reading, weight_owners

# How the text of torch's own remedies begins.
_UTILS = "torch.nn.utils."


def insist_on_prunable(model: nn.Module) -> None:
    """Refuse a model with weights that a mask cannot hold at zero, or that are NaN or infinite, before it is changed.

    A weight is refused that is computed from others when it is read (weight_norm, spectral_norm, orthogonal and other
    parametrizations), since its zeros would not be what a mask says, or would not stay when masks become permanent.

    Raises:
        PruningError: if there is nothing to prune, or naming each such layer, why, and what to do.
    """
    owners = weight_owners(model)
    if not owners:
        raise PruningError(
            f"{type(model).__name__} has nothing to prune: no floating weight of two or more dimensions "
            "outside a normalization layer"
        )
    found = [f"layer {one.path}: {why}" for weights in owners.values() for one in weights if (why := _computed(one))]
    _refuse(found)
    insist_on_finite(model)
    insist_on_one_reading(owners)


def insist_on_finite(model: nn.Module) -> None:
    """Refuse a model whose weights cannot be ranked.

    Raises:
        PruningError: naming the layers with weights that are NaN or infinite.
    """
    weights = effective_weights(model)
    wrong = {layer: int((~weight.isfinite()).sum()) for layer, weight in weights.items()}
    _refuse(
        [
            f"layer {layer}: {count} of {weights[layer].numel()} weights are NaN or infinite; initialize them, or "
            "prune a model that was trained soundly"
            for layer, count in wrong.items()
            if count
        ]
    )


def insist_on_no_masks(model: nn.Module) -> None:
    """Refuse a model with masks, whose channels cannot be told from the weights alone.

    Raises:
        PruningError: naming the first masked layer.
    """
    masked = next(iter(held(model)), None)
    if masked is not None:
        raise PruningError(
            f"layer {masked} has a mask, and structured pruning takes whole channels out of plain weights; "
            "call gnncompress.make_permanent(model) first"
        )


def _computed(weight: Weight) -> str:
    """Say what computes a weight, and how to make it a plain one; nothing if masks do, or nothing does."""
    layer, name = weight.path.rpartition(".")[0], weight.name
    module = f"model.get_submodule({layer!r})" if layer else "model"
    others = [step for step in weight.steps if not isinstance(step, Mask)]
    if others:
        remedy = f'{_UTILS}parametrize.remove_parametrizations({module}, "{name}")'
        return f"its weight is computed by the parametrization {type(others[0]).__name__}; call {remedy} before"
    if weight.computed is not None and not weight.masks:
        kind = "spectral_norm" if isinstance(weight.computed.hook, SpectralNorm) else "weight_norm"
        return f'its weight is computed by {kind}; call {_UTILS}remove_{kind}({module}, "{name}") before'
    target = _overwritten(weight)
    if target and weight.computed is None:
        return (
            f"the layer computes {target} from it and uses that; let the layer hold {target} as its parameter, or "
            "make it a parametrization and remove that"
        )
    if isinstance(weight.module, torch.jit.ScriptModule):
        return "it is compiled by TorchScript, which cannot be changed; prune the model before it is compiled"
    if hasattr(nn.ModuleDict, name):
        return f"torch cannot put a mask on a parameter of the name {name}; give it another"
    return ""


def _overwritten(weight: Weight) -> str:
    """Return the attribute that a layer computes from a parameter of a longer name, as weight from weight_bar."""
    shape = weight.parameters[0].shape
    found = [name for name, value in vars(weight.module).items() if isinstance(value, Tensor) and value.shape == shape]
    return next((name for name in found if weight.name.startswith(f"{name}_")), "")


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise PruningError("; ".join(reasons[:5]) + ("; and others" if len(reasons) > 5 else ""))
