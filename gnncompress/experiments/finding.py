"""Runs by what a user types: a folder, a file, or the first digits of an id. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from gnncompress.errors import ResultsError, UsageError
from gnncompress.experiments.store import MODEL
from gnncompress.files import why

# Ids are 16 hexadecimal digits.
_DIGITS = re.compile(r"[0-9a-fA-F]{1,16}")
_FEW = 4


def find_run(text: str | Path, runs: Path, holding: str) -> Path:
    """Return the path ``text`` if there is one, else the folder under ``runs`` whose id begins with it.

    Only folders that hold a file called ``holding`` count. What can be no id is returned as a path, for others to
    refuse.

    Raises:
        UsageError: if several ids begin so.
        ResultsError: if none does, or ``runs`` cannot be looked into.
    """
    path = Path(text)
    if not _DIGITS.fullmatch(str(text)) or path.exists():
        return path
    try:
        found = sorted(
            place
            for place in (runs.iterdir() if runs.is_dir() else ())
            if place.name.startswith(str(text).lower()) and (place / holding).is_file()
        )
    except OSError as error:
        raise ResultsError(f"{runs}: cannot be read ({why(error)}); name another folder with --runs") from error
    if not found:
        raise ResultsError(
            f"{text}: no such file or folder, and no run in {runs} begins so; name a run's folder, or --runs"
        )
    if len(found) > 1:
        names = ", ".join(place.name for place in found[:_FEW])
        more = f" and {len(found) - _FEW} more" if len(found) > _FEW else ""
        raise UsageError(f"{text}: {len(found)} runs in {runs} begin so: {names}{more}; give more digits")
    return found[0]


def model_file(path: Path) -> Path:
    """Return the packed model in a run's folder; of anything else the path itself."""
    return path / MODEL if (path / MODEL).is_file() else path
