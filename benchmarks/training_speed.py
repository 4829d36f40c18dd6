"""Claim: 200 epochs of SplineCNN on Cora take under 5 s of CPU time on one thread, validation included.

Run: GNNCOMPRESS_DATA=... python benchmarks/training_speed.py
The peer is the same model on dense input features, interleaved; medians of CPU time and ratio.
"""

from __future__ import annotations

import dataclasses
import statistics
import time

import torch

from gnncompress.experiments.building import load_task, new_model
from gnncompress.experiments.resolve import resolve
from gnncompress.tasks.training import train

REPETITIONS = 3


def main() -> None:
    """Print both medians and their ratio."""
    torch.set_num_threads(1)
    spec = resolve("cora", "spline")
    recipe = dataclasses.replace(spec.recipe, patience=spec.recipe.epochs)
    sparse, dense = load_task(spec, None), load_task(spec, None)
    dense.data.x = dense.data.x.to_dense()
    samples: dict[str, list[float]] = {"sparse features": [], "dense features": []}
    for _ in range(REPETITIONS):
        for name, task in zip(samples, (sparse, dense), strict=True):
            model = new_model(spec)
            started = time.process_time()
            train(model, task, recipe, spec.seed, "train")
            samples[name].append(time.process_time() - started)
    for name, times in samples.items():
        print(f"{name:16s} {statistics.median(times):6.2f} CPU-s for {recipe.epochs} epochs")
    ours, peer = (statistics.median(times) for times in samples.values())
    print(f"ratio {ours / peer:.3f}")


if __name__ == "__main__":
    main()
