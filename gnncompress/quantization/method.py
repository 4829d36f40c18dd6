"""Quantization as a method of an experiment: from a trained model to one whose weights are whole numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from gnncompress.masks import effective_weights, hold, make_permanent, sparsity_measurements
from gnncompress.measurements import Compressed, Measurement
from gnncompress.quantization.accounting import bit_measurements
from gnncompress.quantization.calibration import calibrate
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.prepare import prepare, quantizers
from gnncompress.quantization.weights import freeze
from gnncompress.schemes import AUTO, SIMULATED, Scheme, scheme
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.trainer import Trainer

# Learning rates of A2Q's parameters as multiples of the model's: the official scripts of Cora (one graph) and of
# REDDIT-BINARY (groups), whose own rate is 0.01.
_ONE_GRAPH = {"bits": 10.0, "step": 4.0, "weights": 2.0, "slices": 0.8}
_GROUPED = {"bits": 0.8, "step": 2.0, "weights": 2.0, "slices": 1.0}
# With groups a trained model is trained on more gently: on PROTEINS (five folds) 0.737 instead of 0.722.
GROUPED_RATE = 0.1


@dataclass(frozen=True)
class Quantization:
    """Quantize a trained model: calibrate it, train it on with its quantizers if the scheme does, freeze its weights.

    ``scheme`` and the settings that ``schemes.scheme`` knows say how. fp32 is the control: the same training, nothing
    quantized. With a ``sparsity`` the model given is a pruned one, whose zeros stay zeros. Calibration sees
    all training batches; quantization-aware training then starts from the calibrated model, which takes part in the
    choice of the best epoch, by the same rule as everywhere. ``protocol`` official-protocol chooses the epoch as the
    published scripts do: by validation loss, A2Q's by the accuracy on the test set, so that figures can be compared
    with theirs; such a figure is an optimistic one.

    ``execute`` is what computes for the model when it is done, and nothing that ``apply`` has to do with.

    ``target_bits`` is A2Q's memory target for each value of the features, sign included; ``keep_float`` names layers to
    leave alone, separated by commas.
    """

    sparsity: float
    scheme: str
    calibration: str = AUTO
    config: str = "usual"
    weights: str = "tensor"
    head_bits: int = 8
    protocol: str = "validated"
    draw: str = "forward"
    protect: float = 0.0
    protect_more: float = 0.1
    groups: int = 0
    target_bits: float = 0.0
    keep_float: str = ""
    execute: str = SIMULATED

    def apply(self, model: nn.Module, trainer: Trainer) -> Compressed:
        """Quantize ``model`` in place.

        Raises:
            QuantizationError: as ``prepare`` does, or if an activation is NaN or infinite.
        """
        started = time.perf_counter()
        chosen = self.chosen
        if self.sparsity > 0:
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
        return Compressed(freeze(model) if chosen.kind != "fp32" else make_permanent(model), rows)

    def rebuilt(self, model: nn.Module) -> nn.Module:
        """Give a fresh model the quantizers and frozen weights that it had after ``apply``, still without values."""
        return freeze(self.prepared(model)) if self.chosen.kind != "fp32" else model

    @property
    def chosen(self) -> Scheme:
        """The scheme with its settings."""
        settings: dict[str, Any] = {"weights": self.weights, "draw": self.draw, "protect_more": self.protect_more}
        settings["protect"] = self.protect
        settings["calibration"] = None if self.calibration == AUTO else self.calibration
        settings["head_bits"] = self.head_bits
        settings.update(groups=self.groups, target_bits=self.target_bits)
        return scheme(self.scheme, None if self.config == "usual" else self.config, **settings)

    def prepared(self, model: nn.Module) -> nn.Module:
        """Put the quantizers into ``model``, in place."""
        return prepare(model, self.chosen, keep_float=[name for name in self.keep_float.split(",") if name])

    def _trainer(self, trainer: Trainer) -> Trainer:
        recipe = trainer.finetune_recipe
        if recipe is None:
            return trainer
        if self.chosen.kind == "a2q" and self.groups:
            recipe = replace(recipe, learning_rate=GROUPED_RATE * recipe.learning_rate)
        if self.protocol == "official-protocol":
            recipe = replace(recipe, select="test" if self.chosen.kind == "a2q" else "loss")
        return replace(trainer, finetune_recipe=recipe)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return the optimizer's groups for A2Q: its steps and bits have rates of their own and no weight decay."""
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
