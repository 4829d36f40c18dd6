"""``gnncompress profile``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gnncompress.cli import options
from gnncompress.errors import GnncompressError, UsageError

if TYPE_CHECKING:
    from gnncompress.profiling.command import Ended

EXAMPLES = (
    "Examples:\n\n"
    "  gnncompress profile -- python train.py --epochs 10\n\n"
    "  gnncompress profile --output costs.csv --label baseline --country FRA -- python train.py"
)
# What follows belongs to the command, dashes or not.
SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def profile(
    command: Annotated[list[str], typer.Argument(help="The command, after --.", metavar="-- COMMAND")],
    target: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Append the rows to this CSV file. Default: only show them."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", help="Its name in the rows' column model. Default: the command's."),
    ] = None,
    energy: options.Energy = "auto",
    country: options.Country = "",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing of its own.")] = False,
    debug: options.Debug = False,
) -> None:
    """Run any command and measure its process tree: time, CPU, memory, energy; its output and exit code are kept.

    The table is printed on standard error when the command has ended. If profile itself is killed (SIGKILL), so
    is the command, with what it has started unless that was from a terminal.
    """
    from gnncompress.cli.console import tell
    from gnncompress.profiling.command import profile_command
    from gnncompress.profiling.energy import insist_on_meter
    from gnncompress.profiling.records import append_rows, insist_on_writable

    insist_on_meter(energy)
    if command[0].startswith("-") and command[0] != "-":
        raise UsageError(f"{command[0]}: no such option of profile, and no command; the command comes after --")
    if target is not None:
        insist_on_writable(target)
    ended = profile_command(command, "profile", energy, country)
    if not quiet:
        try:
            _show(ended)
        except OSError:  # standard error is closed or full; the command's own result counts
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where what is left goes when Python ends
    status = ended.status
    if target is not None:
        try:
            append_rows(target, label or Path(command[0]).name, ended.measurements)
        except GnncompressError as error:  # the command's own result is not lost over it
            tell("error", error)
            status = status or 1
    sys.exit(status)  # as it is: of Typer's exits 130 would be taken for Ctrl-C


def _show(ended: Ended) -> None:
    from gnncompress.cli.console import errors, tell
    from gnncompress.cli.tables import print_table
    from gnncompress.reporting.tables import Column

    print_table(
        (Column("metric", text=True), Column("value"), Column("source", text=True, rank=1)),
        (
            (row.metric, "" if row.value is None else _figure(row.value, row.unit), row.source)
            for row in ended.measurements
        ),
        "--output",
        console=errors,
    )
    for warning in ended.warnings:
        tell("warning", warning)


def _figure(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,.4g} {unit}" if value % 1 else f"{value:,.0f} {unit}"
