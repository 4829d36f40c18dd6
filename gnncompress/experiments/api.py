"""Experiments as a library: the same runs as the command line's, as plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gnncompress.compression import CompressionMethod
from gnncompress.errors import UsageError
from gnncompress.experiments.allocation import with_allocation
from gnncompress.experiments.resolve import (
    FinetuneChoices,
    MeasureChoices,
    WorkloadChoices,
    resolve,
)
from gnncompress.experiments.rows import read_metrics
from gnncompress.experiments.stages import Chain
from gnncompress.experiments.store import Store, read_spec
from gnncompress.experiments.sweep import Observer, Outdated, Sweep
from gnncompress.methods import method_named


def experiment(
    dataset: str | None = None,
    model: str | None = None,
    *,
    method: str | None = None,
    sparsity: float | None = None,
    allocation: str | None = None,
    importance: str | None = None,
    min_keep: float | None = None,
    steps: int | None = None,
    rate: float | None = None,
    scheme: str | None = None,
    calibration: str | None = None,
    config: str | None = None,
    observer: str | None = None,
    gradient: str | None = None,
    granularity: str | None = None,
    head_bits: int | None = None,
    official_protocol: bool | None = None,
    draw: str | None = None,
    protect: float | None = None,
    protect_more: float | None = None,
    groups: int | None = None,
    target_bits: float | None = None,
    keep_float: Sequence[str] | None = None,
    compress: CompressionMethod | Sequence[CompressionMethod] | None = None,
    seed: int = 0,
    workload: str | None = None,
    task: str | None = None,
    split: str | None = None,
    split_seed: int | None = None,
    features: str | None = None,
    epochs: int | None = None,
    changes: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    key: str = "",
    train: str | None = None,
    loss: str | None = None,
    score: str | None = None,
    finetune: bool = True,
    finetune_epochs: int | None = None,
    device: str = "auto",
    threads: int = 1,
    execute: str = "simulated",
    energy: str = "auto",
    energy_seconds: float = 10.0,
    country: str = "",
    inference_threads: int | None = None,
    inference_batch: int = 0,
    output: str | Path = "runs",
    data_root: str | Path | None = None,
    outdated: Outdated = "keep",
) -> dict[str, Any]:
    """Carry out one run, or find it again, and return its run_id, spec and metrics.

    Either name a ``method`` with its options (those that are None have the method's defaults), or give ``compress``: a
    method such as ``GlobalPruning(sparsity=0.5)``, or several that are applied one after the other. Without both the
    run is the base model. ``weights`` is a file with the weights of a model that is trained already, ``train``,
    ``loss`` and ``score`` name functions of your own. The caller's torch threads, deterministic mode and random
    generators are left as they are.

    Raises:
        GnncompressError: if a choice is wrong or the run fails.
    """
    options = {
        "sparsity": sparsity,
        "importance": importance,
        "min_keep": min_keep,
        "steps": steps,
        "rate": rate,
        "scheme": scheme,
        "calibration": calibration,
        "config": config,
        "observer": observer,
        "gradient": gradient,
        "granularity": granularity,
        "head_bits": head_bits,
        "official_protocol": official_protocol,
        "draw": draw,
        "protect": protect,
        "protect_more": protect_more,
        "groups": groups,
        "target_bits": target_bits,
        "keep_float": keep_float,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if compress is not None and (method is not None or allocation is not None or given):
        named = "method" if method is not None else "allocation" if allocation is not None else next(iter(given))
        raise UsageError(f"compress= says what is applied; leave {named} out")
    if compress is None:
        methods = methods_asked(method, allocation, given)
    else:
        methods = [compress] if isinstance(compress, CompressionMethod) else list(compress)
    root = None if data_root is None else Path(data_root)
    choices = WorkloadChoices(
        workload=workload,
        dataset=dataset,
        model=model,
        task=task,
        split=split,
        split_seed=split_seed,
        features=features,
        epochs=epochs,
        changes=changes,
        device="cpu" if execute == "integer" and device == "auto" else device,
        threads=threads,
        data_root=root,
        weights=None if weights is None else Path(weights),
        key=key,
        train=train,
        loss=loss,
        score=score,
    )
    measuring = MeasureChoices(execute, energy, energy_seconds, country, inference_threads, inference_batch)
    chain = resolve(choices, seed, methods, FinetuneChoices(finetune, finetune_epochs), measuring)
    store = Store(Path(output))
    outcome = Sweep(store, root, Observer(), outdated).run([chain])
    for error in outcome.failed.values():
        raise error
    return describe(chain, store)


def methods_asked(method: str | None, allocation: str | None, given: Mapping[str, Any]) -> list[CompressionMethod]:
    """Return the method that is named, with the options ``given``; before quantization one that prunes, if asked.

    Raises:
        UsageError: as ``with_allocation`` and ``method_named`` do.
    """
    if method == "none" or (method is None and allocation is None and not given):
        return []
    if method is None and "scheme" in given:
        method = "quantize"
    name, allocated = with_allocation(method, allocation)
    if name == "quantize" and "sparsity" in given:
        pruned = method_named("global", {"sparsity": given["sparsity"]})
        return [pruned, method_named(name, {key: one for key, one in given.items() if key != "sparsity"})]
    return [method_named(name, {**given, **allocated})]


def describe(chain: Chain, store: Store) -> dict[str, Any]:
    """Return a finished run as a dictionary of JSON values."""
    return {
        "run_id": chain.id,
        "spec": read_spec(store.path(chain)),
        "metrics": read_metrics(store.results(chain)),
    }
