"""Pruning: which weights go, and the masks that keep them gone."""

from gnncompress.masks import make_permanent, prunable_parameters
from gnncompress.pruning.api import PruningResult, prune
from gnncompress.pruning.lottery import lottery
from gnncompress.pruning.sensitivity import sensitivity

__all__ = ["PruningResult", "lottery", "make_permanent", "prunable_parameters", "prune", "sensitivity"]
