"""The rows of a molecule set's CSV file, with the line that each stands on.

The csv module rather than pandas: it knows the line of every row, also after quoted line ends and blank lines.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

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
    """The rows of a file: line number, SMILES and labels (NaN where blank) of each, and what to say of the columns."""

    lines: list[int]
    smiles: list[str]
    labels: list[list[float]]
    notes: list[str]


def read(path: Path, layout: Layout | None) -> Molecules:
    """Read the rows of a CSV file, blank lines apart.

    Raises:
        DatasetError: naming the file, and the line and column that cannot be read.
    """
    lines, rows = _rows(path)
    header = [name.strip() for name in rows.pop(0)]
    del lines[0]
    if not rows:
        raise DatasetError(f"{path}: no molecule after the header; restore it")
    notes: list[str] = []
    if layout:
        smiles, labels = _published_columns(path, header, layout)
    else:
        smiles, labels = _guessed_columns(path, header, rows)
        notes.append(f"columns read as labels: {', '.join(header[column] for column in labels)}")
    values = []
    for line, row in zip(lines, rows, strict=True):
        for column in labels:
            if not _numeric(row[column]):
                where = f"line {line}, column {header[column]!r}"
                raise DatasetError(f"{path}: {where}: {row[column][:40]!r} is no number; restore it")
        values.append([float(row[column]) if row[column].strip() else math.nan for column in labels])
    return Molecules(lines, [row[smiles] for row in rows], values, notes)


def _rows(path: Path) -> tuple[list[int], list[list[str]]]:
    """Return every row that is not blank, all of one length, and the line each ends on."""
    lines, rows = [], []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for row in reader:
                if any(field.strip() for field in row):
                    lines.append(reader.line_num)
                    rows.append(row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DatasetError(f"{path}: after line {reader.line_num}: no CSV text ({error}); restore it") from error
    if not rows:
        raise DatasetError(f"{path}: empty; restore it")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(rows[0]):
            raise DatasetError(f"{path}: line {line}: {len(row)} fields under {len(rows[0])} column names; restore it")
    return lines, rows


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


def _guessed_columns(path: Path, header: list[str], rows: list[list[str]]) -> tuple[int, list[int]]:
    """Return the column called like SMILES, and every other that holds numbers and blanks only."""
    names = [name.lower() for name in header]
    smiles = next((names.index(name) for name in SMILES_COLUMNS if name in names), None)
    if smiles is None:
        raise DatasetError(f"{path}: no column called smiles or mol among {', '.join(header)[:80]}; rename one")
    labels = [
        column
        for column in range(len(header))
        if column != smiles and all(_numeric(row[column]) for row in rows) and any(row[column].strip() for row in rows)
    ]
    if not labels:
        raise DatasetError(f"{path}: no column of numbers beside {header[smiles]!r} to take labels from; add one")
    return smiles, labels


def _numeric(field: str) -> bool:
    """Tell whether a field is blank, a finite number or NaN."""
    try:
        return not field.strip() or not math.isinf(float(field))
    except ValueError:
        return False
