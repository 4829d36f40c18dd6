"""Tables for a terminal of any width: text folds, figures never do, and columns that do not fit are named below."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, chop_cells
from rich.text import Text

from gnncompress.texts import one_line, visible

UNLIMITED = 10_000
_GAP = 2
# Columns of text are not narrower than the first while others can be left out, and never narrower than the second.
_EASY, _NARROW = 12, 8
_UNIT = r"(?:[TGMkmµn]?(?:s|J|W|B|g)|bytes|%)(?!\w)"
# Where a space may not become the end of a line: within a figure, its sign and its unit.
_WITHIN = re.compile(rf"(?<=\d) (?={_UNIT}|[±x] ?\d)|(?<=±) (?=\d)|\b(?<=x) (?=\d)")
_DIGITS = r"\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?(?:[^\W\d_]{1,5}|%)?(?![^\W_])"
_NUMBER = rf"(?:x\u00a0)?[-+±]?\u00a0?{_DIGITS}(?:\u00a0[±x]\u00a0{_DIGITS})*(?:\u00a0{_UNIT})?"
# What a word that is too long may be broken between: numbers with what belongs to them, names, other characters.
_TOKEN = re.compile(rf"(?<![^\W_])[(\[]?{_NUMBER}[)\],;:]*|[^\W_]+[)\],;:]*|.", re.DOTALL)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    ``text`` is folded where space is short, a figure never. Columns of a higher ``rank`` are left out first, those of
    rank 0 never. ``styles`` are rich's, for cells that are exactly so.
    """

    name: str
    text: bool = False
    rank: int = 0
    styles: Mapping[str, str] = field(default_factory=dict)


def fitted(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int, more: str, title: Sequence[str] = ()
) -> Text:
    """Return a table of at most ``width`` columns, below the items of its ``title``.

    Where it is too wide, columns of text are folded, then columns are left out, those of a higher rank first, as long
    as no two rows become alike; a line below names them and says by which option, ``more``, they are shown. If what
    is left is still too wide, every row is printed as lines of name and value, and nothing is left out. A line is
    longer than ``width`` only where a single figure is.
    """
    cells = [[_glued(cell) for cell in row] for row in rows]
    above = [Text(line, "bold") for line in _packed([_glued(item) for item in title], width)]
    if above:
        above.append(Text())
    kept = list(range(len(columns)))
    order = sorted((place for place in kept if columns[place].rank), key=lambda place: (-columns[place].rank, -place))
    widths = _widths(columns, cells, kept, width, _EASY)
    while widths is None:
        gone = next((place for place in order if place in kept and _distinct(cells, kept, place)), None)
        if gone is None:
            break
        kept.remove(gone)
        widths = _widths(columns, cells, kept, width, _EASY)
    widths = widths or _widths(columns, cells, kept, width, _NARROW)
    if widths is None:
        return _joined([*above, *_records(columns, cells, width)])
    lines = [
        *above,
        *_table([columns[place] for place in kept], [[row[place] for place in kept] for row in cells], widths),
    ]
    left_out = [column.name for place, column in enumerate(columns) if place not in kept]
    if left_out:
        said = f"left out: {', '.join(left_out)}; shown in a wider terminal, or by {more}"
        lines += [Text(), *(Text(line, "italic") for line in _wrapped(_glued(said), width))]
    return _joined(lines)


def _glued(text: str) -> str:
    """Return ``text`` on one line, printable, with spaces that may not end a line made hard."""
    return _WITHIN.sub("\u00a0", one_line(visible(text)))


def _joined(lines: Iterable[Text]) -> Text:
    whole = Text("\n", no_wrap=True, overflow="ignore").join(lines)
    whole.plain = whole.plain.replace("\u00a0", " ")
    return whole


def _distinct(cells: list[list[str]], kept: list[int], without: int) -> bool:
    """Say whether rows that differ do so still without a column."""
    fewer = {tuple(row[place] for place in kept if place != without) for row in cells}
    return len(fewer) == len({tuple(row[place] for place in kept) for row in cells})


