"""``gnncompress sensitivity``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnncompress.cli import options
from gnncompress.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress sensitivity --workload cora-node --seeds 3\n\n"
    "  gnncompress sensitivity -w bbbp --target 0.9 --write budgets.json\n\n"
    "  gnncompress prune -w bbbp --allocation budgets.json"
)


def _options() -> type:
    from gnncompress.cli.method_options import method_options

    return method_options("sensitivity")


SensitivityOptions = Annotated[Any, options.Made(_options)]
_LEVELS = "0.1:0.9:0.1,0.95,0.99"


def sensitivity(
    what: options.What,
    how: SensitivityOptions,
    training: options.Training,
    output: options.Output,
    target: Annotated[
        float,
        typer.Option(
            "--target", rich_help_panel=options.HOW, help="Sparsity of the whole model for which to recommend budgets."
        ),
    ] = 0.9,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", rich_help_panel=options.OUTPUT, help="File for the budgets, as 'prune --allocation' takes it."
        ),
    ] = None,
) -> None:
    """Prune each layer alone at each level, and recommend how much each may lose.

    Levels are 0.1 to 0.9, 0.95 and 0.99 unless others are given. Nothing is fine-tuned. Costs are measured on the
    validation items; the recommended budgets remove the target together so that no layer alone costs more loss than
    another.
    """
    from gnncompress.cli.method_options import given_options, one_for_each
    from gnncompress.cli.running import run_all
    from gnncompress.experiments.allocation import write_allocation
    from gnncompress.experiments.levels import parse_levels
    from gnncompress.experiments.resolve import MeasureChoices, resolve

    if not 0 < target < 1:
        raise ParameterError("target", f"{target:g}", "must be above 0 and below 1")
    given = given_options(how)
    sparsity = given.get("sparsity", _LEVELS)
    levels = [level for level in parse_levels(sparsity) if level > 0]
    if not levels or max(levels) < target:
        raise ParameterError("sparsity", sparsity, f"needs levels up to --target {target:g} at least")
    if write is not None and not write.parent.is_dir():
        raise ParameterError("write", write, f"there is no folder {write.parent}")
    choices, measure = options.workload_choices(what, training), MeasureChoices(energy="none")
    chains = [
        resolve(choices, seed, [method], measuring=measure)
        for seed in what.numbers
        for method in one_for_each("sensitivity", {**given, "sparsity": ",".join(map(str, levels))})
    ]
    outcome = run_all(chains, what.data_root, output)
    if outcome.failed:
        raise typer.Exit(1)
    from gnncompress.reporting.results import read_results
    from gnncompress.reporting.sensitivity import recommend
    from gnncompress.reporting.sensitivity import sensitivity as curves_of

    curves = curves_of(read_results(output.output, only={chain.id for chain in chains}))
    budgets = recommend(curves, target)
    if write is not None:
        write_allocation(write, target, budgets)
    if output.as_json:
        typer.echo(json.dumps({"curves": curves.to_dict(orient="records"), "layers": budgets, "sparsity": target}))
    else:
        _print(curves, budgets, target)


def _print(curves: pd.DataFrame, budgets: dict[str, float], target: float) -> None:
    from gnncompress.cli import console
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
    console.output.print(
        "Points of validation score lost by pruning a layer alone, and the sparsity recommended for it."
    )
