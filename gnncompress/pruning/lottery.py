"""Lottery tickets: iterative magnitude pruning with rewinding, and the controls that a ticket must beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from torch import Tensor, nn

from gnncompress.errors import UsageError
from gnncompress.global_state import random_state_kept
from gnncompress.masks import effective_weights, hold, insist_on_masks, make_permanent, sparsity_measurements
from gnncompress.measurements import Compressed, Measurement
from gnncompress.profiling.macs import count_macs
from gnncompress.pruning.edges import drop_edges, kept_edges, random_like
from gnncompress.pruning.graph_lottery import learned_masks
from gnncompress.pruning.magnitude import GlobalPruning
from gnncompress.schedules import after_rounds
from gnncompress.tasks.trainer import Trainer

# Added to a seed for the control's new initialization: far from any seed a user would run.
OTHER_INITIALIZATION = 1_000_003


@dataclass(frozen=True)
class LotteryTicket:
    """One round of one arm of the lottery-ticket experiment; the model it starts from depends on the arm.

    ticket: from the trained ticket of the round before (the dense model in round 1) the weights of smallest |w| go, so
    that 1 - (1 - rate)^round of all are gone; the rest return to their initial values, or to those after ``rewind``
    epochs, and are trained by the base recipe. reinit: the ticket's masks of the same round, another initialization.
    random: as many weights a layer as the ticket's, drawn at random, with the ticket's initialization. All train in
    the same order of the data, drawn anew, with a new optimizer, for the epochs that are left. With ``edges`` above 0
    masks on weights and edges are learnt first and decide instead, see ``learned_masks``; ``edges`` is the fraction of
    the remaining edges that each round removes.

    Raises:
        UsageError: if the rates are not in (0, 1), the round is below 1 or rewinding goes past the training.

    Source: Frankle and Carbin, ICLR 2019, strategy 2 of section 2 and section 3 (controls); Frankle et al., ICML 2020
    (rewinding to an early epoch); Chen et al., A Unified Lottery Ticket Hypothesis for GNNs, ICML 2021 (edges).
    """

    sparsity: float
    round: int
    arm: Literal["ticket", "reinit", "random"] = "ticket"
    rate: float = 0.2
    rewind: int = 0
    edges: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1 or not 0 <= self.edges < 1:
            raise UsageError(f"rate {self.rate} and edges {self.edges}: a rate is above 0 (edges: at least 0), below 1")
        if self.round < 1 or self.rewind < 0:
            raise UsageError(f"round {self.round} and rewind {self.rewind}: at least 1 and 0")

    def apply(self, model: nn.Module, trainer: Trainer) -> Compressed:
        """Train this round's network; ``model`` is the ticket that its masks come from."""
        if self.rewind >= trainer.recipe.epochs:
            raise UsageError(f"--rewind {self.rewind}: past the end of the training's {trainer.recipe.epochs} epochs")
        masks, keep = self._masks(model, trainer)
        network = self._initial(trainer)
        dense_macs = count_macs(trainer.task.inference(network.eval()))
        hold(network, masks)
        if keep is not None:
            drop_edges(network, keep)
        rows = trainer.train(network, start=self.rewind)
        insist_on_masks(make_permanent(network), masks)
        macs = count_macs(trainer.task.inference(network))
        rows += [
            Measurement("compress", "macs", macs, "MACs", "computed"),
            Measurement("compress", "macs_saved", 1 - macs / max(dense_macs, 1), "fraction", "computed"),
        ]
        if keep is not None:
            gone = 1 - float(keep.float().mean())
            rows.append(Measurement("compress", "edge_sparsity", gone, "fraction", "computed"))
        return Compressed(network, [*rows, *sparsity_measurements(network)])

    def _masks(self, model: nn.Module, trainer: Trainer) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return which weights, and which edges if edges are pruned, this round's network keeps."""
        if self.arm == "ticket" and not self.edges:
            return GlobalPruning(self.sparsity).masks(model), None
        masks, keep = {layer: weight != 0 for layer, weight in effective_weights(model).items()}, kept_edges(model)
        if self.arm == "ticket":
            return learned_masks(self._initial(trainer), masks, keep, self.sparsity, self.edges, trainer)
        if self.arm == "random":
            generator = torch.Generator().manual_seed(1000 * trainer.seed + self.round)
            masks = {layer: random_like(mask, generator) for layer, mask in masks.items()}
            keep = None if keep is None else random_like(keep, generator)
        return masks, keep

    def _initial(self, trainer: Trainer) -> nn.Module:
        """Return the network at its initialization, or after the first ``rewind`` epochs of dense training."""
        network = trainer.fresh(trainer.seed + (OTHER_INITIALIZATION if self.arm == "reinit" else 0))
        if self.rewind:
            trainer.train(network, epochs=self.rewind, select="last")
        return network


@random_state_kept()
def lottery(
    build: Callable[[int], nn.Module],
    train: Callable[[nn.Module, int], object],
    score: Callable[[nn.Module], float],
    rounds: int = 5,
    rate: float = 0.2,
    seeds: Iterable[int] = range(5),
) -> pd.DataFrame:
    """Run the lottery-ticket experiment on models in memory, and return every score: what ``verdicts`` judges.

    ``build(seed)`` returns a fresh model, ``train(model, seed)`` trains it in place with whatever loop, its masks hold;
    ``score(model)`` is higher the better. Tickets are rewound to their initialization. Columns: arm, round, sparsity,
    seed, value; the dense models are round 0.
    """
    lines: list[dict[str, object]] = []

    def run(arm: str, number: int, seed: int, masks: Mapping[str, Tensor]) -> nn.Module:
        network = build(seed + (OTHER_INITIALIZATION if arm == "reinit" else 0))
        hold(network, masks)
        train(network, seed)
        insist_on_masks(make_permanent(network), masks)
        level = after_rounds(number, rate)
        lines.append({"arm": arm, "round": number, "sparsity": level, "seed": seed, "value": score(network)})
        return network

    for seed in seeds:
        ticket = run("dense", 0, seed, {})
        for number in range(1, rounds + 1):
            masks = GlobalPruning(after_rounds(number, rate)).masks(ticket)
            generator = torch.Generator().manual_seed(1000 * seed + number)
            run("random", number, seed, {layer: random_like(mask, generator) for layer, mask in masks.items()})
            run("reinit", number, seed, masks)
            ticket = run("ticket", number, seed, masks)
    return pd.DataFrame(lines)
