"""The measured phase of a run, as a function that a process of its own can call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from gnncompress.checkpoints import load_checkpoint
from gnncompress.experiments.building import load_model, load_task
from gnncompress.experiments.spec import RunSpec
from gnncompress.measurements import Measurement
from gnncompress.profiling.energy import METERS
from gnncompress.profiling.inference import profile_inference


def measure_inference(spec: RunSpec, checkpoint: Path, data_root: Path | None) -> list[Measurement]:
    """Load the run's data and packed model and measure its forward pass, in inference mode."""
    torch.set_num_threads(spec.threads)
    items = 0

    def prepare() -> Callable[[], object]:
        nonlocal items
        task = load_task(spec, data_root)
        items = task.items
        forward = task.inference(load_model(spec, task, load_checkpoint(checkpoint)))

        def call() -> None:
            with torch.inference_mode():
                forward()
            if spec.device == "cuda":
                torch.cuda.synchronize()

        return call

    return profile_inference(prepare, lambda: items, spec.window, METERS[spec.energy]())
