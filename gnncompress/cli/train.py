"""``gnncompress train``."""

from __future__ import annotations

from gnncompress.cli import options

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress train\n\n"
    "  gnncompress train --workload cora-link --seeds 5\n\n"
    "  gnncompress train -d mutag -m gin --split stratified-kfold\n\n"
    "  gnncompress train -d my_file.py:load -m my_file.py:build --train my_file.py:train --score my_file.py:score"
)


def train(what: options.What, training: options.Training, measuring: options.Measuring, output: options.Output) -> None:
    """Train a base model and measure it."""
    from gnncompress.cli.running import carry_out
    from gnncompress.cli.then import following
    from gnncompress.experiments.resolve import resolve

    choices, measure = options.workload_choices(what, training), measuring.choices()
    chains = [resolve(choices, seed, following(), measuring=measure) for seed in what.numbers]
    carry_out(chains, what.data_root, output, measuring.remeasure)
