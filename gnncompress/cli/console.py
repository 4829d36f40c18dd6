"""Where things are printed: results on standard output, everything else on standard error.

The one seam between text from outside and the terminal. Names, paths and messages print as they are: no markup, no
emoji names, and what a terminal would obey as a visible escape. A file or a pipe has no width; tables there are as wide
as they need to be.
"""

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from gnncompress.texts import one_line, visible

_WIDE = 250
_STYLES = {"error": "bold red", "failed": "bold red", "warning": "yellow", "note": "yellow"}


class LiteralConsole(Console):
    """A console that prints every string as it is, also those in tables."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as rich's text, with what does not print as escapes."""
        return super().render_str(visible(text), **options)


errors = LiteralConsole(stderr=True)
output = LiteralConsole(width=None if sys.stdout.isatty() else _WIDE)


def told(kind: str, text: object) -> Text:
    """Return a line for people: error, failed, warning or note, and what is to be said."""
    return Text.assemble((f"{kind}:", _STYLES[kind]), " ", visible(one_line(text)))


def tell(kind: str, text: object) -> None:
    """Print such a line on standard error, whole however narrow the terminal is."""
    errors.print(told(kind, text), soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print a line on standard output, whole however narrow the terminal is."""
    output.print(text, soft_wrap=True, highlight=False)
