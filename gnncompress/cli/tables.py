"""Plain tables on standard output."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from gnncompress.cli.console import output


def print_table(columns: Sequence[str], lines: Iterable[Sequence[str]], folded: Collection[str]) -> None:
    """Print a table whose names stay whole; only the columns in ``folded`` give way in a narrow terminal."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, collapse_padding=True)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column not in folded)
    for line in lines:
        table.add_row(*line)
    output.print(table)
