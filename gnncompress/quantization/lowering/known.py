"""Whether a layer does what its class is known for: rules must not be applied to what a user has changed."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch_geometric.nn import BatchNorm

from gnncompress.models.dropout import FeatureDropout
from gnncompress.quantization import hooks

# Nothing happens to a value in evaluation.
IDENTITIES: tuple[type, ...] = (FeatureDropout, nn.Dropout, nn.Identity)
# What these do to a value depends on its channel alone, in evaluation.
BY_CHANNEL: tuple[type, ...] = (
    nn.ReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.SiLU,
    nn.Softplus, nn.BatchNorm1d, BatchNorm,
)  # fmt: skip
# The methods that say what a layer computes.
_COMPUTING = ("forward", "message", "aggregate", "update", "edge_update")
_HOOKED = ("forward", "propagate", "message", "aggregate", "message_and_aggregate", "edge_update")


class UnloweredError(Exception):
    """Says why a layer has to run in floats."""


def known_as(module: nn.Module, kinds: tuple[type, ...]) -> type:
    """Return the one of ``kinds`` that a module is, and computes as.

    Raises:
        UnloweredError: if it is none, overrides what one computes, or has hooks that are not quantizers'.
    """
    found = [kind for kind in kinds if isinstance(module, kind)]
    if not found:
        raise UnloweredError("no rule for it")
    alike = [kind for kind in found if all(_same(module, kind, name) for name in _COMPUTING)]
    if not alike:
        raise UnloweredError(f"it computes otherwise than {found[0].__name__}")
    for place in _HOOKED:
        for when in ("pre_hooks", "hooks"):
            prefix = "_forward" if place == "forward" else f"_{place}_forward"
            placed: dict[int, Any] = getattr(module, f"{prefix}_{when}", {})
            if any(type(hook).__module__ != hooks.__name__ for hook in placed.values()):
                raise UnloweredError("it has hooks")
    normalization = getattr(module, "module", module)
    if isinstance(normalization, nn.BatchNorm1d) and normalization.running_mean is None:
        raise UnloweredError("it normalizes by each batch's own statistics")
    return alike[0]


def _same(module: nn.Module, kind: type, method: str) -> bool:
    return getattr(type(module), method, None) is getattr(kind, method, None) and method not in vars(module)
