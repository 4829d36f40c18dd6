"""Where things are printed: results on standard output, everything else on standard error.

A file or a pipe has no width; tables there are as wide as they need to be.
"""

import sys

from rich.console import Console

_WIDE = 250

errors = Console(stderr=True)
output = Console(width=None if sys.stdout.isatty() else _WIDE)
