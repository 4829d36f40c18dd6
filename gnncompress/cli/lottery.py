"""``gnncompress lottery``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated

import typer

from gnncompress.cli import options

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress lottery --workload cora-node --rounds 10 --seeds 5\n\n"
    "  gnncompress lottery --workload gin-proteins --rounds 6 --rewind 5 --seeds 5\n\n"
    "  gnncompress lottery -d cora -m gcn --prune-edges 0.05 --rounds 10 --seeds 5"
)


def lottery(
    *,
    what: options.FiveSeeds,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, rich_help_panel=options.HOW, help="How many rounds of pruning.")
    ] = 5,
    rate: Annotated[
        float,
        typer.Option(
            "--rate", rich_help_panel=options.HOW, help="Fraction of the remaining weights that a round takes."
        ),
    ] = 0.2,
    rewind: Annotated[
        int,
        typer.Option(
            "--rewind",
            min=0,
            rich_help_panel=options.HOW,
            help="Return to the weights after so many epochs; 0: to the initial ones.",
        ),
    ] = 0,
    prune_edges: Annotated[
        float,
        typer.Option(
            "--prune-edges",
            rich_help_panel=options.HOW,
            help="Also learn which edges go, this fraction of the remaining ones a round (node tasks).",
        ),
    ] = 0.0,
    margin: Annotated[
        float,
        typer.Option(
            "--margin",
            min=0,
            rich_help_panel=options.HOW,
            help="How far below dense models a winning ticket may be.",
        ),
    ] = 0.01,
    training: options.Training,
    measuring: options.Measuring,
    output: options.Output,
) -> None:
    """Look for lottery tickets: prune in rounds, rewind, retrain, and compare with three controls over seeds.

    The verdict on a sparsity is yes, no or undecided, with its p-value: is the ticket as good as the dense model, and
    better than the same ticket re-initialized and than a random mask?
    """
    from gnncompress.cli.running import again, run_all
    from gnncompress.experiments.lottery import lottery_chains
    from gnncompress.pruning.lottery import LotteryTicket

    first = LotteryTicket(round=1, rate=rate, rewind=rewind, edges=prune_edges)
    choices = options.workload_choices(what, training)
    chains = lottery_chains(rounds, what.numbers, first, choices, measuring.choices())
    outcome = run_all(again(chains, output.output) if measuring.remeasure else chains, what.data_root, output)
    if outcome.failed:
        raise typer.Exit(1)
    from gnncompress.reporting.lottery import lottery_scores, verdicts
    from gnncompress.reporting.results import read_results

    rows = read_results(output.output, only={chain.id for chain in chains})
    table = verdicts(lottery_scores(rows), margin)
    if output.as_json:
        typer.echo(json.dumps({"rounds": table.astype(object).where(table.notna(), None).to_dict(orient="records")}))
    else:
        _print(table, rows)


def _print(table: pd.DataFrame, rows: pd.DataFrame) -> None:
    from gnncompress.cli.tables import print_table
    from gnncompress.reporting.tables import Column

    arms = ("dense", "ticket", "reinit", "random")
    edges = rows[rows["metric"].isin(["edge_sparsity", "macs_saved"]) & rows["setting"].str.contains('"edges"')]
    extra = edges.pivot_table(index="sparsity", columns="metric", values="value")
    print_table(
        (
            Column("round"),
            Column("sparsity", rank=1),
            *(Column(arm, rank=rank) for arm, rank in zip(arms, (2, 0, 4, 5), strict=True)),
            Column("p", rank=3),
            Column("winning", text=True),
            Column("because", text=True, rank=1),
            *(Column(str(name), rank=6) for name in extra.columns),
        ),
        (
            (
                str(line["round"]),
                f"{line['sparsity']:.3f}",
                *(_spread(line[f"{arm}_mean"], line[f"{arm}_std"]) for arm in arms),
                f"{line['p']:.3f}",
                line["verdict"],
                line["because"],
                *(f"{extra.loc[line['sparsity'], column]:.3f}" for column in extra.columns),
            )
            for line in table.to_dict(orient="records")
        ),
        "--json",
    )


def _spread(mean: float, std: float) -> str:
    """Return mean and standard deviation, or the mean alone where there is one seed."""
    return f"{mean:.3f}" if math.isnan(std) else f"{mean:.3f} ± {std:.3f}"
