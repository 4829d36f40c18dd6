"""What a run would prune, without training anything."""

from __future__ import annotations

from pathlib import Path

from gnncompress.experiments.building import load_task, new_model
from gnncompress.experiments.methods import METHODS
from gnncompress.experiments.spec import NO_METHOD, RunSpec
from gnncompress.pruning.plan import Line, channel_plan, weight_plan


def plan(spec: RunSpec, data_root: Path | None) -> list[Line]:
    """Return a line for each parameter of the run's model.

    Raises:
        PruningError: if structured pruning finds no channels to remove.
    """
    task = load_task(spec, data_root)
    model = new_model(spec, task)
    if spec.method != NO_METHOD and METHODS[spec.method].reshapes:
        return channel_plan(model, task.example, task.free_outputs)
    return weight_plan(model)
