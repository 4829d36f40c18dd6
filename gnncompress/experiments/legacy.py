"""Runs and checkpoints of the versions before stages, version 5 and earlier: what their specs say in today's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnncompress.errors import UsageError
from gnncompress.experiments.stages import NO_METHOD, Chain, Compress, Measure, Train, TrainOn, Workload
from gnncompress.schemes import INTEGER, SIMULATED

_OF_WORKLOAD = (
    "dataset", "data", "task", "model", "code", "arguments", "features", "recipe", "seed", "split", "device", "threads",
)  # fmt: skip


def methods_of(method: str, settings: Mapping[str, Any], sparsity: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the methods, with their options, that a version 5 method, its settings and sparsity stand for."""
    if method == NO_METHOD:
        return []
    config = {name: value for name, value in settings.items() if name != "execute"}
    if method == "quantize":
        if config.pop("protocol", None) == "official-protocol":
            config["official_protocol"] = True
        if "weights" in config:
            config["granularity"] = config.pop("weights")
        if isinstance(config.get("keep_float"), str):
            config["keep_float"] = [name for name in config["keep_float"].split(",") if name]
        if config.get("scheme") == "dq-int8":
            del config["scheme"]  # which is the default now
        return [("quantize", config)]
    if method != "lottery" and sparsity and not (sparsity == 0.5 and method != "l2"):
        config["sparsity"] = sparsity
    return [(method, config)]


def executed_of(settings: Mapping[str, Any]) -> str:
    """Return how a version 5 run computes."""
    return INTEGER if settings.get("execute") == INTEGER else SIMULATED


def chain_of(spec: Mapping[str, Any]) -> Chain:
    """Return the chain that a spec of version 5 stands for. Its id is another than the run's name.

    Raises:
        UsageError: if it is none, in a line.
        ValidationError: if a field has a value that it cannot have.
    """
    if spec.get("version") != 5:
        raise UsageError(f"a spec of version {spec.get('version')} cannot be read; run it again")
    workload = Workload.model_validate({name: spec[name] for name in _OF_WORKLOAD if name in spec})
    method, sparsity, finetune = str(spec.get("method", NO_METHOD)), spec.get("sparsity", 0), spec.get("finetune")
    settings = spec.get("settings") or {}
    applied = methods_of(method, settings, sparsity)
    if method == "quantize" and sparsity:
        applied.insert(0, ("global", {} if sparsity == 0.5 else {"sparsity": sparsity}))
    stages: list[Any] = [] if method == "l2" else [Train()]
    stages += [
        Compress.model_validate({"method": name, "config": config, "finetune": finetune}) for name, config in applied
    ]
    if method == NO_METHOD and finetune is not None:
        stages.append(TrainOn.model_validate({"finetune": finetune}))
    fields = {"execute": executed_of(settings), "batch": spec.get("inference_batch", 0), "threads": workload.threads}
    fields |= {name: spec[name] for name in ("window", "energy", "country") if name in spec}
    return Chain(workload, (*stages, Measure.model_validate(fields)))
