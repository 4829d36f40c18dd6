"""Text files of numbers, read fast and refused with the line that is wrong."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from gnncompress.errors import DatasetError


def table(path: Path, whole: bool, columns: int | None = None) -> np.ndarray:
    """Return comma-separated numbers as [lines, columns], int64 where they must be ``whole``, else float64.

    Raises:
        DatasetError: naming the file, and the line that is blank, no finite number or of another length.
    """
    import pandas as pd

    text = path.read_text(errors="replace").rstrip()
    if not text:
        raise DatasetError(f"{path}: empty; restore it")
    try:
        values = pd.read_csv(
            io.StringIO(text),
            header=None,
            index_col=False,
            dtype=np.int64 if whole else np.float64,
            skipinitialspace=True,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
        ).to_numpy()
    except (ValueError, OverflowError) as error:
        raise _malformed(path, text, whole, columns) from error
    if len(values) != text.count("\n") + 1 or columns not in (None, values.shape[1]):
        raise _malformed(path, text, whole, columns)
    if not whole and not (np.abs(values) <= np.finfo(np.float32).max).all():
        raise _malformed(path, text, whole, columns)
    return values


def _malformed(path: Path, text: str, whole: bool, columns: int | None) -> DatasetError:
    """Find the first line that cannot be read, slowly."""
    lines = text.split("\n")
    wanted = columns or lines[0].count(",") + 1
    kind = f"{wanted} {'whole ' if whole else ''}number{'s' * (wanted > 1)}"
    limit = 2**63 if whole else float(np.finfo(np.float32).max)
    for number, line in enumerate(lines, start=1):
        try:
            values = [int(value) if whole else float(value) for value in line.split(",")]
            good = len(values) == wanted and all(abs(value) <= limit for value in values)
        except ValueError:
            good = False
        if not good:
            return DatasetError(
                f"{path}: line {number}: {line[:40].strip()!r} found where {kind} should be; restore it"
            )
    return DatasetError(f"{path}: malformed, not {kind} on every line; restore it")
