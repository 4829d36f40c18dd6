"""A run's spec: everything its numbers depend on, resolved, in one frozen object whose hash is the run's name."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gnncompress.experiments.methods import BASE, METHODS, Other, Same, Setting, scheme_of
from gnncompress.profiling.latency import Window
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import SplitSpec

NO_METHOD = "none"
# Python's, NumPy's and torch's generators all take seeds below this.
SEEDS = 2**32


class RunSpec(BaseModel):
    """One run: a trained model when ``method`` is none, else that model compressed by the method.

    ``data`` and ``code`` are SHA-256 digests of the data set's raw files and of a model of the user's own, empty where
    the package itself fixes them. ``settings`` are the method's options that differ from their defaults, ``scheme`` is
    what tables show of them. Units: ``sparsity`` is the fraction of zeros among prunable weights, for structured
    pruning the fraction of parameters removed; ``threads`` is torch's thread count; ``inference_batch`` is how many
    graphs a measured call has, 0 for all test items.

    ``finetune`` is the recipe by which a model is trained on. At sparsity 0 that is a control: the model is not pruned,
    and trained for as long as a pruned one is. ``finetune_pruned`` is the same for the pruned model that quantization
    starts from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[5] = 5
    dataset: str
    data: str = ""
    task: str
    model: str
    code: str = ""
    arguments: dict[str, str | int | float]
    features: Literal["auto", "raw", "one-hot", "standard"] = "auto"
    recipe: Recipe
    method: str = NO_METHOD
    scheme: str = ""
    settings: dict[str, Setting] = Field(default_factory=dict)
    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    finetune: Recipe | None = None
    finetune_pruned: Recipe | None = None
    seed: Annotated[int, Field(ge=0, lt=SEEDS)]
    split: SplitSpec
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=1)] = 1
    window: Window = Window()
    energy: str = "auto"
    country: str = ""
    inference_batch: Annotated[int, Field(ge=0)] = 0

    @field_validator("split")
    @classmethod
    def _seeded(cls, split: SplitSpec) -> SplitSpec:
        if not 0 <= split.seed < SEEDS:
            raise ValueError(f"seed {split.seed} must be at least 0 and below {SEEDS}")
        return split

    @property
    def run_id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the spec's canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def base(self) -> RunSpec:
        """Return the spec of the plainly trained model that this run is compared with."""
        plain = {"method": NO_METHOD, "scheme": "", "settings": {}, "sparsity": 0.0}
        return self.model_copy(update={**plain, "finetune": None, "finetune_pruned": None})

    @property
    def control(self) -> RunSpec | None:
        """The run that a pruned model is compared with for equal training: not pruned, and trained on for as long.

        None for what is not pruned or not trained on, and for studies, which have controls of their own.
        """
        if self.finetune is None or self.sparsity == 0 or self.method == NO_METHOD or METHODS[self.method].study:
            return None
        plain = self.model_copy(update={"sparsity": 0.0}) if METHODS[self.method].trains else self.base()
        return plain.model_copy(update={"finetune": self.finetune})

    @property
    def is_control(self) -> bool:
        """Whether the run trains on a model that is not compressed."""
        trained = self.method == NO_METHOD or METHODS[self.method].trains
        return trained and self.sparsity == 0 and self.finetune is not None

    @property
    def origin(self) -> RunSpec | None:
        """The run whose model this one starts from; None for one that starts from a fresh model."""
        if self.is_control:
            return self.model_copy(update={"finetune": None})
        if self.method == NO_METHOD:
            return None
        before = METHODS[self.method].starts_from(self.sparsity, self.settings)
        if before is None:
            return None
        if before == BASE:
            return self.base()
        if isinstance(before, Other):
            of_other = {"method": before.method, "sparsity": before.sparsity, "finetune": self.finetune_pruned}
            return self.base().model_copy(update=of_other)
        if isinstance(before, Same):
            update: dict[str, object] = {"settings": before.settings, "scheme": scheme_of(before.settings)}
            return self.model_copy(update=update)
        sparsity, settings = before
        update = {"sparsity": sparsity, "settings": settings, "scheme": scheme_of(settings), "finetune": None}
        return self.model_copy(update=update)

    @property
    def compressed(self) -> RunSpec:
        """The run that compressed the model: this one, or the one whose model it only runs in another way."""
        if self.method != NO_METHOD and isinstance(
            METHODS[self.method].starts_from(self.sparsity, self.settings), Same
        ):
            return self.origin or self
        return self

    @property
    def analysis(self) -> bool:
        """Whether the run only looks at a model and makes none of its own."""
        return self.method != NO_METHOD and METHODS[self.method].analysis

    @property
    def label(self) -> str:
        """The run in a few words, for people."""
        words = (self.method, self.scheme, f"{self.sparsity:g}")
        trains = "train on" if self.is_control else "train"
        what = trains if self.method == NO_METHOD else " ".join(word for word in words if word)
        return f"{self.dataset} {self.model} {what} seed {self.seed}"
