"""Pruning: which weights go, and the masks that keep them gone."""

from gnncompress.pruning.api import PruningResult, prune
from gnncompress.pruning.masks import make_permanent, prunable_parameters

__all__ = ["PruningResult", "make_permanent", "prunable_parameters", "prune"]
