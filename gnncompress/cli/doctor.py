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
    from gnncompress.cli.tables import print_table
    from gnncompress.profiling.doctor import examine
    from gnncompress.reporting.tables import Column

    findings = [*examine(), _level()]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in findings]))
        return
    signs = Column("works", text=True, styles={"yes": "green", "no": "yellow"})
    print_table(
        (signs, *(Column(name, text=True) for name in ("what", "seen", "advice"))),
        (("yes" if one.works else "no", one.what, one.seen, one.advice) for one in findings),
        "--json",
    )


def _level() -> Finding:
    from gnncompress.errors import UsageError
    from gnncompress.profiling.doctor import Finding
    from gnncompress.runtime.levels import level

    try:
        found = level()
    except UsageError as error:  # the environment names one that cannot be used
        return Finding("integer execution", False, str(error))
    return Finding("integer execution", True, f"level {found.name}: {found.meaning}", found.speed)
