"""Which parameters of a model may be pruned, and why the others never are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from gnncompress.masks import NORMALIZATIONS, prunable_parameters
from gnncompress.pruning.obstacles import insist_on_prunable
from gnncompress.pruning.structured.channels import find_channels
from gnncompress.pruning.structured.tracing import Forward


@dataclass(frozen=True)
class Line:
    """A parameter: its name, shape and size, and what happens to it."""

    name: str
    shape: tuple[int, ...]
    weights: int
    prunable: bool
    verdict: str


def weight_plan(model: nn.Module) -> list[Line]:
    """Return what unstructured pruning does with each parameter; a shared one comes once, under its first name.

    Raises:
        PruningError: naming a lazy weight that has no shape yet, and as ``insist_on_prunable``.
    """
    insist_on_prunable(model)
    prunable = {id(parameter) for parameter in prunable_parameters(model).values()}
    normalizing = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, NORMALIZATIONS)
        for parameter in module.parameters(recurse=False)
    }
    lines = []
    for name, parameter in model.named_parameters():
        if id(parameter) in prunable:
            verdict = "yes"
        elif not parameter.is_floating_point():
            verdict = f"no: {parameter.dtype} is no floating type"
        elif id(parameter) in normalizing:
            verdict = "no: in a normalization layer"
        else:
            verdict = "no: fewer than two dimensions (bias, scale)"
        lines.append(Line(name, tuple(parameter.shape), parameter.numel(), id(parameter) in prunable, verdict))
    return lines


def channel_plan(model: nn.Module, forward: Forward, free_outputs: bool = False) -> list[Line]:
    """Return what structured pruning may take from each parameter.

    Raises:
        PruningError: if nothing can be removed.
    """
    channels = find_channels(model.eval(), forward, free_outputs)
    lines = []
    for name, parameter in model.named_parameters():
        dims = sorted(dim for tensor, dim in channels.owner if tensor == name)
        reasons = [reason for layer, reason in channels.whole.items() if name.startswith(f"{layer}.")]
        slices = f"channels along dimension {' and '.join(map(str, dims))}"
        verdict = slices if dims else f"no: {reasons[0]}" if reasons else "no: it has no channels"
        lines.append(Line(name, tuple(parameter.shape), parameter.numel(), bool(dims), verdict))
    return lines
