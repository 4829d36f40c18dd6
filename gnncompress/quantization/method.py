"""Quantization as a method of an experiment: from a trained model to one whose weights are whole numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gnncompress.compression import CompressionMethod, CompressionResult, option
from gnncompress.errors import ParameterError
from gnncompress.measurements import GRAPHS, MULTILABEL, Measurement
from gnncompress.schemes import (
    AUTO,
    CALIBRATIONS,
    CONFIGS,
    GROUPS,
    SCHEMES,
    Scheme,
    configuration,
    insist_on_options,
    scheme,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gnncompress.tasks.base import Task
    from gnncompress.tasks.recipe import Recipe
    from gnncompress.tasks.trainer import Trainer

# Learning rates of A2Q's parameters as multiples of the model's: the official scripts of Cora (one graph) and of
# REDDIT-BINARY (groups), whose own rate is 0.01.
_ONE_GRAPH = {"bits": 10.0, "step": 4.0, "weights": 2.0, "slices": 0.8}
_GROUPED = {"bits": 0.8, "step": 2.0, "weights": 2.0, "slices": 1.0}
# With groups a trained model is trained on more gently: on PROTEINS (five folds) 0.737 instead of 0.722.
GROUPED_RATE = 0.1


@dataclass(frozen=True)
class Quantization(CompressionMethod):
    """Quantize a trained model: calibrate it, train it on with its quantizers if the scheme does, freeze its weights.

    ``scheme`` and the settings that ``schemes.scheme`` knows say how. fp32 is the control: the same training, nothing
    quantized. The zeros of a model that was pruned before stay zeros. Calibration sees
    all training batches; quantization-aware training then starts from the calibrated model, which takes part in the
    choice of the best epoch, by the same rule as everywhere. ``official_protocol`` chooses the epoch as the published
    scripts do: by validation loss, A2Q's by the accuracy on the test set, so that figures can be compared
    with theirs; such a figure is an optimistic one.

    ``target_bits`` is A2Q's memory target for each value of the features, sign included; ``keep_float`` names layers to
    leave alone.

    Raises:
        UsageError: for a setting that the scheme does not have, or settings that contradict each other.
    """

    name: ClassVar[str] = "quantize"
    summary: ClassVar[str] = "fewer bits: after training, in training, Degree-Quant, A2Q"
    citation: ClassVar[str] = "Tailor et al., Degree-Quant, ICLR 2021; Zhu et al., A2Q, ICLR 2023; arXiv 2510.22058"
    command: ClassVar[str] = "quantize"

    scheme: str = option(
        "dq-int8",
        choices=SCHEMES,
        several=True,
        shown=True,
        help="fp32 (the control), ptq-intN, qat-intN, dq-intN with N from 2 to 8, or a2q; several with commas.",
    )
    calibration: str = option(
        AUTO,
        choices=CALIBRATIONS,
        help="How ranges are made of the training batches: minmax, percentile, mse, observer (by --observer) or auto, "
        "the one with the least error of the model's output.",
    )
    config: str = option(
        "usual", choices=("usual", *CONFIGS), help="ste-abs, ste-mom, ste-per, gc-abs, gc-mom or gc-per."
    )
    granularity: Literal["tensor", "channel"] = option(
        "tensor", help="Weights have one grid per tensor or per channel."
    )
    head_bits: int = option(8, least=2, below=9, help="Least bits of linear layers outside the convolutions.")
    official_protocol: bool = option(False, help="Choose the epoch as the published scripts do; a2q's by the test set.")
    draw: Literal["forward", "layer"] = option(
        "forward", help="dq: masks are drawn for each forward pass or for each layer."
    )
    protect: float = option(0.0, least=0, below=1, help="dq: least probability of leaving a node in floats.")
    protect_more: float = option(0.1, least=0, below=1, help="dq: by how much that of the highest degree is higher.")
    groups: int | None = option(
        None,
        least=0,
        help="a2q: steps and bits that nodes share; 0: each has its own. Default: 1000 for graph tasks, else 0.",
    )
    target_bits: float = option(
        0.0, least=0, below=16, help="a2q: bits that a feature value should cost, sign included."
    )
    observer: Literal["abs", "mom", "per"] | None = option(
        None, help="abs (extremes), mom (their moving average) or per (percentiles); a part of --config."
    )
    gradient: Literal["ste", "gc"] | None = option(
        None, help="ste (straight through) or gc (zero where values are clipped); a part of --config."
    )
    keep_float: tuple[str, ...] = option(
        (), short="float", help="A layer to leave in floats, with what is in it; repeatable."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        insist_on_options(self.scheme, self.changed())
        asked = [None if value in ("usual", AUTO) else value for value in (self.config, self.calibration)]
        config = configuration(self.scheme, asked[0], self.observer, self.gradient, asked[1])
        for name, value in (("config", config or "usual"), ("observer", None), ("gradient", None)):
            object.__setattr__(self, name, value)

    def for_task(self, task: str) -> Quantization:
        """Return A2Q with steps that nodes share where there are many graphs: none of their nodes is in another."""
        if self.scheme != "a2q":
            return self
        if task not in (GRAPHS, MULTILABEL):
            return replace(self, groups=self.groups or None)
        if self.groups == 0:
            raise ParameterError("groups", 0, "the nodes of many graphs cannot have steps of their own; use 1 or more")
        return replace(self, groups=self.groups or GROUPS)

    def finetuning(self, recipe: Recipe) -> Recipe | None:
        """Return that a model is trained on with its quantizers as long as training was; none is after ptq."""
        return None if self.scheme.startswith("ptq") else recipe

    def refusal(self, earlier: Sequence[CompressionMethod]) -> str:
        """Say why codes cannot be made of codes."""
        if any(isinstance(method, Quantization) for method in earlier):
            return "the model is quantized already; leave one of the two out"
        if any(method.reshapes for method in earlier):
            return "quantizers are rebuilt with the shapes of the dense model; prune by global or fine-grained instead"
        return ""

    def check(self, model: nn.Module, task: Task) -> None:
        """Refuse layers that cannot be quantized, and names of layers that do not exist."""
        self.prepared(model)

    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        """Quantize ``model`` in place.

        Raises:
            QuantizationError: as ``prepare`` does, or if an activation is NaN or infinite.
        """
        from gnncompress.masks import effective_weights, hold, make_permanent, sparsity_measurements
        from gnncompress.quantization.accounting import bit_measurements
        from gnncompress.quantization.calibration import calibrate
        from gnncompress.quantization.weights import freeze

        started = time.perf_counter()
        chosen = self.chosen
        if trainer.keep_zeros:
            hold(model, {layer: weight != 0 for layer, weight in effective_weights(model).items()})
        self.prepared(model)
        if chosen.kind != "fp32":
            calibrate(model, lambda: [loss.item() for loss in trainer.losses(model)])
        rows = [Measurement("compress", "duration", time.perf_counter() - started, "s")]
        if chosen.trains or chosen.kind == "fp32":
            groups = parameter_groups if chosen.kind == "a2q" else None
            rows += self._trainer(trainer).finetune(model, groups=groups)
        model.eval()
        rows += [*bit_measurements(model, trainer.task.inference(model)), *sparsity_measurements(model)]
        return CompressionResult(freeze(model) if chosen.kind != "fp32" else make_permanent(model), rows)

    def rebuilt(self, model: nn.Module) -> nn.Module:
        """Give a fresh model the quantizers and frozen weights that it had after ``apply``, still without values."""
        from gnncompress.quantization.weights import freeze

        return freeze(self.prepared(model)) if self.chosen.kind != "fp32" else model

    @property
    def chosen(self) -> Scheme:
        """The scheme with its settings."""
        settings: dict[str, Any] = {
            "granularity": self.granularity,
            "draw": self.draw,
            "protect_more": self.protect_more,
        }
        settings["protect"] = self.protect
        settings["calibration"] = None if self.calibration == AUTO else self.calibration
        settings["head_bits"] = self.head_bits
        settings.update(groups=self.groups or 0, target_bits=self.target_bits)
        return scheme(self.scheme, None if self.config == "usual" else self.config, **settings)

    def prepared(self, model: nn.Module) -> nn.Module:
        """Put the quantizers into ``model``, in place."""
        from gnncompress.quantization.preparing import prepare

        return prepare(model, self.chosen, keep_float=self.keep_float)

    def _trainer(self, trainer: Trainer) -> Trainer:
        recipe = trainer.finetune_recipe
        if recipe is None:
            return trainer
        if self.chosen.kind == "a2q" and self.groups:
            recipe = replace(recipe, learning_rate=GROUPED_RATE * recipe.learning_rate)
        if self.official_protocol:
            recipe = replace(recipe, select="test" if self.chosen.kind == "a2q" else "loss")
        return replace(trainer, finetune_recipe=recipe)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the optimizer's groups for A2Q: its steps and bits have rates of their own and no weight decay."""
    from gnncompress.quantization.learned_quantizer import LearnedQuantizer
    from gnncompress.quantization.preparing import quantizers

    found: dict[str, list[Tensor]] = {"bits": [], "step": [], "weights": [], "slices": []}
    rates: Mapping[str, float] = _ONE_GRAPH
    for _, quantizer in quantizers(model):
        if not isinstance(quantizer, LearnedQuantizer):
            continue
        if quantizer.by == "group":
            rates = _GROUPED
        if quantizer.learns_bits:
            found["bits"].append(quantizer.bits)
            found["step"].append(quantizer.step)
        else:
            found["weights" if quantizer.feedback == "global" else "slices"].append(quantizer.step)
    own = {id(parameter) for group in found.values() for parameter in group}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in own]
    return [
        {"params": rest},
        *(
            {"params": group, "lr": rates[name] * recipe.learning_rate, "weight_decay": 0.0}
            for name, group in found.items()
            if group
        ),
    ]
