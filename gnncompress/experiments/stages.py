"""Stages: what a run consists of, each a frozen configuration whose hash, with that of what came before, is its name.

    workload -> train | given -> compress (none or several) -> measure

A ``Chain`` is a workload and stages that follow each other; every beginning of a chain is a chain, too. A run is one
that ends with ``Measure``. What a stage's numbers do not depend on is not in its configuration: how a model is measured
changes nothing before ``Measure``. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gnncompress.compression import CompressionMethod
from gnncompress.errors import UsageError
from gnncompress.methods import find_method
from gnncompress.profiling.latency import Window
from gnncompress.schemes import INTEGER, SIMULATED
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import SplitSpec

NO_METHOD = "none"
# Python's, NumPy's and torch's generators all take seeds below this.
SEEDS = 2**32


class Stage(BaseModel):
    """A part of a chain.

    ``VERSION`` is raised when a default, or what a stage does, changes, so that old results are not taken for new ones.
    ``ROOMS`` are the parts of the package whose code a stage's numbers depend on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    VERSION: ClassVar[int] = 1
    ROOMS: ClassVar[tuple[str, ...]] = ("datasets", "models", "tasks")


class Workload(Stage):
    """What all stages of a chain share: data, task, model, recipe and seed.

    ``data`` and ``code`` are SHA-256 digests of the data set's raw files and of a model of the user's own, empty where
    the package itself fixes them. ``own`` are the user's own functions (train, loss, score) by what they are for,
    ``own_code`` their digests. Units: ``threads`` is torch's thread count in training.
    """

    dataset: str
    data: str = ""
    task: str
    model: str
    code: str = ""
    arguments: dict[str, str | int | float]
    features: Literal["auto", "raw", "one-hot", "standard"] = "auto"
    recipe: Recipe
    seed: Annotated[int, Field(ge=0, lt=SEEDS)]
    split: SplitSpec
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=1)] = 1
    own: dict[Literal["train", "loss", "score"], str] = Field(default_factory=dict)
    own_code: dict[Literal["train", "loss", "score"], str] = Field(default_factory=dict)

    @field_validator("split")
    @classmethod
    def _seeded(cls, split: SplitSpec) -> SplitSpec:
        if not 0 <= split.seed < SEEDS:
            raise ValueError(f"seed {split.seed} must be at least 0 and below {SEEDS}")
        return split


class Train(Stage):
    """The workload's model is trained from its initialization, by the workload's recipe."""

    stage: Literal["train"] = "train"


class Given(Stage):
    """The weights of a model that is trained already: a state_dict, found under ``key`` in its file.

    ``weights`` is the file's SHA-256 digest; ``path`` is where it lies, which names nothing.
    """

    stage: Literal["given"] = "given"
    weights: str
    key: str = ""
    path: Annotated[Path, Field(exclude=True)] = Path()


class Compress(Stage):
    """A method is applied, and the model is trained on by ``finetune`` where there is such a recipe.

    ``config`` are the method's fields that differ from their defaults, ``code`` the digest of a method of the user's
    own, ``version`` the method's.
    """

    ROOMS: ClassVar[tuple[str, ...]] = (*Stage.ROOMS, "pruning", "quantization")

    stage: Literal["compress"] = "compress"
    method: str
    config: dict[str, Any] = Field(default_factory=dict)
    code: str = ""
    version: int = 1
    finetune: Recipe | None = None

    @property
    def applied(self) -> CompressionMethod:
        """The method with its configuration."""
        return find_method(self.method).of(self.config)


class TrainOn(Stage):
    """The model is trained on without being compressed: what compressed and fine-tuned models are compared with."""

    stage: Literal["train-on"] = "train-on"
    finetune: Recipe


