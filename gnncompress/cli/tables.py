"""Tables on standard output, or wherever a console prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from gnncompress.cli.console import output
from gnncompress.reporting.tables import UNLIMITED, Column, fitted

# What has no option that prints all in another form; a pipe has no width.
PIPED = "| cat"


def print_table(
    columns: Sequence[Column],
    lines: Iterable[Sequence[str]],
    more: str,
    title: Sequence[str] = (),
    console: Console = output,
) -> None:
    """Print a table as wide as the terminal lets it be; ``more`` is the option that shows what does not fit."""
    print_whole(fitted(columns, lines, width(console), more, title), console)


def print_whole(text: Text, console: Console = output) -> None:
    """Print text that has been fitted, and neither cut nor wrap it."""
    console.print(text, soft_wrap=True)


def width(console: Console = output) -> int:
    """Return how wide a table may be: without limit where no terminal is."""
    return console.width if console.is_terminal else UNLIMITED
