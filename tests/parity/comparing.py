"""What two versions left behind, compared: rows, tensors, printed text and files. Pure functions, no torch."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

# What is measured, and therefore another number in every run: of such a figure only its presence, unit and source are
# compared. THE list: all that is not named here must be equal byte for byte. A row is measured by its unit or its name,
# a field of JSON or a column of a table by its name.
MEASURED_UNITS = frozenset({"s", "J", "W", "items/s", "percent", "g", "switches"})
MEASURED_NAMES = (
    *("duration", "*_duration", "latency_*", "throughput"),
    *("cpu", "cpu_percent", "cpu_foreign", "energy_cpu_foreign", "context_switches_*"),
    *("memory_baseline", "memory_peak", "memory_peak_*", "memory_bytes", "gpu_memory_peak", "gpu_utilization"),
    *("energy", "energy_j", "energy_window", "energy_repetitions", "energy_spread*", "power*", "co2*"),
    *("repetitions", "warmup"),  # as many calls as fit into a window
)
# Measured figures that a short window may not yield, so that their source is measured or unavailable by chance.
BY_CHANCE = ("cpu_foreign", "energy_cpu_foreign")
# Names of runs, and the internal form of what a run was: another version may have others.
INTERNAL_FIELDS = frozenset({"run_id", "spec"})
# Lines on standard error, and notes, that depend on what else the machine did meanwhile.
NOISE = ("other processes took more than", "calls were not yet stable")

MEASURED = "<measured>"
LABELS = ("dataset", "task", "model", "method", "scheme", "sparsity", "finetuned", "seed")
PLACE = ("phase", "layer", "metric")
COLUMNS = ("run_id", *LABELS, *PLACE, "value", "unit", "source")

Row = Mapping[str, str]


@dataclass(frozen=True)
class Tensor:
    """A tensor of a packed model: its name, dtype and shape, and the SHA-256 of its bytes (so that NaN equals NaN)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str


@dataclass(frozen=True)
class Run:
    """A finished run: its labels, its rows as text in the file's order, and the tensors of its model if it has one."""

    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    tensors: tuple[Tensor, ...] | None

    def __str__(self) -> str:
        named = zip(LABELS, self.labels, strict=True)
        return " ".join(f"{name} {value}" if name == "seed" else value for name, value in named if value)


@dataclass(frozen=True)
class Done:
    """What one command did. ``out`` and ``err`` are what it printed, ``runs`` the runs that it made or changed."""

    code: int
    out: str
    err: str
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Difference:
    """One thing that differs. ``item`` says what: run, row, model, tensor, out, err, exit or file.

    ``kind`` is value, only-old or only-new; ``place`` is phase/metric of a row, a tensor's name, a field, or a file's
    name; ``run`` are the labels of its run.
    """

    spec: str
    command: int
    item: str
    kind: str
    place: str
    old: str = ""
    new: str = ""
    run: str = ""

    def __str__(self) -> str:
        where = f"{self.spec}[{self.command}] {self.item} {self.place}" + (f" of {self.run}" if self.run else "")
        said = {"value": f"{self.old} -> {self.new}", "only-old": f"only old: {self.old}"}
        return f"{where}: {said.get(self.kind, f'only new: {self.new}')}"


@dataclass
class Compared:
    """What has been compared of a spec, and the differences found."""

    differences: list[Difference] = field(default_factory=list)
    runs: int = 0
    rows: int = 0
    tensors: int = 0
    lines: int = 0

    def add(self, other: Compared) -> None:
        """Add what was compared elsewhere."""
        self.differences += other.differences
        self.runs += other.runs
        self.rows += other.rows
        self.tensors += other.tensors
        self.lines += other.lines


def is_measured(name: str, unit: str = "") -> bool:
    """Say whether a figure of this name and unit is another one in every run."""
    return unit in MEASURED_UNITS or any(fnmatchcase(name, pattern) for pattern in MEASURED_NAMES)


def run_of(rows: Sequence[Row], tensors: tuple[Tensor, ...] | None) -> Run:
    """Return the run whose results.csv has ``rows``.

    Raises:
        ValueError: if there are none, or they are of several runs.
    """
    labels = {tuple(row[name] for name in LABELS) for row in rows}
    if len(labels) != 1:
        raise ValueError(f"the rows have {len(labels)} different sets of {', '.join(LABELS)}, not one")
    return Run(labels.pop(), tuple(rows), tensors)


def compare_commands(spec: str, number: int, old: Done, new: Done, shows: str, tells: bool) -> Compared:
    """Compare what command ``number`` of a spec did: exit code, runs, standard output, and with ``tells`` errors too.

    ``shows`` is the form of its output: text, json, csv or nothing.
    """
    found = Compared()
    if old.code != new.code:
        found.differences.append(Difference(spec, number, "exit", "value", "code", str(old.code), str(new.code)))
    found.add(compare_documents(Difference(spec, number, "out", "", ""), shows, old.out, new.out))
    if tells:
        found.add(compare_documents(Difference(spec, number, "err", "", ""), "text", old.err, new.err))
    found.add(compare_runs(spec, number, old.runs, new.runs))
    return found


