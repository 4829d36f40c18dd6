"""What a run would prune or quantize, without training anything."""

from __future__ import annotations

from pathlib import Path

from gnncompress.experiments.building import load_task, new_model
from gnncompress.experiments.stages import Chain
from gnncompress.pruning.plan import Line, channel_plan, weight_plan
from gnncompress.quantization.calibration import calibrate
from gnncompress.quantization.method import Quantization
from gnncompress.quantization.places import Point
from gnncompress.quantization.preparing import is_prepared, points


def quantization_points(chain: Chain, data_root: Path | None) -> tuple[list[Point], list[str]]:
    """Return the places of a run's quantizers, and the layers with parameters that stay in floats.

    Raises:
        QuantizationError: if a layer cannot be quantized.
    """
    task = load_task(chain.workload, data_root)
    model = new_model(chain.workload, task)
    layers = [name for name, module in model.named_modules() if list(module.parameters(recurse=False))]
    for method in chain.methods:
        if isinstance(method, Quantization):
            model = method.prepared(model).eval()
    if is_prepared(model):
        calibrate(model, lambda: task.example(model))
    found = points(model)
    quantized = {point.layer for point in found}
    return found, [layer or "the model itself" for layer in layers if layer not in quantized]


def plan(chain: Chain, data_root: Path | None) -> list[Line]:
    """Return a line for each parameter of the run's model.

    Raises:
        PruningError: if structured pruning finds no channels to remove.
    """
    task = load_task(chain.workload, data_root)
    model = new_model(chain.workload, task)
    if any(method.reshapes for method in chain.methods):
        return channel_plan(model, task.example, task.free_outputs)
    return weight_plan(model)
