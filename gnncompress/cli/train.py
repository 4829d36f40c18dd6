"""``gnncompress train``."""

from __future__ import annotations

from pathlib import Path

from gnncompress.cli import options

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress train\n\n"
    "  gnncompress train --workload cora-link --seeds 5\n\n"
    "  gnncompress train -d mutag -m gin --split stratified-kfold\n\n"
    "  gnncompress train -d my_file.py:load -m my_file.py:build"
)


def train(
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
    """Train a base model and measure it."""
    from gnncompress.cli.running import carry_out
    from gnncompress.experiments.changes import parse_changes
    from gnncompress.experiments.resolve import resolve

    specs = [
        resolve(
            workload=workload,
            dataset=dataset,
            model=model,
            task=task,
            split=split,
            split_seed=split_seed,
            features=features,
            seed=number,
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
        for number in range(seed, seed + seeds)
    ]
    carry_out(specs, output, data_root, as_json, quiet, debug)
