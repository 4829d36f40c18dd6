"""Claim: pruning 10 million weights globally is no slower than torch.nn.utils.prune.global_unstructured.

Run: python benchmarks/prune_speed.py
Both prune equal copies of one model to the same sparsity, one thread, interleaved; CPU seconds, medians, ratio.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

import gnncompress

REPETITIONS = 5
SPARSITIES = (0.1, 0.5, 0.9)


def cpu_seconds(prune: Callable[[nn.Module], object], model: nn.Module) -> float:
    """Return the CPU seconds that ``prune`` takes on a fresh copy of ``model``."""
    own = copy.deepcopy(model)
    started = time.process_time()
    prune(own)
    return time.process_time() - started


def ours(sparsity: float) -> Callable[[nn.Module], object]:
    """Return our global pruning at a sparsity."""
    return lambda model: gnncompress.prune(model, method="global", sparsity=sparsity)


def peer(sparsity: float) -> Callable[[nn.Module], object]:
    """Return torch's global pruning at a sparsity."""
    return lambda model: torch_prune.global_unstructured(
        [(layer, "weight") for layer in model.modules() if isinstance(layer, nn.Linear)],
        pruning_method=torch_prune.L1Unstructured,
        amount=sparsity,
    )


def main() -> None:
    """Print both medians and their ratio at each sparsity."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(10)))
    print(f"{'sparsity':>8} {'ours [s]':>9} {'torch [s]':>9} {'ours/torch':>10}")
    for sparsity in SPARSITIES:
        samples: dict[str, list[float]] = {"ours": [], "torch": []}
        for _ in range(REPETITIONS):
            samples["ours"].append(cpu_seconds(ours(sparsity), model))
            samples["torch"].append(cpu_seconds(peer(sparsity), model))
        mine, theirs = statistics.median(samples["ours"]), statistics.median(samples["torch"])
        print(f"{sparsity:8.1f} {mine:9.3f} {theirs:9.3f} {mine / theirs:10.3f}")


if __name__ == "__main__":
    main()