class Measure(Stage):
    """The model is evaluated, packed and measured, on this kind of machine.

    ``execute`` is what computes for the model; ``threads`` is torch's thread count; ``batch`` is how many graphs a
    measured call has, 0 for all test items; ``repetition`` counts how often the same was measured before.
    """

    ROOMS: ClassVar[tuple[str, ...]] = (*Compress.ROOMS, "checkpoints", "profiling", "runtime")

    stage: Literal["measure"] = "measure"
    execute: Literal["simulated", "integer"] = SIMULATED
    window: Window = Window()
    energy: str = "auto"
    country: str = ""
    threads: Annotated[int, Field(ge=1)] = 1
    batch: Annotated[int, Field(ge=0)] = 0
    machine: str = ""
    repetition: Annotated[int, Field(ge=0)] = 0


AnyStage = Annotated[Train | Given | Compress | TrainOn | Measure, Field(discriminator="stage")]


class _Written(BaseModel):
    """A chain as it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[6] = 6
    workload: Workload
    stages: Annotated[tuple[AnyStage, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Chain:
    """A workload, and the stages that follow each other; ``parent`` is all but the last of them."""

    workload: Workload
    stages: tuple[Train | Given | Compress | TrainOn | Measure, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return Chain, (self.workload, self.stages)  # without methods, whose classes another process has yet to import

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits: the SHA-256 of the last stage's name, version, configuration, and the id before it.

        Only fields that differ from their defaults count, so that a new option renames nothing.
        """
        found = digest("workload", Workload.VERSION, changed(self.workload), "")
        for stage in self.stages:
            found = digest(stage.stage, stage.VERSION, changed(stage, without=("stage",)), found)
        return found

    @property
    def last(self) -> Train | Given | Compress | TrainOn | Measure:
        """The last stage."""
        return self.stages[-1]

    @property
    def parent(self) -> Chain | None:
        """What the last stage starts from; None if that is a fresh model."""
        return Chain(self.workload, self.stages[:-1]) if len(self.stages) > 1 else None

    @property
    def beginnings(self) -> Iterator[Chain]:
        """The chain and all its beginnings, the longest first."""
        one: Chain | None = self
        while one is not None:
            yield one
            one = one.parent

    @property
    def measure(self) -> Measure | None:
        """The last stage if it measures."""
        return self.last if isinstance(self.last, Measure) else None

    @property
    def model(self) -> Chain:
        """The chain that makes the model."""
        return Chain(self.workload, self.stages[:-1]) if self.measure is not None else self

    @property
    def compressions(self) -> list[Compress]:
        """The stages that compress, in order."""
        return [stage for stage in self.stages if isinstance(stage, Compress)]

    @cached_property
    def methods(self) -> list[CompressionMethod]:
        """The methods that were applied, in order."""
        return [stage.applied for stage in self.compressions]

    @property
    def analyzes(self) -> bool:
        """Whether the chain only looks at a model and makes none of its own."""
        return bool(self.methods) and self.methods[-1].analyzes

    def then(self, *stages: Train | Given | Compress | TrainOn | Measure) -> Chain:
        """Return the chain with more stages."""
        return Chain(self.workload, (*self.stages, *stages))

    @property
    def base(self) -> Chain:
        """The plainly trained model, or the one that was given, which a compressed one is compared with."""
        first = self.stages[0] if isinstance(self.stages[0], Given) else Train()
        measure = () if self.measure is None else (self.measure.model_copy(update={"execute": SIMULATED}),)
        return Chain(self.workload, (first, *measure))

    @property
    def control(self) -> Chain | None:
        """The run that a pruned model is compared with for equal training: not pruned, and trained on for as long.

        None for what is not pruned or not trained on, for quantized models, and for studies, which have their own.
        """
        if not self.compressions:
            return None
        stage, measure = self.compressions[-1], () if self.measure is None else (self.measure,)
        method = stage.applied
        if stage.finetune is None or method.command != "prune" or not getattr(method, "sparsity", 0):
            return None
        start = method.starts_from()
        if len(self.compressions) != (2 if isinstance(start, CompressionMethod) else 1):
            return None
        if isinstance(start, CompressionMethod):
            before = stage.model_copy(update={"config": start.changed(), "finetune": None})
            return Chain(self.workload, (before, before.model_copy(update={"finetune": stage.finetune}), *measure))
        return Chain(self.workload, (self.stages[0], TrainOn(finetune=stage.finetune), *measure))

    @property
    def method(self) -> str:
        """What tables show as the method: the last that was applied."""
        return self.compressions[-1].method if self.compressions else NO_METHOD

    @property
    def scheme(self) -> str:
        """What tables show of the method's configuration, and how it is executed."""
        if not self.methods:
            return ""
        execute = INTEGER if self.measure is not None and self.measure.execute == INTEGER else ""
        return self.methods[-1].label(execute)

    @property
    def sparsity(self) -> float:
        """The sparsity that the last method with one was asked for."""
        asked = [method.sparsity for method in self.methods if hasattr(method, "sparsity")]
        return float(asked[-1]) if asked else 0.0

    @property
    def finetuned(self) -> bool:
        """Whether the last stage before measuring trained on."""
        last = self.model.last
        return isinstance(last, TrainOn) or (isinstance(last, Compress) and last.finetune is not None)

    @property
    def label(self) -> str:
        """The chain in a few words, for people."""
        words = [word for word in (self.method, self.scheme, f"{self.sparsity:g}") if word]
        if self.method == NO_METHOD:
            last = self.model.last
            words = ["train on" if isinstance(last, TrainOn) else "given" if isinstance(last, Given) else "train"]
        measured = ["measure"] if self.measure is not None else []
        return " ".join([self.workload.dataset, self.workload.model, *words, f"seed {self.workload.seed}", *measured])

    def dump(self) -> dict[str, Any]:
        """Return the chain as JSON values, all fields of it."""
        return _Written(workload=self.workload, stages=self.stages).model_dump(mode="json")

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Chain:
        """Return the chain that ``dump`` made.

        Raises:
            ValidationError: if it is none.
            UsageError: if it has a method, or a configuration of one, that there is not.
        """
        written = _Written.model_validate(dict(values))
        chain = cls(written.workload, written.stages)
        insist_on_order(chain)
        return chain


