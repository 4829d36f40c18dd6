"""``gnncompress prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gnncompress.cli import options

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress prune --method global --sparsity 0.5\n\n"
    "  gnncompress prune --workload proteins --method global --sparsity 0.5 --seed 777\n\n"
    "  gnncompress prune -d cora -m spline --method fine-grained --sparsity 0:0.9:0.1 --seeds 5 --no-finetune"
)


def prune(
    method: Annotated[str, typer.Option("--method", help="How to prune; see 'gnncompress methods'.")] = "global",
    sparsity: Annotated[
        str,
        typer.Option("--sparsity", "-s", help="Fraction of zeros: 0.5, 0.1,0.5,0.9 or 0:0.9:0.1; 0 is the base model."),
    ] = "0.5",
    finetune: Annotated[bool, typer.Option("--finetune/--no-finetune", help="Train on under the masks.")] = True,
    finetune_epochs: Annotated[
        int | None, typer.Option("--finetune-epochs", min=1, help="Most epochs of fine-tuning.")
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
    device: options.Device = "auto",
    threads: options.Threads = 1,
    energy: options.Energy = "auto",
    data_root: options.DataRoot = None,
    output: options.Output = Path("runs"),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Prune a trained model, fine-tune it, pack it and measure it; each sparsity and seed is a run of its own.

    The base model of each seed is trained once, measured, and reused by every method and sparsity.
    """
    from gnncompress.cli.running import carry_out
    from gnncompress.experiments.resolve import parse_levels, resolve

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
            seed=number,
            finetune=finetune,
            epochs=epochs,
            finetune_epochs=finetune_epochs,
            device=device,
            threads=threads,
            energy=energy,
            data_root=data_root,
        )
        for number in range(seed, seed + seeds)
        for level in parse_levels(sparsity)
    ]
    carry_out(specs, output, data_root, as_json, quiet, debug)
