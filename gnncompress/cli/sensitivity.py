"""``gnncompress sensitivity``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnncompress.cli import options
from gnncompress.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress sensitivity --workload cora-node --seeds 3\n\n"
    "  gnncompress sensitivity -w bbbp --target 0.9 --write budgets.json\n\n"
    "  gnncompress prune -w bbbp --allocation budgets.json"
)


def sensitivity(
    sparsity: Annotated[
        str, typer.Option("--sparsity", "-s", help="Levels at which each layer is pruned alone.")
    ] = "0.1:0.9:0.1,0.95,0.99",
    importance: Annotated[
        str | None, typer.Option("--importance", help="magnitude, gradient, taylor or random.")
    ] = None,
    target: Annotated[
        float, typer.Option("--target", help="Sparsity of the whole model for which to recommend budgets.")
    ] = 0.9,
    write: Annotated[
        Path | None, typer.Option("--write", help="File for the budgets, as 'prune --allocation' takes it.")
    ] = None,
    workload: options.Workload = None,
    dataset: options.Dataset = None,
    model: options.Model = None,
    task: options.Task = None,
    split: options.Split = None,
    split_seed: options.SplitSeed = None,
    features: options.Features = None,
    seeds: options.Seeds = 1,
    seed: options.Seed = 0,
    epochs: options.Epochs = None,
    changes: options.Set = None,
    device: options.Device = "auto",
    threads: options.Threads = 1,
    data_root: options.DataRoot = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Prune each layer alone at each level, and recommend how much each may lose.

    Nothing is fine-tuned. Costs are measured on the validation items; the recommended budgets remove the target
    together so that no layer alone costs more loss than another.
    """
    from gnncompress.cli.running import run_all
    from gnncompress.experiments.allocation import write_allocation
    from gnncompress.experiments.changes import parse_changes
    from gnncompress.experiments.levels import parse_levels
    from gnncompress.experiments.resolve import resolve

    if not 0 < target < 1:
        raise UsageError(f"--target {target:g}: must be above 0 and below 1")
    levels = [level for level in parse_levels(sparsity) if level > 0]
    if not levels or max(levels) < target:
        raise UsageError(f"--sparsity {sparsity}: needs levels up to --target {target:g} at least")
    if write is not None and not write.parent.is_dir():
        raise UsageError(f"--write {write}: there is no folder {write.parent}")
    specs = [
        resolve(
            workload=workload,
            dataset=dataset,
            model=model,
            task=task,
            split=split,
            split_seed=split_seed,
            features=features,
            method="sensitivity",
            sparsity=level,
            importance=importance,
            seed=number,
            finetune=False,
            epochs=epochs,
            changes=parse_changes(changes or []),
            device=device,
            threads=threads,
            data_root=data_root,
        )
        for number in range(seed, seed + seeds)
        for level in levels
    ]
    outcome = run_all(specs, output, data_root, quiet, debug)
    if outcome.failed:
        raise typer.Exit(1)
    from gnncompress.reporting.results import read_results
    from gnncompress.reporting.sensitivity import recommend
    from gnncompress.reporting.sensitivity import sensitivity as curves_of

    curves = curves_of(read_results(output, only={spec.run_id for spec in specs}))
    budgets = recommend(curves, target)
    if write is not None:
        write_allocation(write, target, budgets)
    if as_json:
        typer.echo(json.dumps({"curves": curves.to_dict(orient="records"), "layers": budgets, "sparsity": target}))
    else:
        _print(curves, budgets, target)


def _print(curves: pd.DataFrame, budgets: dict[str, float], target: float) -> None:
    from gnncompress.cli.console import output
    from gnncompress.cli.tables import print_table
    from gnncompress.reporting.tables import Column

    wide = curves.pivot_table(index="layer", columns="sparsity", values="score_drop", sort=False)
    weights = curves.drop_duplicates("layer").set_index("layer")["weights"]
    print_table(
        (
            Column("layer", text=True),
            Column("weights", rank=2),
            *(Column(f"{level:g}", rank=1) for level in wide.columns),
            Column(f"for {target:g}"),
        ),
        (
            (layer, f"{weights[layer]:,}", *(f"{100 * drop:.1f}" for drop in wide.loc[layer]), f"{budgets[layer]:.3f}")
            for layer in wide.index
        ),
        "--json",
    )
    output.print("Points of validation score lost by pruning the layer alone, and the sparsity recommended for it.")
