"""Text files of numbers, read fast and refused with the line that is wrong.

A file is read twice, both times in parts: first its lines and columns are counted, so that one that is too large is
refused before memory is taken for it; then its numbers go into an array of that size.
"""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from gnncompress.datasets.limits import MOST_COLUMNS, MOST_LINE, MOST_NUMBERS
from gnncompress.errors import DatasetError

BLOCK = 2**18
LARGEST = float(np.finfo(np.float32).max)
# Numbers that pandas parses at once; it takes 60 microseconds a column each time.
AT_ONCE = 2**21


def table(path: Path, whole: bool, columns: int | None = None) -> np.ndarray:
    """Return comma-separated numbers as [lines, columns], int64 where they must be ``whole``, else float32.

    Memory: the array, at most 1 GiB, and 150 MB.

    Raises:
        DatasetError: naming the file, and the line that is blank, no finite number, of another length or too long; or
            if the file has more than 32,768 columns or 2^27 numbers.
    """
    lines, found = _shape(path)
    if found > MOST_COLUMNS:
        raise DatasetError(f"{path}: {found:,} columns, at most {MOST_COLUMNS:,} are read; leave some out")
    if lines * found > MOST_NUMBERS:
        raise DatasetError(
            f"{path}: {lines:,} lines of {found:,} numbers, at most {MOST_NUMBERS:,} numbers are read; make it smaller"
        )
    # Each number has a character and a comma or line end: no array is made for a file that cannot fill it.
    if columns not in (None, found) or path.stat().st_size < 2 * lines * found - 1:
        raise _malformed(path, lines, whole, columns or found)
    values = np.empty((lines, found), np.int64 if whole else np.float32)
    try:
        with _text(path) as file, np.errstate(invalid="ignore"):  # pandas compares what it casts, and raises
            filled = _fill(values, file)
    except (ValueError, OverflowError) as error:
        raise _malformed(path, lines, whole, found) from error
    if not filled:
        raise _malformed(path, lines, whole, found)
    return values


def _fill(values: np.ndarray, file: TextIO) -> bool:
    """Put the numbers of a file into ``values``; say whether it had as many, and all finite."""
    import pandas as pd

    lines, columns = values.shape
    kind = np.int64 if values.dtype == np.int64 else np.float64
    first = 0
    with pd.read_csv(
        file,
        header=None,
        index_col=False,
        dtype=kind,
        skipinitialspace=True,
        skip_blank_lines=False,
        quoting=csv.QUOTE_NONE,
        nrows=lines,
        chunksize=max(1, AT_ONCE // columns),
    ) as parts:
        for part in parts:
            numbers = part.to_numpy()
            if numbers.shape[1] != columns:
                return False
            if kind == np.float64 and not (np.abs(numbers) <= LARGEST).all():
                return False
            values[first : first + len(numbers)] = numbers
            first += len(numbers)
    return first == lines


def _text(path: Path) -> TextIO:
    return path.open(encoding="utf-8", errors="replace")


def _shape(path: Path) -> tuple[int, int]:
    """Return the lines, blank ones at the end apart, and the columns of the first.

    Raises:
        DatasetError: if there is none, or one is too long to be a row of numbers.
    """
    lines = ends = length = commas = 0
    with _text(path) as file:
        while block := file.read(BLOCK):
            first = block.find("\n")
            if not ends:
                commas += block.count(",", 0, first if first >= 0 else None)
            length += first if first >= 0 else len(block)
            if length > MOST_LINE:
                raise DatasetError(
                    f"{path}: line {ends + 1:,}: longer than {MOST_LINE:,} characters, no row of numbers; restore it"
                )
            if filled := block.rstrip():
                lines = ends + filled.count("\n") + 1
            ends += block.count("\n")
            if first >= 0:
                length = len(block) - block.rfind("\n") - 1
    if not lines:
        raise DatasetError(f"{path}: empty; restore it")
    return lines, commas + 1


def _malformed(path: Path, lines: int, whole: bool, wanted: int) -> DatasetError:
    """Find the first line that cannot be read, slowly."""
    kind = f"{wanted} {'whole ' if whole else ''}number{'s' * (wanted > 1)}"
    with _text(path) as file:
        for number, line in enumerate(islice(file, lines), start=1):
            if line.count(",") + 1 != wanted or not all(_is_number(value, whole) for value in line.split(",")):
                return DatasetError(
                    f"{path}: line {number}: {line[:40].strip()!r} found where {kind} should be; restore it"
                )
    return DatasetError(f"{path}: malformed, not {kind} on every line; restore it")


def _is_number(text: str, whole: bool) -> bool:
    try:
        return -(2**63) <= int(text) < 2**63 if whole else abs(float(text)) <= LARGEST
    except ValueError:
        return False