# ---------------------------------------------------------------------------------------------------- runs and rows


def compare_runs(spec: str, number: int, old: Sequence[Run], new: Sequence[Run]) -> Compared:
    """Match runs by their labels and compare their rows and tensors.

    Of several with the same labels those that are equal belong together; the rest is matched in order.
    """
    found = Compared()
    for labels in dict.fromkeys(run.labels for run in [*old, *new]):
        olds = [run for run in old if run.labels == labels]
        news = [run for run in new if run.labels == labels]
        for one, other in _pairs(olds, news):
            found.add(_compare_pair(spec, number, one, other))
    return found


def _pairs(olds: list[Run], news: list[Run]) -> Iterator[tuple[Run | None, Run | None]]:
    left = list(olds)
    unmatched = []
    for new in news:
        equal = next((old for old in left if not _compare_pair("", 0, old, new).differences), None)
        if equal is None:
            unmatched.append(new)
        else:
            left.remove(equal)
            yield equal, new
    for place in range(max(len(left), len(unmatched))):
        yield left[place] if place < len(left) else None, unmatched[place] if place < len(unmatched) else None


def _compare_pair(spec: str, number: int, old: Run | None, new: Run | None) -> Compared:
    if old is None or new is None:
        one = new if old is None else old
        assert one is not None
        said = f"{len(one.rows)} rows" + ("" if one.tensors is None else f", {len(one.tensors)} tensors")
        kind = "only-new" if old is None else "only-old"
        return Compared([Difference(spec, number, "run", kind, one.labels[3], said, said, str(one))])
    found = Compared(runs=1)
    found.add(_compare_rows(Difference(spec, number, "row", "", "", run=str(old)), old.rows, new.rows))
    at = Difference(spec, number, "tensor", "", "", run=str(old))
    if (old.tensors is None) != (new.tensors is None):
        kind = "only-new" if old.tensors is None else "only-old"
        found.differences.append(_at(at, kind, "model.safetensors", "a model", "a model", item="model"))
    elif old.tensors is not None and new.tensors is not None:
        found.add(compare_tensors(at, old.tensors, new.tensors))
    return found


def _compare_rows(at: Difference, old: Sequence[Row], new: Sequence[Row]) -> Compared:
    """Match rows by phase, layer and metric, duplicates in order, and compare value, unit and source as text."""
    found = Compared()
    olds, news = _numbered(old), _numbered(new)
    for key in dict.fromkeys([*olds, *news]):
        one, other = olds.get(key), news.get(key)
        place = key[0]
        if one is None or other is None:
            kind = "only-new" if one is None else "only-old"
            found.differences.append(_at(at, kind, place, _figure(one), _figure(other)))
            continue
        found.rows += 1
        if _compared(one) != _compared(other):
            found.differences.append(_at(at, "value", place, _figure(one), _figure(other)))
    return found


def _numbered(rows: Sequence[Row]) -> dict[tuple[str, int], Row]:
    seen: dict[str, int] = {}
    numbered = {}
    for row in rows:
        place = f"{row['phase']}/{row['metric']}" + (f" ({row['layer']})" if row["layer"] else "")
        seen[place] = seen.get(place, 0) + 1
        numbered[place, seen[place]] = row
    return numbered


def _compared(row: Row) -> tuple[str, str, str]:
    value, source = row["value"], row["source"]
    if is_measured(row["metric"], row["unit"]):
        if row["metric"] in BY_CHANCE and source in ("measured", "unavailable"):
            value, source = "", "measured or unavailable"
        value = MEASURED if value else ""
    return value, row["unit"], source


def _figure(row: Row | None) -> str:
    return "" if row is None else f"{row['value'] or 'nothing'} {row['unit']} ({row['source']})"


def compare_tensors(at: Difference, old: Sequence[Tensor], new: Sequence[Tensor]) -> Compared:
    """Match tensors by name, and compare dtype, shape and bytes."""
    found = Compared()
    olds, news = ({tensor.name: tensor for tensor in tensors} for tensors in (old, new))
    for name in dict.fromkeys([*olds, *news]):
        one, other = olds.get(name), news.get(name)
        if one is None or other is None:
            kind = "only-new" if one is None else "only-old"
            found.differences.append(_at(at, kind, name, _form(one), _form(other)))
            continue
        found.tensors += 1
        if one != other:
            bits = _form(one) == _form(other)
            olden, newer = (f"bytes {tensor.digest[:12]}" if bits else _form(tensor) for tensor in (one, other))
            found.differences.append(_at(at, "value", name, olden, newer))
    return found


def _form(tensor: Tensor | None) -> str:
    return "" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"


# ------------------------------------------------------------------------------------------------ text, JSON and CSV


