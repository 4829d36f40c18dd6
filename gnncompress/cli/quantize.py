"""``gnncompress quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gnncompress.cli import options

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress quantize --scheme dq-int8\n\n"
    "  gnncompress quantize -d proteins -m gin --scheme fp32,ptq-int8,qat-int8,dq-int8,dq-int4,a2q --seeds 5\n\n"
    "  gnncompress quantize -d cora -m gcn --split public --scheme a2q --target-bits 2\n\n"
    "  gnncompress quantize -w gin-bbbp --scheme dq-int8 --config gc-abs --prune-sparsity 0.5\n\n"
    "  gnncompress quantize -w bbbp --scheme dq-int8 --keep-float lin --dry-run"
)


def quantize(
    scheme: Annotated[
        str,
        typer.Option(
            "--scheme",
            help="fp32 (the control), ptq-intN, qat-intN, dq-intN with N from 2 to 8, or a2q; several with commas.",
        ),
    ],
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            help="How ranges are made of the training batches: minmax, percentile, mse, observer (by --observer) or "
            "auto, the one with the least error of the model's output. Default: auto.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", help="ste-abs, ste-mom, ste-per, gc-abs, gc-mom or gc-per. Default: the scheme's."),
    ] = None,
    observer: Annotated[
        str | None, typer.Option("--observer", help="abs (extremes), mom (their moving average) or per (percentiles).")
    ] = None,
    gradient: Annotated[
        str | None, typer.Option("--gradient", help="ste (straight through) or gc (zero where values are clipped).")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="One grid a tensor or a channel. Default: tensor.")
    ] = None,
    head_bits: Annotated[
        int | None,
        typer.Option("--head-bits", help="Least bits of linear layers outside the convolutions. Default: 8."),
    ] = None,
    protect: Annotated[
        float | None,
        typer.Option("--protect", help="dq: least probability of leaving a node in floats. Default: 0."),
    ] = None,
    protect_more: Annotated[
        float | None, typer.Option("--protect-more", help="dq: by how much that of the highest degree is higher.")
    ] = None,
    draw: Annotated[
        str | None, typer.Option("--draw", help="dq: masks are drawn for each forward pass or each layer.")
    ] = None,
    groups: Annotated[
        int | None,
        typer.Option(
            "--groups",
            help="a2q: steps and bits that nodes share; 0: each has its own. Default: 1000 for graph tasks, else 0.",
        ),
    ] = None,
    target_bits: Annotated[
        float | None, typer.Option("--target-bits", help="a2q: bits a feature value should cost, sign included.")
    ] = None,
    keep_float: Annotated[
        list[str] | None,
        typer.Option("--keep-float", help="A layer to leave in floats, with what is in it; repeatable."),
    ] = None,
    execute: Annotated[
        str | None,
        typer.Option(
            "--execute", help="How the quantized model computes: simulated (in floats) or integer. Default: simulated."
        ),
    ] = None,
    prune_sparsity: Annotated[
        str,
        typer.Option("--prune-sparsity", help="Prune first: fraction of zeros, one level, several or first:last:step."),
    ] = "0",
    official_protocol: Annotated[
        bool,
        typer.Option(
            "--official-protocol", help="Choose the epoch as the published scripts do; a2q's by the test set."
        ),
    ] = False,
    finetune: Annotated[
        bool,
        typer.Option(
            "--finetune/--no-finetune", help="Train on with the quantizers, and before that the pruned model."
        ),
    ] = True,
    finetune_epochs: Annotated[
        int | None,
        typer.Option(
            "--finetune-epochs",
            min=1,
            help="Most epochs of each. Default: as many as training has, for the pruned model half as many.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list every quantizer, where it stands and its bits.")
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
    """Quantize a trained model, train it on with its quantizers, pack and measure it; each scheme and seed is a run.

    The base model of each seed is trained once, measured, and reused by every scheme. Unless --execute integer is
    given, what is measured is the simulated model: it computes in floats what few bits would give.
    """
    from gnncompress.cli.running import carry_out
    from gnncompress.errors import UsageError
    from gnncompress.experiments.changes import parse_changes
    from gnncompress.experiments.levels import parse_levels
    from gnncompress.experiments.methods import QUANTIZE
    from gnncompress.experiments.resolve import resolve
    from gnncompress.schemes import INTEGER, SIMULATED, options_of

    names = [name.strip().lower() for name in scheme.split(",")]
    if execute == INTEGER:
        if device == "cuda":
            raise UsageError("--device cuda: --execute integer runs on the CPU; leave one of them out")
        device = "cpu"
    chosen = options_of(
        names,
        {
            "calibration": calibration,
            "config": config,
            "observer": observer,
            "gradient": gradient,
            "weights": weights,
            "head_bits": head_bits,
            "protect": protect,
            "protect_more": protect_more,
            "draw": draw,
            "groups": groups,
            "target_bits": target_bits,
            "keep_float": ",".join(sorted(set(keep_float))) if keep_float else None,
            "protocol": "official-protocol" if official_protocol else None,
            "execute": None if execute == SIMULATED else execute,
        },
    )
    specs = [
        resolve(
            workload=workload,
            dataset=dataset,
            model=model,
            task=task,
            split=split,
            split_seed=split_seed,
            features=features,
            method=QUANTIZE,
            sparsity=level,
            scheme=name,
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
            **chosen[name],
        )
        for number in range(seed, seed + seeds)
        for level in parse_levels(prune_sparsity, "--prune-sparsity")
        for name in names
    ]
    if dry_run:
        from gnncompress.cli.plan import show_points

        for spec in {spec.scheme: spec for spec in specs}.values():
            show_points(spec, data_root)
        return
    if execute == INTEGER and not quiet:
        _say_what_to_expect()
    carry_out(specs, output, data_root, as_json, quiet, debug)


def _say_what_to_expect() -> None:
    from gnncompress.cli.console import tell
    from gnncompress.runtime.levels import FASTEST, level

    found = level()
    if found != FASTEST:
        tell("note", f"integer execution at level {found.name}: {found.speed}")