def insist_on_order(chain: Chain) -> None:
    """Insist on stages that can follow each other.

    Raises:
        UsageError: saying which cannot, why, and what to do.
    """
    for number, stage in enumerate(chain.stages):
        if isinstance(stage, (Train, Given)) and number > 0:
            raise UsageError(f"stage {stage.stage} can only be the first")
        if isinstance(stage, Measure) and number < len(chain.stages) - 1:
            raise UsageError("stage measure can only be the last")
    for number, method in enumerate(chain.methods):
        earlier = chain.methods[:number]
        reason = method.refusal(earlier)
        if not reason and any(one.analyzes for one in earlier):
            reason = f"{earlier[-1].name} makes no model; leave it out"
        if reason:
            raise UsageError(f"{method.name} after {' and '.join(one.name for one in earlier)}: {reason}")


def digest(*parts: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of parts that are JSON values."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def changed(config: Any, without: tuple[str, ...] = ()) -> Any:
    """Return the fields of a configuration, and of those in it, that differ from their defaults, as JSON values."""
    if isinstance(config, BaseModel):
        kinds = type(config).model_fields
        pairs = [
            (name, info.get_default(call_default_factory=True)) for name, info in kinds.items() if not info.exclude
        ]
    elif dataclasses.is_dataclass(config):
        pairs = [(one.name, one.default) for one in dataclasses.fields(config)]
    else:
        return int(config) if isinstance(config, float) and config.is_integer() else config  # 1 and 1.0 are one
    values = {name: (getattr(config, name), default) for name, default in pairs if name not in without}
    return {name: changed(value) for name, (value, default) in values.items() if value != default}