def compare_documents(at: Difference, form: str, old: str, new: str) -> Compared:
    """Compare what was printed or written: text line by line after masking, JSON and CSV field by field.

    A document that is no JSON although it should be is a difference of its own, not an error.
    """
    if form == "nothing":
        return Compared()
    if form == "text":
        return _compare_lines(at, masked_lines(old), masked_lines(new))
    flat = {"json": json_fields, "csv": csv_fields}[form]
    try:
        return _compare_fields(at, flat(old), flat(new))
    except ValueError as error:
        return Compared([_at(at, "value", f"no {form}", str(error), "")])


def _compare_lines(at: Difference, old: Sequence[str], new: Sequence[str]) -> Compared:
    found = Compared(lines=min(len(old), len(new)))
    for _, start, stop, begin, end in _changed(old, new):
        for place in range(max(stop - start, end - begin)):
            one = old[start + place] if start + place < stop else None
            other = new[begin + place] if begin + place < end else None
            kind = "only-new" if one is None else "only-old" if other is None else "value"
            line = start + place + 1 if one is not None else begin + place + 1
            found.differences.append(_at(at, kind, _joined(at, f"line {line}"), one or "", other or ""))
    return found


def _changed(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return (block for block in matcher.get_opcodes() if block[0] != "equal")


def _compare_fields(at: Difference, old: Mapping[str, str], new: Mapping[str, str]) -> Compared:
    found = Compared()
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            kind = "only-new" if name not in old else "only-old"
            found.differences.append(_at(at, kind, _joined(at, name), old.get(name, ""), new.get(name, "")))
            continue
        found.lines += 1
        if old[name] != new[name]:
            found.differences.append(_at(at, "value", _joined(at, name), old[name], new[name]))
    return found


_QUANTITY = re.compile(r"(?<![\w.])[-+]?[\d,]*\.?\d+(?:e[-+]?\d+)? ?\\?(?:[kMGTmµn]?(?:s|B|J|W|Wh|g)|%)(?![\w/])")
_RUN_ID = re.compile(r"\b[0-9a-f]{16}\b")
_RULE = re.compile(r"[-─=|:+]{3,}")


def masked_lines(text: str) -> list[str]:
    """Return the lines of a printed text without what may differ: measured quantities, names of runs, widths, noise.

    Quantities with a unit (3.77 ms, 16.5 MB, 99%) are all masked, sizes too, which rows and JSON compare exactly. Empty
    lines are left out.
    """
    lines = (_masked(line) for line in text.splitlines() if not any(noise in line for noise in NOISE))
    return [line for line in lines if line]


def _masked(line: str) -> str:
    line = _RUN_ID.sub("<run>", _QUANTITY.sub(MEASURED, line))
    return " ".join(_RULE.sub("---", line).split())


def json_fields(text: str) -> dict[str, str]:
    """Return the leaves of a JSON document by their paths, each as JSON text, measured ones masked.

    Raises:
        ValueError: if it is no JSON.
    """
    return dict(_leaves(json.loads(text), ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        measured = is_measured(str(value.get("metric", "")), str(value.get("unit", "")))
        for name, inner in value.items():
            if name in INTERNAL_FIELDS:
                continue
            if measured and name not in ("metric", "unit", "source", "kind"):
                yield f"{path}/{name}", MEASURED
            elif is_measured(name.rpartition(".")[2]) and not isinstance(inner, (dict, list)):
                chance = name.rpartition(".")[2] in BY_CHANCE
                yield f"{path}/{name}", MEASURED if inner is not None or chance else "null"
            else:
                yield from _leaves(inner, f"{path}/{name}")
    elif isinstance(value, list):
        kept = [one for one in value if not (isinstance(one, str) and any(noise in one for noise in NOISE))]
        for number, inner in enumerate(kept):
            yield from _leaves(inner, f"{path}/{number}")
    elif isinstance(value, str):
        yield path, json.dumps(_RUN_ID.sub("<run>", value), ensure_ascii=False)
    else:
        yield path, json.dumps(value)


def csv_fields(text: str) -> dict[str, str]:
    """Return the cells of a CSV table by row and column, measured ones masked.

    A column is measured by its name; where there is a column metric, value is by the row's metric and unit.

    Raises:
        ValueError: if there is no head.
    """
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if not text.strip():
        raise ValueError("there is no head")
    fields = {}
    for number, row in enumerate(rows, start=1):
        if "metric" in row and "value" in row:
            row["value"], row["unit"], row["source"] = _compared(row)
        for name, cell in row.items():
            if name not in INTERNAL_FIELDS:
                fields[f"row {number}/{name}"] = MEASURED if cell and is_measured(str(name)) else str(cell)
    return fields


def parse_rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a results.csv, every cell as the file's text.

    Raises:
        ValueError: if the columns are others.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = list(reader)
    if tuple(reader.fieldnames or ()) != COLUMNS or any(None in row or None in row.values() for row in rows):
        raise ValueError(f"the columns are not {','.join(COLUMNS)} in every row")
    return rows


def _at(at: Difference, kind: str, place: str, old: str, new: str, item: str = "") -> Difference:
    return Difference(at.spec, at.command, item or at.item, kind, place, old, new, at.run)


def _joined(at: Difference, place: str) -> str:
    return f"{at.place}/{place.lstrip('/')}" if at.place else place.lstrip("/")
