"""A mask as a parametrization of a weight, and the state_dicts of the layers that have one.

The state_dict of a masked layer holds the weight behind the mask and the mask, under the names that torch's
parametrizations give them: ``lin.parametrizations.weight.original`` and ``lin.parametrizations.weight.0.keep``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


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


def masked_chains(module: nn.Module) -> Iterator[tuple[str, parametrize.ParametrizationList]]:
    """Yield a module's own weights that have a mask, by name, with all their parametrizations."""
    if parametrize.is_parametrized(module):
        for name, chain in module.parametrizations.items():  # type: ignore[union-attr, operator]
            if any(isinstance(step, Mask) for step in chain):
                yield name, chain


def follow_states(module: nn.Module) -> None:
    """Make a module with masks save and load state_dicts that fit each other; once is enough, a copy does so, too.

    Some layers, PyG's Linear among them, save their weight under its plain name whatever parametrizes it; strict
    loading then finds a name too many. A state_dict without masks can be loaded as well: its weights go behind the
    masks, which stay.
    """
    if _drop_plain_names not in module._state_dict_hooks.values():
        module.register_state_dict_post_hook(_drop_plain_names)
        module.register_load_state_dict_pre_hook(_accept_plain_names)


def unfollow_states(module: nn.Module) -> None:
    """Undo ``follow_states`` where a module has no mask any more."""
    if not any(masked_chains(module)):
        for hooks in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
            for number, hook in list(hooks.items()):
                if getattr(hook, "hook", hook) in (_drop_plain_names, _accept_plain_names):
                    del hooks[number]


def _drop_plain_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, _chain in masked_chains(module):
        state.pop(prefix + name, None)


def _accept_plain_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, chain in masked_chains(module):
        hidden = f"{prefix}parametrizations.{name}."
        plain = state.pop(prefix + name, None)
        if plain is not None and f"{hidden}original" not in state:
            state[f"{hidden}original"] = plain
            own = {f"{hidden}{place}.keep": step.keep for place, step in enumerate(chain) if isinstance(step, Mask)}
            state.update(own | {key: state[key] for key in own.keys() & state.keys()})
