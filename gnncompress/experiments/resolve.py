"""From what a user asks to resolved specs; no data, no torch."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from gnncompress.datasets import fingerprint
from gnncompress.errors import UsageError
from gnncompress.experiments.allocation import with_allocation
from gnncompress.experiments.changes import with_changes
from gnncompress.experiments.methods import EXECUTE, METHODS, QUANTIZE, Setting, scheme_of
from gnncompress.experiments.spec import NO_METHOD, SEEDS, RunSpec
from gnncompress.experiments.workloads import Features, Workload
from gnncompress.experiments.workloads import workload as choose_workload
from gnncompress.factories import is_reference, source_digest
from gnncompress.measurements import GRAPHS, MULTILABEL
from gnncompress.models import find_model
from gnncompress.models.registry import Argument
from gnncompress.profiling.energy import insist_on_meter
from gnncompress.profiling.latency import Window
from gnncompress.registry import unknown
from gnncompress.schemes import GROUPS, INTEGER, configuration, insist_on_options
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import SPLITS, SplitSpec


def resolve(
    dataset: str | None = None,
    model: str | None = None,
    method: str | None = NO_METHOD,
    sparsity: float = 0.0,
    seed: int = 0,
    finetune: bool = True,
    epochs: int | None = None,
    finetune_epochs: int | None = None,
    device: str = "auto",
    threads: int = 1,
    energy: str = "auto",
    country: str = "",
    energy_seconds: float = Window.energy_seconds,
    inference_batch: int = 0,
    workload: str | None = None,
    task: str | None = None,
    split: str | None = None,
    split_seed: int | None = None,
    features: str | None = None,
    data_root: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    allocation: str | None = None,
    **options: Any,
) -> RunSpec:
    """Return the spec of one run. Sparsity 0 is the base model: the run that only trains.

    A pruned model is fine-tuned for half as many epochs as it was trained, others are trained on for as many;
    ``finetune_epochs`` says another number, also for the pruned model that quantization starts from, and ``finetune``
    turns both off. Without a method and with ``finetune_epochs`` the base model is trained on for so many: the control
    of the models that are pruned and fine-tuned.

    ``method`` None is what ``allocation`` makes it, or global; ``options`` are the method's own, such as importance,
    min_keep, steps or rate. A method that trains its own model (l2) does so at sparsity 0, too.

    ``changes`` are new values for fields of the recipe or arguments of the model, by name.
    ``split_seed`` is ``seed`` unless it is given: runs of several seeds on one split differ in their models only.

    Raises:
        UsageError: naming what is unknown or out of range.
        DatasetError: if the raw files of the data set are nowhere and cannot be downloaded.
    """
    if not finetune and finetune_epochs is not None:
        raise UsageError(
            f"--finetune-epochs {finetune_epochs}: there is no fine-tuning with --no-finetune; leave one of them out"
        )
    if data_root is not None and not data_root.is_dir():
        raise UsageError(f"--data-root {data_root}: no such folder")
    chosen = choose_workload(dataset, model, task, workload, data_root)
    settings: dict[str, Setting] = {}
    if method != NO_METHOD:
        method, allocated = with_allocation(method, allocation)
        if method == QUANTIZE:
            options["config"] = _configuration(options)
        settings = METHODS[method].settings({**options, **allocated})
        if method == QUANTIZE:
            insist_on_options(str(settings["scheme"]), settings)
            if settings.get(EXECUTE) == INTEGER and not find_model(chosen.model).integer:
                raise UsageError(
                    f"--execute integer: model {chosen.model} has no integer execution; leave the option out"
                )
            if settings.get(EXECUTE) == INTEGER:
                from gnncompress.runtime.levels import level  # which imports numba

                level()  # raises now, not after training, if the environment names one that cannot be used
            if options.get("groups") == 0 and chosen.task in (GRAPHS, MULTILABEL):
                raise UsageError("--groups 0: the nodes of many graphs cannot have steps of their own; use 1 or more")
            if "protocol" in settings and not finetune:
                raise UsageError("--official-protocol chooses an epoch of training, and there is none")
        if settings.get("scheme") == "a2q" and chosen.task in (GRAPHS, MULTILABEL):
            settings.setdefault("groups", GROUPS)  # every graph has other nodes, so they cannot have steps of their own
    if not 0 <= sparsity < 1:
        raise UsageError(f"sparsity {sparsity:g}: must be at least 0 and below 1")
    for name, number in (("seed", seed), ("split seed", split_seed or 0)):
        if not 0 <= number < SEEDS:
            raise UsageError(f"{name} {number}: must be at least 0 and below {SEEDS:,}, as random generators want it")
    if threads < 1:
        raise UsageError(f"threads {threads}: must be at least 1")
    _insist_on_measurable(energy, country, energy_seconds, inference_batch, chosen.task)
    if features not in (None, *get_args(Features)):
        raise UsageError(unknown("encoding of features", str(features), get_args(Features)))
    arguments: dict[str, Argument] = {**find_model(chosen.model).arguments(chosen.task), **chosen.arguments}
    recipe, arguments = with_changes(chosen.recipe, arguments, changes or {})
    recipe = _with_epochs(recipe, epochs, "epochs")
    compressing = method != NO_METHOD and (sparsity > 0 or METHODS[method].dense)
    controlling = method == NO_METHOD and finetune_epochs is not None
    if not compressing and (method == NO_METHOD or not METHODS[method].trains):
        method, settings = NO_METHOD, {}
    again = recipe if compressing and METHODS[method].retrains else recipe.halved
    calibrated = str(settings.get("scheme", "")).startswith("ptq")  # and not trained
    pruned_before = method == QUANTIZE and sparsity > 0

    def tuned(usual: Recipe) -> Recipe | None:
        return _with_epochs(usual, finetune_epochs, "finetune epochs") if finetune else None

    return RunSpec(
        dataset=chosen.dataset,
        data=fingerprint(chosen.dataset, data_root),
        task=chosen.task,
        model=chosen.model,
        code=source_digest(chosen.model) if is_reference(chosen.model) else "",
        arguments=arguments,
        features=cast(Features, features or chosen.features),
        recipe=recipe,
        method=method,
        scheme=scheme_of(settings),
        settings=settings,
        sparsity=abs(sparsity),
        finetune=tuned(again) if controlling or (compressing and not calibrated) else None,
        finetune_pruned=tuned(recipe.halved) if pruned_before else None,
        seed=seed,
        split=_split(chosen, split, seed if split_seed is None else split_seed),
        device=resolve_device(device),
        threads=threads,
        window=Window(energy_seconds=energy_seconds),
        energy=energy,
        country=country,
        inference_batch=inference_batch,
    )


def _insist_on_measurable(energy: str, country: str, energy_seconds: float, inference_batch: int, task: str) -> None:
    insist_on_meter(energy)
    if country:
        from gnncompress.profiling.carbon import intensity

        intensity(country)
    if not 0.1 <= energy_seconds < math.inf:
        raise UsageError(f"--energy-seconds {energy_seconds:g}: give seconds, at least 0.1, which counters need")
    if inference_batch and task not in (GRAPHS, MULTILABEL):
        raise UsageError(f"--batch-size {inference_batch}: {task} is measured on its whole graph; leave it out")


def _configuration(options: dict[str, Any]) -> str | None:
    """Return what --config, --observer and --gradient ask for together."""
    return configuration(
        str(options.get("scheme")),
        options.get("config"),
        options.pop("observer", None),
        options.pop("gradient", None),
        options.get("calibration"),
    )


def _split(chosen: Workload, kind: str | None, seed: int) -> SplitSpec:
    if kind is not None and kind not in SPLITS[chosen.task]:
        if any(kind in kinds for kinds in SPLITS.values()):
            raise UsageError(f"--split {kind}: {chosen.task} has {', '.join(SPLITS[chosen.task])}")
        raise UsageError(unknown("split", kind, SPLITS[chosen.task]))
    return replace(chosen.split, kind=kind or chosen.split.kind, seed=seed)


def resolve_device(device: str) -> Literal["cpu", "cuda"]:
    """Turn auto, cpu or cuda into a device that is there; torch is asked only where there may be a GPU.

    Raises:
        UsageError: if the name is another, or CUDA is asked for and not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: use auto, cpu or cuda")
    if device == "cpu" or (device == "auto" and _surely_no_gpu()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return "cpu"


def _surely_no_gpu() -> bool:
    return sys.platform == "darwin" or (sys.platform == "linux" and not Path("/dev/nvidiactl").exists())


def _with_epochs(recipe: Recipe, epochs: int | None, what: str) -> Recipe:
    if epochs is None:
        return recipe
    if epochs < 1:
        raise UsageError(f"{what} {epochs}: must be at least 1")
    return replace(recipe, epochs=epochs)
