"""The rows of a molecule set's CSV file, with the line that each stands on.

The csv module rather than pandas: it knows the line of every row, also after quoted line ends and blank lines.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from gnncompress.datasets.limits import MOST_COLUMNS, MOST_GRAPHS, MOST_LINE, MOST_NUMBERS, MOST_SMILES
from gnncompress.datasets.tables import LARGEST
from gnncompress.errors import DatasetError

SMILES_COLUMNS = ("smiles", "mol")


@dataclass(frozen=True)
class Layout:
    """A published set: the file to download, and the columns of its SMILES and its labels."""

    download: str
    smiles: int
    labels: slice

    @property
    def file(self) -> str:
        """The file's name once it is unpacked."""
        return self.download.removesuffix(".gz")


@dataclass(frozen=True)
class Molecules:
    """The rows of a file: line and SMILES of each, labels [rows, T] float64, NaN where blank, and notes."""

    lines: list[int]
    smiles: list[str]
    labels: np.ndarray
    notes: list[str]


def read(path: Path, layout: Layout | None) -> Molecules:
    """Read the rows of a CSV file, blank lines apart.

    Memory: the SMILES, and twice the labels of 8 bytes each; of all else no more than a row is kept.

    Raises:
        DatasetError: naming the file, and the line and column that cannot be read, or that is too much: a row of more
            than 4 million characters, a SMILES of more than 10,000, 32,768 columns, 2^20 rows or 2^27 labels.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = _rows(path, file)
        _, header = next(rows, (0, []))
        if not header:
            raise DatasetError(f"{path}: empty; restore it")
        if len(header) > MOST_COLUMNS:
            raise DatasetError(f"{path}: {len(header):,} columns, at most {MOST_COLUMNS:,} are read; leave some out")
        header = [name.strip() for name in header]
        if layout:
            smiles, labels = _published_columns(path, header, layout)
        else:
            smiles, labels = _guessed_columns(path, header)
        found = _collect(path, header, rows, smiles, labels, guessed=layout is None)
    if not found.lines:
        raise DatasetError(f"{path}: no molecule after the header; restore it")
    return found


class _Lines:
    """The lines of a file; what is read between two settings of ``size`` to 0 has a limit."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self.size = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MOST_LINE + 1):
            self.size += len(line)
            if self.size > MOST_LINE:
                raise DatasetError(f"{self._path}: a row of more than {MOST_LINE:,} characters; restore it")
            yield line


def _rows(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield every row that is not blank, all of the first one's length, and the line that it ends on."""
    lines, columns = _Lines(path, file), 0
    reader = csv.reader(lines)
    try:
        for row in reader:
            lines.size = 0
            if not any(field.strip() for field in row):
                continue
            columns = columns or len(row)
            if len(row) != columns:
                where = f"line {reader.line_num}: {len(row):,} fields under {columns:,} column names"
                raise DatasetError(f"{path}: {where}; restore it")
            yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: after line {reader.line_num}: no CSV text ({error}); restore it") from error


def _collect(
    path: Path,
    header: list[str],
    rows: Iterable[tuple[int, list[str]]],
    smiles: int,
    columns: list[int],
    guessed: bool,
) -> Molecules:
    """Read SMILES and labels; a ``guessed`` column that holds something else than numbers is none of labels."""
    lines, texts = [], []
    labels = {column: array("d") for column in columns}
    for line, row in rows:
        if len(row[smiles]) > MOST_SMILES:
            raise DatasetError(
                f"{path}: line {line}: a SMILES of {len(row[smiles]):,} characters, at most {MOST_SMILES:,} are read; "
                "leave it out"
            )
        lines.append(line)
        texts.append(row[smiles])
        if len(lines) > MOST_GRAPHS or len(lines) * len(labels) > MOST_NUMBERS:
            raise DatasetError(
                f"{path}: line {line}: {len(lines):,} rows of {len(labels):,} labels, at most {MOST_GRAPHS:,} rows and "
                f"{MOST_NUMBERS:,} labels are read; leave some out"
            )
        for column in tuple(labels):
            number = _number(row[column])
            if number is not None:
                labels[column].append(number)
            elif guessed:
                del labels[column]
            else:
                where = f"line {line}, column {header[column]!r}"
                raise DatasetError(f"{path}: {where}: {row[column][:40]!r} is no number; restore it")
    if not guessed or not lines:
        return Molecules(lines, texts, _matrix(labels), [])
    labels = {column: numbers for column, numbers in labels.items() if not all(map(math.isnan, numbers))}
    if not labels:
        raise DatasetError(f"{path}: no column of numbers beside {header[smiles]!r} to take labels from; add one")
    note = f"columns read as labels: {', '.join(header[column] for column in labels)}"
    return Molecules(lines, texts, _matrix(labels), [note])


def _matrix(labels: dict[int, array[float]]) -> np.ndarray:
    return np.stack([np.frombuffer(numbers) for numbers in labels.values()], axis=1)


def _published_columns(path: Path, header: list[str], layout: Layout) -> tuple[int, list[int]]:
    """Return the columns of SMILES and labels by their places, having checked what the place can tell."""
    labels = list(range(len(header)))[layout.labels]
    few = layout.labels.stop is not None and layout.labels.stop > 0 and layout.labels.stop > len(header)
    if few or not labels or not -len(header) <= layout.smiles < len(header):
        raise DatasetError(
            f"{path}: no column for every label among {', '.join(header)[:80]}; restore the published file"
        )
    if header[layout.smiles].lower() not in SMILES_COLUMNS:
        where = f"no column of SMILES: {header[layout.smiles]!r} stands in its place"
        raise DatasetError(f"{path}: {where}; restore the published file")
    return layout.smiles, labels


def _guessed_columns(path: Path, header: list[str]) -> tuple[int, list[int]]:
    """Return the column called like SMILES, and every other: those that hold numbers and blanks only are labels."""
    names = [name.lower() for name in header]
    smiles = next((names.index(name) for name in SMILES_COLUMNS if name in names), None)
    if smiles is None:
        raise DatasetError(f"{path}: no column called smiles or mol among {', '.join(header)[:80]}; rename one")
    return smiles, [column for column in range(len(header)) if column != smiles]


def _number(field: str) -> float | None:
    """Return a field's number, NaN for a blank one; None for one that is no number or that float32 cannot hold."""
    if not field.strip():
        return math.nan
    try:
        number = float(field)
    except ValueError:
        return None
    return None if abs(number) > LARGEST else number
