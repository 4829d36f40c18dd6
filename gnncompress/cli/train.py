"""``gnncompress train``."""

from __future__ import annotations

from pathlib import Path

from gnncompress.cli import options

EXAMPLES = "Examples:\n\n  gnncompress train\n\n  gnncompress train -d cora -m spline --seeds 5"


def train(
    dataset: options.Dataset = "digits",
    model: options.Model = None,
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
    """Train a base model and measure it."""
    from gnncompress.cli.running import carry_out
    from gnncompress.experiments.resolve import resolve

    specs = [
        resolve(dataset, model, seed=number, epochs=epochs, device=device, threads=threads, energy=energy)
        for number in range(seed, seed + seeds)
    ]
    carry_out(specs, output, data_root, as_json, quiet, debug)
