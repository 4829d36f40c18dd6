"""Experiments as a library: the same runs as the command line's, as plain dictionaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gnncompress.experiments.resolve import resolve
from gnncompress.experiments.rows import read_metrics
from gnncompress.experiments.spec import RunSpec
from gnncompress.experiments.store import Store, read_spec
from gnncompress.experiments.sweep import Observer, Sweep


def experiment(output: str | Path = "runs", data_root: str | Path | None = None, **choices: Any) -> dict[str, Any]:
    """Carry out one run, or find it again, and return its run_id, spec and metrics.

    ``choices`` are those of ``resolve``: dataset, model, method, sparsity, seed, finetune, epochs, ...

    Raises:
        GnncompressError: if a choice is wrong or the run fails.
    """
    store = Store(Path(output))
    root = Path(data_root) if data_root else None
    spec = resolve(data_root=root, **choices)
    outcome = Sweep(store, root, Observer()).run([spec])
    for error in outcome.failed.values():
        raise error
    return describe(spec, store)


def describe(spec: RunSpec, store: Store) -> dict[str, Any]:
    """Return a finished run as a dictionary of JSON values."""
    return {
        "run_id": spec.run_id,
        "spec": read_spec(store.path(spec)),
        "metrics": read_metrics(store.results(spec)),
    }
