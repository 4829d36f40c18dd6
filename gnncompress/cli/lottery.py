"""``gnncompress lottery``."""

from __future__ import annotations

import json
import math
from pathlib import Path
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
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How many rounds of pruning.")] = 5,
    rate: Annotated[float, typer.Option("--rate", help="Fraction of the remaining weights that a round takes.")] = 0.2,
    rewind: Annotated[
        int,
        typer.Option("--rewind", min=0, help="Return to the weights after so many epochs; 0: to the initial ones."),
    ] = 0,
    prune_edges: Annotated[
        float,
        typer.Option(
            "--prune-edges", help="Also learn which edges go, this fraction of the remaining ones a round (node tasks)."
        ),
    ] = 0.0,
    margin: Annotated[
        float, typer.Option("--margin", min=0, help="How far below the dense model a winning ticket may be.")
    ] = 0.01,
    workload: options.Workload = None,
    dataset: options.Dataset = None,
    model: options.Model = None,
    task: options.Task = None,
    split: options.Split = None,
    split_seed: options.SplitSeed = None,
    features: options.Features = None,
    seeds: options.Seeds = 5,
    seed: options.Seed = 0,
    epochs: options.Epochs = None,
    changes: options.Set = None,
    device: options.Device = "auto",
    threads: options.Threads = 1,
    energy: options.Energy = "auto",
    energy_seconds: options.EnergySeconds = None,
    quick: options.Quick = False,
    country: options.Country = "",
    batch_size: options.BatchSize = 0,
    data_root: options.DataRoot = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Look for lottery tickets: prune in rounds, rewind, retrain, and compare with three controls over seeds.

    The verdict on a sparsity is yes, no or undecided, with its p-value: is the ticket as good as the dense model, and
    better than the same ticket re-initialized and than a random mask?
    """
    from gnncompress.cli.running import run_all
    from gnncompress.experiments.changes import parse_changes
    from gnncompress.experiments.lottery import lottery_specs

    specs = lottery_specs(
        rounds,
        range(seed, seed + seeds),
        rate,
        rewind,
        prune_edges,
        workload=workload,
        dataset=dataset,
        model=model,
        task=task,
        split=split,
        split_seed=split_seed,
        features=features,
        epochs=epochs,
        changes=parse_changes(changes or []),
        device=device,
        threads=threads,
        energy=energy,
        energy_seconds=options.energy_seconds(energy_seconds, quick),
        country=country,
        inference_batch=batch_size,
        data_root=data_root,
    )
    outcome = run_all(specs, output, data_root, quiet, debug)
    if outcome.failed:
        raise typer.Exit(1)
    from gnncompress.reporting.lottery import lottery_scores, verdicts
    from gnncompress.reporting.results import read_results

    rows = read_results(output, only={spec.run_id for spec in specs})
    table = verdicts(lottery_scores(rows), margin)
    if as_json:
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