def _widths(
    columns: Sequence[Column], cells: list[list[str]], kept: list[int], width: int, least: int
) -> list[int] | None:
    """Return how wide the columns in ``kept`` are, those of text ``least`` or what they need; None if too wide."""
    narrow, wide = [], []
    for place in kept:
        texts = [row[place] for row in cells]
        heading = max((cell_len(word) for word in _glued(columns[place].name).split(" ")), default=0)
        full = max([heading, *map(cell_len, texts)])
        wide.append(full)
        narrow.append(max([heading, *(_narrowest(text, least) for text in texts)]) if columns[place].text else full)
    spare = width - sum(narrow) - _GAP * (len(kept) - 1)
    if spare < 0:
        return None
    wanted = [most - fewest for most, fewest in zip(wide, narrow, strict=True)]
    if sum(wanted) <= spare:
        return wide
    return [fewest + spare * want // sum(wanted) for fewest, want in zip(narrow, wanted, strict=True)]


def _narrowest(text: str, least: int) -> int:
    """Return how narrow a column of ``text`` may be: ``least``, its longest word, or what no line may end in."""
    words = [min(cell_len(word), least) for word in text.split(" ")]
    return max([*words, *(cell_len(token) for token in _TOKEN.findall(text) if _whole(token))])


def _whole(token: str) -> bool:
    return any(letter.isdigit() for letter in token)


def _wrapped(text: str, width: int) -> list[str]:
    """Return ``text`` in lines of at most ``width``, longer only where a single figure is."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        for token in [word] if cell_len(word) <= width else _TOKEN.findall(word):
            for piece in [token] if _whole(token) else chop_cells(token, max(width, 2)):
                if lines[-1] and cell_len(lines[-1]) + cell_len(piece) > width:
                    lines.append("")
                lines[-1] += piece
    return lines


def _packed(items: Sequence[str], width: int) -> list[str]:
    """Return items with commas between them in lines that end between two of them where they can."""
    lines: list[str] = []
    for number, item in enumerate(items, start=1):
        said = item if number == len(items) else f"{item},"
        if lines and cell_len(lines[-1]) + 1 + cell_len(said) <= width:
            lines[-1] += f" {said}"
        else:
            lines += _wrapped(said, width)
    return lines


def _table(columns: Sequence[Column], cells: list[list[str]], widths: Sequence[int]) -> list[Text]:
    heading = _row(columns, [_glued(column.name) for column in columns], widths)
    for line in heading:
        line.stylize("bold")
    rule = Text("─" * (sum(widths) + _GAP * (len(widths) - 1)))
    return [*heading, rule, *(line for row in cells for line in _row(columns, row, widths))]


def _row(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> list[Text]:
    parts = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
    lines = []
    for number in range(max(map(len, parts))):
        line = Text()
        for column, cell, part, width in zip(columns, row, parts, widths, strict=True):
            piece = part[number] if number < len(part) else ""
            space = " " * (width - cell_len(piece))
            styled = (piece, column.styles.get(cell, ""))
            line.append(" " * _GAP if line else "")
            line.append_text(Text.assemble(styled, space) if column.text else Text.assemble(space, styled))
        line.rstrip()
        lines.append(line)
    return lines


def _records(columns: Sequence[Column], cells: list[list[str]], width: int) -> list[Text]:
    """Return every row as lines of a column's name and its value, where it has one, an empty line between rows."""
    names = max(cell_len(column.name) for column in columns) + _GAP
    lines = []
    for row in cells:
        for column, cell in zip(columns, row, strict=True):
            if not cell:
                continue
            start, indent = column.name + " " * (names - cell_len(column.name)), names
            if names + (_narrowest(cell, _NARROW) if column.text else cell_len(cell)) > width:
                lines.append(Text(column.name))
                start, indent = "", 0
            for value in _wrapped(cell, width - indent):
                lines.append(Text.assemble(start, (value, column.styles.get(cell, ""))))
                start = " " * indent
        lines.append(Text())
    return lines[:-1]
