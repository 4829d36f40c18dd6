"""Lottery tickets: iterative magnitude pruning with rewinding, and the controls that a ticket must beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from gnncompress.compression import CompressionMethod, CompressionResult, Start, option
from gnncompress.errors import ParameterError
from gnncompress.measurements import NODES, Measurement
from gnncompress.pruning.magnitude import GlobalPruning
from gnncompress.schedules import after_rounds

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from gnncompress.tasks.base import Task
    from gnncompress.tasks.recipe import Recipe
    from gnncompress.tasks.trainer import Trainer

# Added to a seed for the control's new initialization: far from any seed a user would run.
OTHER_INITIALIZATION = 1_000_003


@dataclass(frozen=True)
class LotteryTicket(CompressionMethod):
    """One round of one arm of the lottery-ticket experiment; the model it starts from depends on the arm.

    ticket: from the trained ticket of the round before (the dense model in round 1) the weights of smallest |w| go, so
    that 1 - (1 - rate)^round of all are gone; the rest return to their initial values, or to those after ``rewind``
    epochs, and are trained by the base recipe. reinit: the ticket's masks of the same round, another initialization.
    random: as many weights a layer as the ticket's, drawn at random, with the ticket's initialization. All train in
    the same order of the data, drawn anew, with a new optimizer, for the epochs that are left. With ``edges`` above 0
    masks on weights and edges are learnt first and decide instead, see ``learned_masks``; ``edges`` is the fraction of
    the remaining edges that each round removes.

    Raises:
        ParameterError: if the rates are not in (0, 1), the round is below 1 or rewinding goes past the training.

    Source: Frankle and Carbin, ICLR 2019, strategy 2 of section 2 and section 3 (controls); Frankle et al., ICML 2020
    (rewinding to an early epoch); Chen et al., A Unified Lottery Ticket Hypothesis for GNNs, ICML 2021 (edges).
    """

    name: ClassVar[str] = "lottery"
    summary: ClassVar[str] = "a round of a lottery ticket or of its controls; 'gnncompress lottery' runs them all"
    citation: ClassVar[str] = "Frankle and Carbin, ICLR 2019; with --prune-edges Chen et al., ICML 2021"
    command: ClassVar[str] = "lottery"

    round: int = option(least=1, help="The round, from 1 on.")
    arm: Literal["ticket", "reinit", "random"] = option("ticket", help="The ticket, or a control.")
    rate: float = option(0.2, least=0, below=1, help="Fraction of the remaining weights that a round takes.")
    rewind: int = option(0, least=0, help="Return to the weights after so many epochs; 0: to the initial ones.")
    edges: float = option(
        0.0,
        least=0,
        below=1,
        flag="--prune-edges",
        help="Also learn which edges go, this fraction of the remaining ones a round (node tasks).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate == 0:
            raise ParameterError("rate", 0, "must be above 0 and below 1")

    @property
    def sparsity(self) -> float:
        """The fraction of zeros after the round."""
        return after_rounds(self.round, self.rate)

    def starts_from(self) -> Start | CompressionMethod:
        """Return the ticket of the same round for a control, that of the round before for a ticket."""
        if self.arm != "ticket":
            return replace(self, arm="ticket")
        return replace(self, round=self.round - 1) if self.round > 1 else "trained"

    def finetuning(self, recipe: Recipe) -> Recipe | None:
        """Return that tickets are trained, not trained on."""
        return None

    def refusal(self, earlier: Sequence[CompressionMethod]) -> str:
        """Say why a ticket cannot be drawn of what is compressed already."""
        others = any(not isinstance(method, LotteryTicket) for method in earlier)
        return "a ticket is drawn of a trained, dense model; make it the first" if others else ""

    def check(self, model: nn.Module, task: Task) -> None:
        """Refuse a model with weights that cannot be pruned, and edges of a task that has many graphs."""
        from gnncompress.pruning.obstacles import insist_on_prunable

        if self.edges and task.name != NODES:
            raise ParameterError(
                "edges", f"{self.edges:g}", f"{task.name} has no one graph; use a node-classification workload"
            )
        if self.edges and "train" in getattr(task, "own", {}):
            raise ParameterError(
                "edges", f"{self.edges:g}", "masks of edges are learnt by the package's own training loop"
            )
        insist_on_prunable(model)

    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        """Train this round's network; ``model`` is the ticket that its masks come from."""
        from gnncompress.masks import hold, insist_on_masks, make_permanent, sparsity_measurements
        from gnncompress.profiling.macs import count_macs
        from gnncompress.pruning.edges import drop_edges

        if self.rewind >= trainer.recipe.epochs:
            raise ParameterError(
                "rewind", self.rewind, f"past the end of the training's {trainer.recipe.epochs} epochs"
            )
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
        return CompressionResult(network, [*rows, *sparsity_measurements(network)])

    def _masks(self, model: nn.Module, trainer: Trainer) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return which weights, and which edges if edges are pruned, this round's network keeps."""
        import torch

        from gnncompress.masks import effective_weights
        from gnncompress.pruning.edges import kept_edges, random_like
        from gnncompress.pruning.graph_lottery import learned_masks

        if self.arm == "ticket" and not self.edges:
            return GlobalPruning(sparsity=self.sparsity).masks(model), None
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
    from gnncompress.global_state import random_state_kept

    with random_state_kept():
        return _experiment(build, train, score, rounds, rate, seeds)


def _experiment(
    build: Callable[[int], nn.Module],
    train: Callable[[nn.Module, int], object],
    score: Callable[[nn.Module], float],
    rounds: int,
    rate: float,
    seeds: Iterable[int],
) -> pd.DataFrame:
    import pandas as pd
    import torch

    from gnncompress.masks import hold, insist_on_masks, make_permanent
    from gnncompress.pruning.edges import random_like

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
            masks = GlobalPruning(sparsity=after_rounds(number, rate)).masks(ticket)
            generator = torch.Generator().manual_seed(1000 * seed + number)
            run("random", number, seed, {layer: random_like(mask, generator) for layer, mask in masks.items()})
            run("reinit", number, seed, masks)
            ticket = run("ticket", number, seed, masks)
    return pd.DataFrame(lines)
