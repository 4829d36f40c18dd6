"""Rows of what is no run of an experiment, appended to one tidy CSV file."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path

from gnncompress.errors import ResultsError, UsageError
from gnncompress.files import locked, read_text, user_id, why, writable_folder, write_text
from gnncompress.measurements import COLUMNS, SOURCES, Measurement, csv_rows

_METHOD = "profile"


def insist_on_writable(path: Path) -> None:
    """Find out whether rows could be appended, before there is something to lose.

    Raises:
        UsageError: if the file or its folder cannot be written.
        ResultsError: if the file is there and holds something else.
    """
    writable_folder(path.parent, f"{path.name} in")
    _content(path)


def append_rows(path: Path, label: str, measurements: Iterable[Measurement]) -> str:
    """Append rows under a fresh ``run_id``, all or none, with ``label`` as their model; return the id.

    A user's processes may append to one file at once. Two users' appends to one file do not wait for each other.

    Raises:
        UsageError: if the file or its folder cannot be written.
        ResultsError: if the file is there and holds something else, or its lock cannot be had.
    """
    insist_on_writable(path)
    run_id = uuid.uuid4().hex[:16]
    identity = [run_id, "", "", label, _METHOD, "", 0.0, "false", 0]
    try:
        with locked(_lock(path)):
            write_text(path.resolve(), _content(path) + csv_rows(identity, measurements))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); name another file") from error
    return run_id


def _lock(path: Path) -> Path:
    """Return the file's lock, beside no file of the user's; in a folder that others use, too, so it is one a user."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"gnncompress-rows-{user_id()}-{digest}.lock"


def _content(path: Path) -> str:
    header = csv_rows([], [], header=True)
    try:
        text = read_text(path).replace("\r\n", "\n")
    except FileNotFoundError:
        return header
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({why(error)}); name another file") from error
    if not text:  # as mktemp leaves it
        return header
    if not text.startswith(header):
        raise ResultsError(f"{path}: has not the columns {','.join(COLUMNS)}; name another file")
    if text.endswith("\n"):
        return text
    if text.rpartition(",")[2] not in SOURCES:
        raise ResultsError(f"{path}: its last row is cut off; mend it, or name another file")
    return text + "\n"
