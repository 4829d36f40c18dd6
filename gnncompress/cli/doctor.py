"""``gnncompress doctor``."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from gnncompress.cli import options


def doctor(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Say what can be measured on this machine, what cannot, why, and how to allow it."""
    from rich.table import Table
    from rich.text import Text

    from gnncompress.cli.console import output
    from gnncompress.profiling.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in findings]))
        return
    table = Table("", "what", "seen", "advice", show_lines=False, box=None, pad_edge=False)
    for one in findings:
        sign = Text("yes", "green") if one.works else Text("no", "yellow")
        table.add_row(sign, one.what, one.seen, one.advice)
    output.print(table)
