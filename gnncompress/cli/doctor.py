"""``gnncompress doctor``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from gnncompress.cli import options

if TYPE_CHECKING:
    from gnncompress.profiling.doctor import Finding


def doctor(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Say what can be measured on this machine, what cannot, why, how to allow it; and how it multiplies codes."""
    from rich.markup import escape
    from rich.table import Table

    from gnncompress.cli.console import output
    from gnncompress.profiling.doctor import examine

    findings = [*examine(), _level()]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in findings]))
        return
    table = Table("", "what", "seen", "advice", show_lines=False, box=None, pad_edge=False)
    for one in findings:
        sign = "[green]yes[/]" if one.works else "[yellow]no[/]"
        table.add_row(sign, *(escape(text) for text in (one.what, one.seen, one.advice)))
    output.print(table)


def _level() -> Finding:
    from gnncompress.errors import UsageError
    from gnncompress.profiling.doctor import Finding
    from gnncompress.runtime.levels import level

    try:
        found = level()
    except UsageError as error:  # the environment names one that cannot be used
        return Finding("integer execution", False, str(error))
    return Finding("integer execution", True, f"level {found.name}: {found.meaning}", found.speed)
