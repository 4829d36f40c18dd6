"""From what a user asks to chains of stages; no data, no torch."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from gnncompress.compression import CompressionMethod
from gnncompress.datasets import fingerprint
from gnncompress.errors import ParameterError, UsageError
from gnncompress.experiments.changes import with_changes
from gnncompress.experiments.given import given_weights
from gnncompress.experiments.stages import (
    SEEDS,
    Chain,
    Compress,
    Given,
    Measure,
    Train,
    TrainOn,
    Workload,
    insist_on_order,
)
from gnncompress.experiments.workloads import Features, NamedWorkload
from gnncompress.experiments.workloads import workload as choose_workload
from gnncompress.factories import is_reference, source_digest
from gnncompress.measurements import GRAPHS, MULTILABEL
from gnncompress.methods import name_of
from gnncompress.models import find_model
from gnncompress.models.registry import Argument
from gnncompress.profiling.energy import insist_on_meter
from gnncompress.profiling.environment import machine
from gnncompress.profiling.latency import Window
from gnncompress.registry import unknown
from gnncompress.schemes import INTEGER, SIMULATED
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import SPLITS, SplitSpec


@dataclass(frozen=True)
class WorkloadChoices:
    """What is trained, and how: all but the seed of it; what is None is the workload's own.

    ``changes`` are new values for fields of the recipe or arguments of the model, by name. ``split_seed`` is the run's
    seed unless it is given: runs of several seeds on one split differ in their models only. ``weights`` is a file with
    the tensors of a model that is trained already, found in it under ``key``. ``train``, ``loss`` and ``score`` name
    functions of the user's own, such as ``my_file.py:train``.
    """

    workload: str | None = None
    dataset: str | None = None
    model: str | None = None
    task: str | None = None
    split: str | None = None
    split_seed: int | None = None
    features: str | None = None
    epochs: int | None = None
    changes: Mapping[str, Any] | None = None
    device: str = "auto"
    threads: int = 1
    data_root: Path | None = None
    weights: Path | None = None
    key: str = ""
    train: str | None = None
    loss: str | None = None
    score: str | None = None


@dataclass(frozen=True)
class FinetuneChoices:
    """Whether compressed models are trained on, and for how many epochs if not as many as is usual of their method."""

    finetune: bool = True
    finetune_epochs: int | None = None

    def __post_init__(self) -> None:
        if not self.finetune and self.finetune_epochs is not None:
            raise ParameterError(
                "finetune_epochs", self.finetune_epochs, "there is no fine-tuning with --no-finetune; leave one out"
            )
        if self.finetune_epochs is not None and self.finetune_epochs < 1:
            raise ParameterError("finetune_epochs", self.finetune_epochs, "must be at least 1")

    def tuned(self, usual: Recipe | None) -> Recipe | None:
        """Return the recipe of fine-tuning, None if there is none."""
        if usual is None or not self.finetune:
            return None
        return usual if self.finetune_epochs is None else replace(usual, epochs=self.finetune_epochs)


@dataclass(frozen=True)
class MeasureChoices:
    """How models are measured: see ``Measure``. ``threads`` None is as many as training has."""

    execute: str = SIMULATED
    energy: str = "auto"
    energy_seconds: float = Window.energy_seconds
    country: str = ""
    inference_threads: int | None = None
    inference_batch: int = 0
    repetition: int = 0


def resolve(
    choices: WorkloadChoices,
    seed: int = 0,
    compress: Sequence[CompressionMethod] = (),
    finetuning: FinetuneChoices | None = None,
    measuring: MeasureChoices | None = None,
) -> Chain:
    """Return the chain of one run: the methods of ``compress`` one after the other, then measured.

    A method that would leave the model as it is (sparsity 0) is left out. Without any and with ``finetune_epochs`` the
    base model is trained on for so many: the control of the models that are pruned and fine-tuned.

    Raises:
        UsageError: naming what is unknown, out of range, or cannot follow what comes before.
        DatasetError: if the raw files of the data set are nowhere and cannot be downloaded.
    """
    finetuning, measuring = finetuning or FinetuneChoices(), measuring or MeasureChoices()
    workload = resolve_workload(choices, seed)
    given = None if choices.weights is None else given_weights(choices.weights, choices.key)
    methods = [method for one in compress if not (method := one.for_task(workload.task)).does_nothing()]
    stages = _stages(workload, given, methods, finetuning)
    if not compress and finetuning.finetune_epochs is not None:
        stages.append(TrainOn(finetune=cast(Recipe, finetuning.tuned(workload.recipe))))
    chain = Chain(workload, (*stages, resolve_measure(measuring, workload, methods)))
    insist_on_order(chain)
    return chain


def _stages(
    workload: Workload, given: Given | None, methods: Sequence[CompressionMethod], finetuning: FinetuneChoices
) -> list[Train | Given | Compress | TrainOn | Measure]:
    stages: list[Train | Given | Compress | TrainOn | Measure] = [given or Train()]
    for number, method in enumerate(methods):
        before: list[CompressionMethod] = []
        start = method.starts_from()
        while isinstance(start, CompressionMethod):
            before.insert(0, start)
            start = start.starts_from()
        if start == "fresh":
            if given is not None:
                raise UsageError(f"{method.name} trains a fresh model; leave the weights out, or take another method")
            if number == 0:
                stages.clear()
        stages += [_compress(one, None) for one in before]
        stages.append(_compress(method, finetuning.tuned(method.finetuning(workload.recipe))))
    return stages


def _compress(method: CompressionMethod, finetune: Recipe | None) -> Compress:
    name = name_of(method)
    code = source_digest(name) if is_reference(name) else ""
    return Compress(method=name, config=method.changed(), code=code, version=method.version, finetune=finetune)


def resolve_workload(choices: WorkloadChoices, seed: int) -> Workload:
    """Return the workload that is chosen, with a seed.

    Raises:
        UsageError, DatasetError: as ``resolve`` does.
    """
    root = choices.data_root
    if root is not None and not root.is_dir():
        raise ParameterError("data_root", root, "no such folder")
    chosen = choose_workload(choices.dataset, choices.model, choices.task, choices.workload, root)
    for name, number in (("seed", seed), ("split_seed", choices.split_seed or 0)):
        if not 0 <= number < SEEDS:
            raise ParameterError(name, number, f"must be at least 0 and below {SEEDS:,}, as random generators want it")
    if choices.threads < 1:
        raise ParameterError("threads", choices.threads, "must be at least 1")
    if choices.features not in (None, *get_args(Features)):
        raise UsageError(unknown("encoding of features", str(choices.features), get_args(Features)))
    arguments: dict[str, Argument] = {**find_model(chosen.model).arguments(chosen.task), **chosen.arguments}
    recipe, arguments = with_changes(chosen.recipe, arguments, choices.changes or {})
    if choices.epochs is not None:
        if choices.epochs < 1:
            raise ParameterError("epochs", choices.epochs, "must be at least 1")
        recipe = replace(recipe, epochs=choices.epochs)
    own = {name: reference for name in ("train", "loss", "score") if (reference := getattr(choices, name))}
    return Workload(
        dataset=chosen.dataset,
        data=fingerprint(chosen.dataset, root),
        task=chosen.task,
        model=chosen.model,
        code=source_digest(chosen.model) if is_reference(chosen.model) else "",
        arguments=arguments,
        features=cast(Features, choices.features or chosen.features),
        recipe=recipe,
        seed=seed,
        split=_split(chosen, choices.split, seed if choices.split_seed is None else choices.split_seed),
        device=resolve_device(choices.device),
        threads=choices.threads,
        own=cast(Any, own),
        own_code=cast(Any, {name: source_digest(reference) for name, reference in own.items()}),
    )


def resolve_measure(choices: MeasureChoices, workload: Workload, methods: Sequence[CompressionMethod]) -> Measure:
    """Return how a model is measured.

    Raises:
        UsageError: naming what is unknown, out of range, or does not fit the workload.
    """
    insist_on_meter(choices.energy)
    if choices.country:
        from gnncompress.profiling.carbon import intensity

        intensity(choices.country)
    if not 0.1 <= choices.energy_seconds < math.inf:
        raise ParameterError(
            "energy_seconds", f"{choices.energy_seconds:g}", "give seconds, at least 0.1, which counters need"
        )
    if choices.inference_batch and workload.task not in (GRAPHS, MULTILABEL):
        raise ParameterError(
            "batch_size", choices.inference_batch, f"{workload.task} is measured on its whole graph; leave it out"
        )
    if choices.execute not in (SIMULATED, INTEGER):
        raise ParameterError("execute", "", unknown("execution", choices.execute, (SIMULATED, INTEGER)))
    if choices.execute == INTEGER:
        _insist_on_integers(workload, methods)
    threads = workload.threads if choices.inference_threads is None else choices.inference_threads
    if threads < 1:
        raise ParameterError("inference_threads", threads, "must be at least 1")
    return Measure(
        execute=cast(Any, choices.execute),
        window=Window(energy_seconds=choices.energy_seconds),
        energy=choices.energy,
        country=choices.country,
        threads=threads,
        batch=choices.inference_batch,
        machine=machine(),
        repetition=choices.repetition,
    )


def _insist_on_integers(workload: Workload, methods: Sequence[CompressionMethod]) -> None:
    if not find_model(workload.model).integer:
        raise ParameterError(
            "execute", INTEGER, f"model {workload.model} has no integer execution; leave the option out"
        )
    if workload.device == "cuda":
        raise ParameterError("device", "cuda", "--execute integer runs on the CPU; leave one of them out")
    quantized = [method for method in methods if method.command == "quantize"]
    if not quantized:
        raise ParameterError("execute", INTEGER, "the model is not quantized; leave the option out")
    from gnncompress.schemes import insist_on_options

    insist_on_options(getattr(quantized[-1], "scheme", "fp32"), ["execute"])
    from gnncompress.runtime.levels import level  # which imports numba

    level()  # raises now, not after training, if the environment names one that cannot be used


def _split(chosen: NamedWorkload, kind: str | None, seed: int) -> SplitSpec:
    if kind is not None and kind not in SPLITS[chosen.task]:
        if any(kind in kinds for kinds in SPLITS.values()):
            raise ParameterError("split", kind, f"{chosen.task} has {', '.join(SPLITS[chosen.task])}")
        raise UsageError(unknown("split", kind, SPLITS[chosen.task]))
    return replace(chosen.split, kind=kind or chosen.split.kind, seed=seed)


def resolve_device(device: str) -> Literal["cpu", "cuda"]:
    """Turn auto, cpu or cuda into a device that is there; torch is asked only where there may be a GPU.

    Raises:
        UsageError: if the name is another, or CUDA is asked for and not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ParameterError("device", device, "use auto, cpu or cuda")
    if device == "cpu" or (device == "auto" and _surely_no_gpu()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise ParameterError("device", "cuda", "torch sees no CUDA device here; use --device cpu")
    return "cpu"


def _surely_no_gpu() -> bool:
    return sys.platform == "darwin" or (sys.platform == "linux" and not Path("/dev/nvidiactl").exists())
