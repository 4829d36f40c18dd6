"""``gnncompress quantize``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gnncompress.cli import options
from gnncompress.cli.then import following
from gnncompress.errors import ParameterError, UsageError

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress quantize --scheme dq-int8\n\n"
    "  gnncompress quantize -d proteins -m gin --scheme fp32,ptq-int8,qat-int8,dq-int8,dq-int4,a2q --seeds 5\n\n"
    "  gnncompress quantize -d cora -m gcn --split public --scheme a2q --target-bits 2\n\n"
    "  gnncompress quantize -w gin-bbbp --scheme dq-int8 --config gc-abs --prune-sparsity 0.5\n\n"
    "  gnncompress quantize -w bbbp --scheme dq-int8 --keep-float lin --dry-run"
)


def _options() -> type:
    from gnncompress.cli.method_options import method_options

    return method_options("quantize")


QuantizeOptions = Annotated[Any, options.Made(_options)]


def quantize(
    what: options.What,
    how: QuantizeOptions,
    training: options.Training,
    finetuning: options.Finetuning,
    measuring: options.Measuring,
    output: options.Output,
    prune_sparsity: Annotated[
        str,
        typer.Option(
            "--prune-sparsity",
            rich_help_panel=options.HOW,
            help="Prune first, as 'prune --method global' does: fraction of zeros, one level, several or "
            "first:last:step.",
        ),
    ] = "0",
    execute: Annotated[
        str,
        typer.Option(
            "--execute",
            rich_help_panel=options.MEASURING,
            help="How the quantized model computes: simulated (in floats) or integer.",
        ),
    ] = "simulated",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=options.OUTPUT, help="Only list every quantizer, where it stands and its bits."
        ),
    ] = False,
) -> None:
    """Quantize a trained model, train it on with its quantizers, pack and measure it; each scheme and seed is a run.

    The base model of each seed is trained once, and reused by every scheme. Unless --execute integer is given, what is
    measured is the simulated model: it computes in floats what few bits would give.
    """
    from gnncompress.cli.method_options import given_options
    from gnncompress.cli.running import carry_out
    from gnncompress.experiments.levels import parse_levels
    from gnncompress.experiments.resolve import resolve
    from gnncompress.methods import method_named
    from gnncompress.registry import unknown
    from gnncompress.schemes import INTEGER, SIMULATED, options_of

    if execute not in (SIMULATED, INTEGER):
        raise ParameterError("execute", "", unknown("execution", execute, (SIMULATED, INTEGER)))
    if execute == INTEGER and training.device == "cuda":
        raise ParameterError("device", "cuda", "--execute integer runs on the CPU; leave one of them out")
    given = given_options(how)
    if given.get("official_protocol") and not finetuning.finetune:
        raise UsageError(
            "--official-protocol chooses an epoch, and --no-finetune trains for none; leave one of them out"
        )
    names = [name.strip().lower() for name in given.pop("scheme", "dq-int8").split(",")]
    chosen = options_of(names, given if execute != INTEGER else {**given, "execute": execute})
    choices = options.workload_choices(what, training, "cpu" if execute == INTEGER else None)
    chains = [
        resolve(
            choices,
            seed,
            [
                method_named("global", {"sparsity": level}),
                method_named("quantize", {"scheme": name, **{k: v for k, v in chosen[name].items() if k != "execute"}}),
                *following(),
            ],
            finetuning.choices(),
            measuring.choices(execute if "execute" in chosen[name] else "simulated"),
        )
        for seed in what.numbers
        for level in parse_levels(prune_sparsity, "--prune-sparsity")
        for name in names
    ]
    if dry_run:
        from gnncompress.cli.plan import show_points

        for chain in {chain.scheme: chain for chain in chains}.values():
            show_points(chain, what.data_root)
        return
    if execute == INTEGER and not output.quiet:
        _say_what_to_expect()
    carry_out(chains, what.data_root, output, measuring.remeasure)


def _say_what_to_expect() -> None:
    from gnncompress.cli.console import tell
    from gnncompress.runtime.levels import FASTEST, level

    found = level()
    if found != FASTEST:
        tell("note", f"integer execution at level {found.name}: {found.speed}")
