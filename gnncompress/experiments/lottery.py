"""The lottery-ticket experiment as a list of runs."""

from __future__ import annotations

from typing import get_args

from gnncompress.compression import types_of
from gnncompress.errors import ParameterError
from gnncompress.experiments.resolve import FinetuneChoices, MeasureChoices, WorkloadChoices, resolve
from gnncompress.experiments.stages import Chain
from gnncompress.measurements import NODES
from gnncompress.pruning.lottery import LotteryTicket

ARMS = get_args(types_of(LotteryTicket)["arm"])


def lottery_chains(
    rounds: int, seeds: range, first: LotteryTicket, choices: WorkloadChoices, measuring: MeasureChoices
) -> list[Chain]:
    """Return the runs of the dense model and of ``rounds`` rounds of every arm, for each seed.

    ``first`` is a ticket of the first round, whose rates all have.

    Raises:
        UsageError: if rewinding goes past the training, or edges cannot be pruned in the task.
    """
    chains = []
    for seed in seeds:
        dense = resolve(choices, seed, measuring=measuring)
        if first.rewind >= dense.workload.recipe.epochs:
            epochs = dense.workload.recipe.epochs
            raise ParameterError("rewind", first.rewind, f"training has {epochs} epochs; choose an earlier one")
        if first.edges and dense.workload.task != NODES:
            raise ParameterError(
                "edges", "", f"{dense.workload.task} has no one graph; use a node-classification workload"
            )
        chains.append(dense)
        for number in range(1, rounds + 1):
            for arm in ARMS:
                ticket = LotteryTicket.of({**first.changed(), "round": number, "arm": arm})
                chains.append(resolve(choices, seed, [ticket], FinetuneChoices(finetune=False), measuring))
    return chains
