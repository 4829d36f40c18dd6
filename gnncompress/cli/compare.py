"""``gnncompress compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnncompress.cli import options

if TYPE_CHECKING:
    from gnncompress.experiments.comparing import Compared, Comparison

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress compare 0123 fedc\n\n"
    "  gnncompress compare runs/0123456789abcdef/model.safetensors runs/fedcba9876543210/model.safetensors --quick"
)


def compare(
    a: Annotated[
        str,
        typer.Argument(help="A run's folder, its model.safetensors, or the first digits of its id.", metavar="A"),
    ],
    b: Annotated[str, typer.Argument(help="Another run's, on the same data and split.", metavar="B")],
    rounds: Annotated[int, typer.Option("--rounds", min=5, help="Rounds of latency; each loads both anew.")] = 20,
    seconds: Annotated[float, typer.Option("--seconds", help="Seconds of latency a round.")] = 1.0,
    confidence: Annotated[float, typer.Option("--confidence", help="Of the intervals.")] = 0.99,
    batch_size: options.BatchSize = 0,
    threads: options.Threads = 1,
    energy: options.Energy = "auto",
    energy_seconds: Annotated[
        float | None,
        typer.Option("--energy-seconds", help="Seconds of each of ten windows of energy a side. Default: 10."),
    ] = None,
    quick: options.Quick = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order and the bootstrap.")] = 0,
    data_root: options.DataRoot = None,
    runs: options.Runs = Path("runs"),
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that specs of your own models name.")] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Compare two runs' models: quality on the same items, latency and energy in turns, and what may be said of them.

    Intervals are those of medians over rounds (8 carry 99 %, fewer with an assumption) and of a paired bootstrap over
    test items; a difference is named only where its interval leaves out none.
    """
    from gnncompress.experiments.comparing import Settings
    from gnncompress.experiments.comparing import compare as compare_runs
    from gnncompress.experiments.finding import find_run
    from gnncompress.experiments.store import SPEC

    place_a, place_b = (find_run(name, runs, SPEC) for name in (a, b))
    settings = Settings(
        rounds=rounds,
        seconds=seconds,
        confidence=confidence,
        batch_size=batch_size,
        threads=threads,
        energy=energy,
        energy_seconds=options.energy_seconds(energy_seconds, quick),
        seed=seed,
    )
    found = compare_runs(place_a, place_b, data_root, settings, trust, _announce)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        _show(found)


def _announce(seconds: float) -> None:
    from gnncompress.cli.console import errors

    errors.print(f"measuring, which takes more than {seconds:.0f} s ...", highlight=False)


def _show(found: Comparison) -> None:
    from gnncompress.cli.console import output, tell
    from gnncompress.cli.tables import print_table
    from gnncompress.reporting.tables import Column

    print_table(
        (
            Column("metric", text=True),
            *(Column("A"), Column("B"), Column("B against A", text=True)),
            *(Column("source", text=True, rank=1), Column("verdict", text=True)),
        ),
        (
            (one.metric, _value(one.a, one.unit), _value(one.b, one.unit), _interval(one), one.source, one.verdict)
            for one in found.figures
        ),
        "--json",
        [f"A {found.a}", f"B {found.b}"],
    )
    output.print(
        f"B against A, with {100 * found.confidence:g} % intervals: of the median over rounds and windows in turns; of "
        "quality by bootstrap over test items",
        highlight=False,
    )
    for note in found.notes:
        tell("warning", note)


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{1e3 * value:.4g} ms"
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:.4g}" + ("" if unit == "fraction" else f" {unit}")


def _interval(one: Compared) -> str:
    if one.difference is None:
        return f"x {one.b / one.a:.3g}"
    found = one.difference.as_ratio() if one.ratio else one.difference
    if one.ratio:
        return f"x {found.value:.4g} ({found.low:.4g} to {found.high:.4g})"
    return f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
