"""``gnncompress prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gnncompress.cli import options
from gnncompress.errors import UsageError

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress prune --method global --sparsity 0.5\n\n"
    "  gnncompress prune --workload proteins --method global --sparsity 0.5 --seed 777\n\n"
    "  gnncompress prune -d cora -m spline --method fine-grained --sparsity 0:0.9:0.1 --seeds 5 --no-finetune\n\n"
    "  gnncompress prune --workload gin-proteins --method structured --sparsity 0.5\n\n"
    "  gnncompress prune --workload cora-node --method l2 --rate paper --seeds 5"
)


def prune(
    method: Annotated[
        str | None,
        typer.Option(
            "--method", help="How to prune; see 'gnncompress methods'. Default: global, or as --allocation has it."
        ),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(
            "--sparsity",
            "-s",
            help="Fraction of zeros: 0.5, 0.1,0.5,0.9 or 0:0.9:0.1; 0 is the base model. For structured: fraction of "
            "parameters removed. Default: 0.5; the allocation file's; 0 for l2.",
        ),
    ] = None,
    allocation: Annotated[
        str | None,
        typer.Option("--allocation", help="Who loses how much: uniform, global, erk, lamp-score or a file of budgets."),
    ] = None,
    importance: Annotated[
        str | None,
        typer.Option(
            "--importance", help="magnitude, gradient, taylor or random; for structured l1, l2, taylor or random."
        ),
    ] = None,
    min_keep: Annotated[
        float | None, typer.Option("--min-keep", help="Fraction of its weights that every layer keeps at least.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Prune and fine-tune in so many steps, sparsity rising by a cubic."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", help="L2 rates: 1e-3, 0,1e-4,0.1, 0.1:0.9:0.1, or paper for its 19."),
    ] = None,
    finetune: Annotated[bool, typer.Option("--finetune/--no-finetune", help="Train on under the masks.")] = True,
    finetune_epochs: Annotated[
        int | None,
        typer.Option(
            "--finetune-epochs",
            min=1,
            help="Most epochs of fine-tuning. Default: half as many as training has; for structured as many.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be pruned, layer by layer, and what never is.")
    ] = False,
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
    """Prune a trained model, fine-tune it, pack it and measure it; each sparsity, rate and seed is a run of its own.

    The base model of each seed is trained once, measured, and reused by every method and sparsity. So is its control
    where fine-tuning is on: the base model, not pruned, and trained on for as many epochs.
    """
    from gnncompress.cli.running import carry_out
    from gnncompress.experiments.changes import parse_changes
    from gnncompress.experiments.levels import parse_rates, sparsities
    from gnncompress.experiments.methods import METHODS
    from gnncompress.experiments.resolve import resolve

    if method is not None and METHODS[method].study:
        raise UsageError(f"--method {method}: use 'gnncompress {method}', which runs all of it")
    specs = [
        resolve(
            workload=workload,
            dataset=dataset,
            model=model,
            task=task,
            split=split,
            split_seed=split_seed,
            features=features,
            method=method,
            sparsity=level,
            allocation=allocation,
            importance=importance,
            min_keep=min_keep,
            steps=steps,
            rate=one_rate,
            seed=number,
            finetune=finetune,
            epochs=epochs,
            finetune_epochs=finetune_epochs,
            changes=parse_changes(changes or []),
            device=device,
            threads=threads,
            energy=energy,
            energy_seconds=options.energy_seconds(energy_seconds, quick),
            country=country,
            inference_batch=batch_size,
            data_root=data_root,
        )
        for number in range(seed, seed + seeds)
        for one_rate in (parse_rates(rate) if rate is not None else [None])
        for level in sparsities(sparsity, method, allocation)
    ]
    if dry_run:
        from gnncompress.cli.plan import show_plan

        show_plan(max(specs, key=lambda spec: spec.sparsity), data_root)
        return
    carry_out(specs, output, data_root, as_json, quiet, debug)
