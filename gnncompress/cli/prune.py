"""``gnncompress prune``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnncompress.cli import completing, options
from gnncompress.cli.then import following
from gnncompress.errors import ParameterError

if TYPE_CHECKING:
    from gnncompress.compression import CompressionMethod

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress prune --method global --sparsity 0.5\n\n"
    "  gnncompress prune --workload proteins --method global --sparsity 0.5 --seed 777\n\n"
    "  gnncompress prune -d cora -m spline --method fine-grained --sparsity 0:0.9:0.1 --seeds 5 --no-finetune\n\n"
    "  gnncompress prune --workload gin-proteins --method structured --sparsity 0.5\n\n"
    "  gnncompress prune --workload cora-node --method l2 --rate paper --seeds 5"
)


def _options() -> type:
    from gnncompress.cli.method_options import method_options

    return method_options("prune")


PruneOptions = Annotated[Any, options.Made(_options)]


def prune(
    what: options.What,
    how: PruneOptions,
    training: options.Training,
    finetuning: options.Finetuning,
    measuring: options.Measuring,
    output: options.Output,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            rich_help_panel=options.HOW,
            autocompletion=completing.methods,
            help="How to prune; see 'gnncompress methods'. Default: global, or as --allocation has it.",
        ),
    ] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            rich_help_panel=options.HOW,
            help="An option of a method of your own, name=value; repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=options.OUTPUT, help="Only list what could be pruned, layer by layer, and why."
        ),
    ] = False,
) -> None:
    """Prune a trained model, fine-tune it, pack it and measure it; each sparsity, rate and seed is a run of its own.

    The base model of each seed is trained once, and reused by every method and sparsity. So is its control where
    fine-tuning is on: the base model, not pruned, and trained on for as many epochs. --then quantize --scheme dq-int8
    goes on from the pruned model.
    """
    from gnncompress.cli.running import carry_out
    from gnncompress.experiments.resolve import resolve

    choices, measure = options.workload_choices(what, training), measuring.choices()
    chains = [
        resolve(choices, seed, [one, *following()], finetuning.choices(), measure)
        for seed in what.numbers
        for one in methods_asked(method, how, own or ())
    ]
    if dry_run:
        from gnncompress.cli.plan import show_plan

        show_plan(max(chains, key=lambda chain: chain.sparsity), what.data_root)
        return
    carry_out(chains, what.data_root, output, measuring.remeasure)


def methods_asked(method: str | None, how: PruneOptions, own: Sequence[str] = ()) -> list[CompressionMethod]:
    """Return the method that --method and --allocation name, for each of the values asked for.

    ``own`` are options, as name=value, of a method that is not the package's.

    Raises:
        UsageError: if the two contradict each other, or a value cannot be.
    """
    from gnncompress.cli.method_options import given_options, named_values, one_for_each
    from gnncompress.experiments.allocation import ALLOCATIONS, read_allocation_of, with_allocation
    from gnncompress.factories import is_reference
    from gnncompress.methods import find_method

    given = given_options(how)
    allocation = given.pop("allocation", None)
    folded = method if method is None or is_reference(method) else method.lower()
    name, allocated = with_allocation(folded, allocation)
    kind = find_method(name)
    if kind.command != "prune":
        raise ParameterError("method", name, f"use 'gnncompress {kind.command}', which runs all of it")
    if allocation is not None and allocation not in ALLOCATIONS and "sparsity" not in given:
        given["sparsity"] = str(read_allocation_of(allocation).sparsity)
    return list(one_for_each(name, {**given, **allocated, **named_values(kind, own)}))
