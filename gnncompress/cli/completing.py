"""What a shell may complete: the names of data sets, models, methods, schemes and workloads."""

from __future__ import annotations

from collections.abc import Iterable


def _beginning(names: Iterable[str], typed: str) -> list[str]:
    return [name for name in names if name.lower().startswith(typed.lower())]


def workloads(incomplete: str) -> list[str]:
    """Return the workloads whose names begin so."""
    from gnncompress.experiments.workloads import WORKLOADS

    return _beginning(WORKLOADS, incomplete)


def datasets(incomplete: str) -> list[str]:
    """Return the data sets whose names begin so."""
    from gnncompress.datasets import DATASETS

    return _beginning((entry.name for entry in DATASETS), incomplete)


def models(incomplete: str) -> list[str]:
    """Return the models whose names begin so."""
    from gnncompress.models import MODELS

    return _beginning((entry.name for entry in MODELS), incomplete)


def methods(incomplete: str) -> list[str]:
    """Return the pruning methods whose names begin so."""
    from gnncompress.methods import methods as all_methods

    return _beginning((method.name for method in all_methods("prune")), incomplete)


def schemes(incomplete: str) -> list[str]:
    """Return the schemes whose names begin as the last of those typed does."""
    from gnncompress.schemes import SCHEMES

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in _beginning(SCHEMES, last)]
