"""``gnncompress doctor``."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from gnncompress.cli import options


def doctor(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Say what can be measured on this machine, what cannot, why, and how to allow it."""
    from gnncompress.cli.tables import print_table
    from gnncompress.profiling.doctor import examine
    from gnncompress.reporting.tables import Column

    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in findings]))
        return
    signs = Column("works", text=True, styles={"yes": "green", "no": "yellow"})
    print_table(
        (signs, *(Column(name, text=True) for name in ("what", "seen", "advice"))),
        (("yes" if one.works else "no", one.what, one.seen, one.advice) for one in findings),
        "--json",
    )
