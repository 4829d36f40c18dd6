"""Question: how much faster does GIN with half of its parameters pruned by channels infer on a PROTEINS batch?

The aim is 1.5 times.

Run: GNNCOMPRESS_DATA=... python benchmarks/structured_speed.py
The peers are the dense model and the same model with half of its weights at zero; all three see the same batch of the
test graphs, interleaved; medians of CPU time on one thread, and the ratio to the dense model.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch

import gnncompress
from gnncompress.experiments.building import load_task, new_model
from gnncompress.experiments.resolve import WorkloadChoices, resolve_workload

ROUNDS = 300


def main() -> None:
    """Time the three models and print the medians."""
    torch.set_num_threads(1)
    workload = resolve_workload(WorkloadChoices(workload="gin-proteins"), seed=0)
    task = load_task(workload, None)
    dense = new_model(workload, task).eval()
    masked, pruned = copy.deepcopy(dense), copy.deepcopy(dense)
    gnncompress.prune(masked, "global", 0.5)
    gnncompress.make_permanent(masked)
    gnncompress.prune(pruned, "structured", 0.5, forward=task.example)
    models = {"dense": dense, "half of the weights zero": masked, "half of the parameters gone": pruned}
    calls = {name: task.inference(model) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 20):
        for name, call in calls.items():
            spent = timed(call)
            if number >= 20:
                seconds[name].append(spent)
    base = statistics.median(seconds["dense"])
    for name, model in models.items():
        parameters = sum(parameter.numel() for parameter in model.parameters())
        median = statistics.median(seconds[name])
        print(f"{name:28} {parameters:7,} parameters  {1e3 * median:7.3f} ms  {base / median:5.2f} times faster")


def timed(call: Callable[[], object]) -> float:
    """Return the CPU seconds of one call in inference mode."""
    with torch.inference_mode():
        started = time.process_time()
        call()
        return time.process_time() - started


if __name__ == "__main__":
    main()
