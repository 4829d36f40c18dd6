"""Claims: 200 epochs of SplineCNN on Cora take under 5 s, one epoch of NESS under 20 ms of CPU time on one thread.

Run: GNNCOMPRESS_DATA=... python benchmarks/training_speed.py
The peer is the same model on dense input features, interleaved; medians of CPU time, validation included, and ratio.
"""

from __future__ import annotations

import dataclasses
import statistics
import time

import torch

from gnncompress.experiments.building import load_task, new_model
from gnncompress.experiments.resolve import WorkloadChoices, resolve_workload
from gnncompress.tasks.link_prediction import LinkPrediction
from gnncompress.tasks.node_classification import NodeClassification
from gnncompress.tasks.training import train

REPETITIONS = 3
EPOCHS = 200


def measure(workload: str) -> None:
    """Print both medians and their ratio."""
    resolved = resolve_workload(WorkloadChoices(workload=workload), seed=0)
    recipe = dataclasses.replace(resolved.recipe, epochs=EPOCHS, patience=EPOCHS)
    sparse, dense = load_task(resolved, None), load_task(resolved, None)
    assert isinstance(dense, (NodeClassification, LinkPrediction))
    dense.data.x = dense.data.x.to_dense()
    samples: dict[str, list[float]] = {"sparse features": [], "dense features": []}
    for _ in range(REPETITIONS):
        for name, task in zip(samples, (sparse, dense), strict=True):
            model = new_model(resolved, task)
            started = time.process_time()
            train(model, task, recipe, resolved.seed, "train")
            samples[name].append(time.process_time() - started)
    print(f"{workload}, {resolved.model}")
    for name, times in samples.items():
        median = statistics.median(times)
        print(f"  {name:16s} {median:6.2f} CPU-s for {EPOCHS} epochs, {1000 * median / EPOCHS:5.1f} ms an epoch")
    ours, peer = (statistics.median(times) for times in samples.values())
    print(f"  ratio {ours / peer:.3f}")


def main() -> None:
    """Measure both workloads."""
    torch.set_num_threads(1)
    for workload in ("cora-node", "cora-link"):
        measure(workload)


if __name__ == "__main__":
    main()
