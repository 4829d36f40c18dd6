"""Pruning: which weights go, and the masks that keep them gone. Its names are imported on first use, and torch then."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnncompress.masks import make_permanent, prunable_parameters
    from gnncompress.pruning.api import PruningResult, prune

_EXPORTS = {
    "PruningResult": "gnncompress.pruning.api",
    "make_permanent": "gnncompress.masks",
    "prunable_parameters": "gnncompress.masks",
    "prune": "gnncompress.pruning.api",
}

__all__ = ["PruningResult", "make_permanent", "prunable_parameters", "prune"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
