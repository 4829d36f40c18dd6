"""Weights that a hook of torch computes anew before each call of their layer, from parameters of other names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


@dataclass(frozen=True)
class Computed:
    """A weight of one module, called ``name``, that is computed from other parameters of it by ``hook``."""

    module: nn.Module
    name: str
    hook: prune.BasePruningMethod | SpectralNorm | WeightNorm

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The module's parameters that the weight is computed from, by their own names."""
        ends = ("_g", "_v") if isinstance(self.hook, WeightNorm) else ("_orig",)
        return {self.name + end: self.module._parameters[self.name + end] for end in ends}  # type: ignore[misc]

    def value(self) -> Tensor:
        """Return the weight that the next call in evaluation mode uses."""
        if isinstance(self.hook, prune.BasePruningMethod):
            return self.hook.apply_mask(self.module)
        if isinstance(self.hook, SpectralNorm):
            return self.hook.compute_weight(self.module, do_power_iteration=False)
        return self.hook.compute_weight(self.module)


def computed_weights(module: nn.Module) -> Iterator[Computed]:
    """Yield the weights of a module that hooks of ``torch.nn.utils`` compute: prune, weight_norm, spectral_norm."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, prune.BasePruningMethod):
            yield Computed(module, hook._tensor_name, hook)
        elif isinstance(hook, (SpectralNorm, WeightNorm)):
            yield Computed(module, hook.name, hook)


def torch_masks(module: nn.Module) -> dict[str, Tensor]:
    """Return the masks that ``torch.nn.utils.prune`` has put on a module's own tensors, True where a value stays."""
    return {
        weight.name: module._buffers[f"{weight.name}_mask"] != 0  # type: ignore[misc]
        for weight in computed_weights(module)
        if isinstance(weight.hook, prune.BasePruningMethod)
    }
