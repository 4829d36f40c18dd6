"""The lottery-ticket experiment as a list of runs."""

from __future__ import annotations

from typing import Any

from gnncompress.errors import UsageError
from gnncompress.experiments.methods import RATE
from gnncompress.experiments.resolve import resolve
from gnncompress.experiments.spec import RunSpec
from gnncompress.measurements import NODES
from gnncompress.schedules import after_rounds

ARMS = ("ticket", "reinit", "random")


def lottery_specs(
    rounds: int, seeds: range, rate: float = RATE, rewind: int = 0, edges: float = 0.0, **choices: Any
) -> list[RunSpec]:
    """Return the runs of the dense model and of ``rounds`` rounds of every arm, for each seed.

    Raises:
        UsageError: if a rate or the rewinding epoch is out of range, or edges cannot be pruned in the task.
    """
    if not 0 < rate < 1:
        raise UsageError(f"--rate {rate:g}: must be above 0 and below 1")
    if not 0 <= edges < 1:
        raise UsageError(f"--prune-edges {edges:g}: must be at least 0 and below 1")
    specs = []
    for seed in seeds:
        dense = resolve(seed=seed, **choices)
        if not 0 <= rewind < dense.recipe.epochs:
            raise UsageError(f"--rewind {rewind}: training has {dense.recipe.epochs} epochs; choose an earlier one")
        if edges and dense.task != NODES:
            raise UsageError(f"--prune-edges: {dense.task} has no one graph; use a node-classification workload")
        specs.append(dense)
        settings = {"rate": rate, "rewind": rewind, "edges": edges, "finetune": False, **choices}
        for number in range(1, rounds + 1):
            level = after_rounds(number, rate)
            specs += [
                resolve(method="lottery", sparsity=level, seed=seed, arm=arm, round=number, **settings) for arm in ARMS
            ]
    return specs
