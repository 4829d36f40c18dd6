"""``gnncompress report``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from gnncompress.cli import options

EXAMPLES = "Examples:\n\n  gnncompress report\n\n  gnncompress report runs --format latex --output table.tex"


def report(
    place: Annotated[
        str,
        typer.Argument(
            metavar="RUNS", help="Folder of runs, one run's folder, the first digits of its id, or a results.csv."
        ),
    ] = "runs",
    style: Annotated[str, typer.Option("--format", "-f", help="table, markdown, csv, latex or json.")] = "table",
    target: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file instead of standard output.")
    ] = None,
    runs: options.Runs = Path("runs"),
    debug: options.Debug = False,
) -> None:
    """Print a table of finished runs: a row per method and sparsity, quality as mean ± std over seeds.

    A run counts once, however many copies of it there are. A narrow terminal shows fewer columns and names the others.
    """
    from gnncompress.cli.console import tell
    from gnncompress.cli.tables import print_whole, width
    from gnncompress.errors import UsageError
    from gnncompress.experiments.finding import find_run
    from gnncompress.experiments.store import RESULTS
    from gnncompress.files import write_text
    from gnncompress.registry import unknown
    from gnncompress.reporting.render import FORMATS, render, terminal_tables
    from gnncompress.reporting.results import read_results
    from gnncompress.reporting.summary import summarize

    if style not in FORMATS:
        raise UsageError(unknown("format", style, FORMATS))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        summary = summarize(read_results(find_run(place, runs, RESULTS)))
    for warning in dict.fromkeys(str(one.message) for one in said):
        tell("warning", warning)
    if style == "table" and target is None:
        print_whole(terminal_tables(summary, width()))
        return
    text = render(summary, style)
    if target is None:
        typer.echo(text, nl=False)
        return
    try:
        write_text(target, text)
    except OSError as error:
        raise UsageError(f"--output {target}: cannot be written ({error.strerror})") from error
