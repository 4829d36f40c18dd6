"""Whether a layer does what its class is known for: rules must not be applied to what a user has changed."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch_geometric.nn import BatchNorm

from gnncompress.models.dropout import FeatureDropout
from gnncompress.quantization import context, hooks

# Nothing happens to a value in evaluation.
IDENTITIES: tuple[type, ...] = (FeatureDropout, nn.Dropout, nn.Identity)
# What these do to a value depends on its channel alone, in evaluation.
BY_CHANNEL: tuple[type, ...] = (
    nn.ReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.SiLU,
    nn.Softplus, nn.BatchNorm1d, BatchNorm,
)  # fmt: skip
_HOOKED = ("forward", "propagate", "message", "aggregate", "message_and_aggregate", "edge_update")
# What PyG writes into a class when its first layer is made.
_GENERATED = ("propagate", "collect", "edge_updater", "edge_collect")
# What a subclass may say of itself without computing otherwise.
_SAID = {"reset_parameters", "extra_repr"}
_CALLED = {"__call__", "__getattr__", "__getattribute__"}


class UnloweredError(Exception):
    """Says why a layer has to run in floats."""


def known_as(module: nn.Module, kinds: tuple[type, ...]) -> type:
    """Return the one of ``kinds`` that a module is, and computes as.

    Raises:
        UnloweredError: if it is none, overrides anything that one has, or has hooks that are not quantizers'.
    """
    found = [kind for kind in kinds if isinstance(module, kind)]
    if not found:
        raise UnloweredError("no rule for it")
    alike = [kind for kind in found if _computes_as(module, kind)]
    if not alike:
        raise UnloweredError(f"it computes otherwise than {found[0].__name__}")
    if has_own_hooks(module):
        raise UnloweredError("it has hooks")
    normalization = getattr(module, "module", module)
    if isinstance(normalization, nn.BatchNorm1d) and (normalization.running_mean is None or normalization.training):
        raise UnloweredError("it normalizes by each batch's own statistics")
    if alike[0] in IDENTITIES and module.training and alike[0] is not nn.Identity:
        raise UnloweredError("it drops values even in evaluation")
    if any(has_own_hooks(inner) for inner in (normalization, *_aggregations(module))):
        raise UnloweredError("a part of it has hooks")
    return alike[0]


def _aggregations(module: nn.Module) -> list[nn.Module]:
    """Return what a convolution aggregates with."""
    found = getattr(module, "aggr_module", None)
    return [] if found is None else [found]


def calls_otherwise(module: nn.Module) -> bool:
    """Say whether a module's class has a ``__call__`` of its own."""
    return type(module).__call__ is not nn.Module.__call__


def has_own_hooks(module: nn.Module) -> bool:
    """Say whether a module has hooks on what it computes that are not those of quantization."""
    return any(not of_quantization(hook) for placed in hooks_of(module) for hook in placed.values())


def hooks_of(module: nn.Module) -> list[dict[int, Any]]:
    """Return the hooks on what a module computes, place by place."""
    found = []
    for place in _HOOKED:
        prefix = "_forward" if place == "forward" else f"_{place}_forward"
        found += [getattr(module, f"{prefix}_{when}", {}) for when in ("pre_hooks", "hooks")]
    return found


def of_quantization(hook: Any) -> bool:
    """Say whether a hook is one that ``prepare`` has placed."""
    return type(getattr(hook, "__self__", hook)).__module__ in (hooks.__name__, context.__name__)


def _computes_as(module: nn.Module, kind: type) -> bool:
    """Say whether nothing that ``kind`` has is overridden, by a subclass or on the very object."""
    for one in (module, *_aggregations(module)):
        if any(callable(getattr(type(one), name, None)) for name in vars(one)):
            return False
    parametrized = set(getattr(module, "parametrizations", {}))
    # A class that is mixed in may stand behind ``kind``, and before the classes that this inherits from.
    for owner in [one for one in type(module).__mro__ if one not in kind.__mro__]:
        for name, value in vars(owner).items():
            plain = name in _SAID or name in parametrized or (name.startswith("__") and name not in _CALLED)
            if not plain and _is_code(value) and not _is_generated(owner, name, value):
                return False
    return True


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, (property, staticmethod, classmethod))


def _is_generated(owner: type, name: str, value: Any) -> bool:
    """Say whether PyG wrote an attribute into a class, or keeps there what it has taken the place of."""
    made_for = f"{owner.__module__}_{owner.__name__}"
    if name.startswith(("_orig_", "_jinja_")):
        return True
    return name in _GENERATED and str(getattr(value, "__module__", "")).startswith(made_for)
