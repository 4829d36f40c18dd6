"""A summary as text: for people in rich, markdown and LaTeX, for programs in CSV and JSON with bare numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pandas as pd
from rich.text import Text
from tabulate import tabulate

from gnncompress.reporting.tables import UNLIMITED, Column, fitted
from gnncompress.texts import inert, visible

FORMATS = ("table", "markdown", "csv", "latex", "json")
_TEXT = {"dataset", "task", "model", "method", "tuned", "setting", "note"}
_ABOVE = ("dataset", "task", "model", "parameters", "setting", "seeds", "energy")
# What a narrow terminal may do without, the last one first; what tells rows apart and the quality always stay.
_OPTIONAL = (
    *("note", "seeds", "size", "latency", "energy", "ratio", "bits w/a"),
    *("constant", "parameters", "non-zero", "memory", "CPU"),
)


_PREFIXES = (
    *((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")),
    *((1e-3, "m"), (1e-6, "µ"), (1e-9, "n")),
)


def render(summary: pd.DataFrame, style: str) -> str:
    """Return ``summary`` as text in one of the ``FORMATS``."""
    if style == "table":
        return f"{terminal_tables(summary, UNLIMITED)}\n"
    if style == "csv":
        return _for_spreadsheets(summary).to_csv(index=False, lineterminator="\n")
    if style == "json":
        records = summary.astype(object).where(summary.notna(), None).to_dict(orient="records")
        return json.dumps(records, indent=1) + "\n"
    readable = for_people(summary)
    form = {"markdown": "github", "latex": "latex_booktabs"}[style]
    cells = readable.to_numpy().tolist()
    return tabulate(cells, headers=list(readable.columns), tablefmt=form, disable_numparse=True) + "\n"


def terminal_tables(summary: pd.DataFrame, width: int) -> Text:
    """Return ``summary`` for a terminal of ``width`` columns, one table for each data set, task and model.

    What is the same in every row stands above its table. Columns that do not fit are left out, and named below.
    """
    tasks = _tasks_tell_apart(summary)
    parts = summary.groupby(["dataset", "task", "model"], sort=False)
    return Text("\n\n").join(_terminal_table(for_people(part, tasks), width) for _, part in parts)


def _terminal_table(readable: pd.DataFrame, width: int) -> Text:
    same = [name for name in _ABOVE if name in readable and readable[name].nunique() == 1]
    title = [f"{name} {readable[name].iloc[0]}" for name in same]
    shown = readable.drop(columns=same)
    columns = [Column(name, text=name in _TEXT, rank=_rank(name)) for name in shown.columns]
    return fitted(columns, shown.to_numpy().tolist(), width, "gnncompress report --format csv or json", title)


def _rank(name: str) -> int:
    return _OPTIONAL.index(name) + 1 if name in _OPTIONAL else 0


def _tasks_tell_apart(summary: pd.DataFrame) -> bool:
    """Say whether there are rows that only their task tells apart from those of other models and data sets."""
    pairs = summary[["dataset", "task", "model"]].drop_duplicates()
    return bool(pairs.duplicated(["dataset", "model"]).any())


def for_people(summary: pd.DataFrame, tasks: bool | None = None) -> pd.DataFrame:
    """Return ``summary`` with units and ± in the cells, columns that say nothing left out.

    ``tasks``: whether there is a column of tasks; None: where a data set and model have several.
    """
    metrics = summary["metric"].unique()
    digits = _digits(summary["sparsity"])
    columns: dict[str, Callable[[pd.Series], str]] = {
        "dataset": lambda row: row["dataset"],
        "task": lambda row: row["task"],
        "model": lambda row: row["model"],
        "method": lambda row: row["method"] + (f" {row['scheme']}" if row["scheme"] else ""),
        "sparsity": lambda row: f"{row['sparsity']:.{digits}g}",
        "tuned": lambda row: "yes" if row["finetuned"] else "no",
        "setting": lambda row: row["setting"],
        "seeds": lambda row: str(row["seeds"]),
        metrics[0] if len(metrics) == 1 else "quality": lambda row: _quality(row, named=len(metrics) > 1),
        "constant": lambda row: _known(row["constant_mean"], ".3f"),
        "parameters": lambda row: _known(row["parameters"], ",.0f"),
        "non-zero": lambda row: _known(row["nonzero_parameters"], ",.0f"),
        "bits w/a": _bits,
        "size": lambda row: _si(row["size_bytes"], "B"),
        "ratio": lambda row: _known(row["size_ratio"], ".2f", "x"),
        "latency": lambda row: _si(row["latency_s"], "s"),
        "energy": _energy,
        "CPU": lambda row: _known(row["cpu_percent"], ".0f", "%"),
        "memory": lambda row: _si(row["memory_bytes"], "B"),
        "note": _note,
    }
    cells = [{name: visible(cell(row)) for name, cell in columns.items()} for _, row in summary.iterrows()]
    readable = pd.DataFrame(cells, columns=list(columns))
    unneeded = [name for name in ("setting", "note", "bits w/a") if not readable[name].any()]
    if not (_tasks_tell_apart(summary) if tasks is None else tasks):
        unneeded.append("task")
    return readable.drop(columns=unneeded)


def _digits(levels: pd.Series) -> int:
    """Return how many digits, at least 6, tell sparsities apart, from each other and from 1."""
    different = set(levels)
    return next(
        (
            digits
            for digits in range(6, 17)
            if len({f"{level:.{digits}g}" for level in {*different, 1.0}}) > len(different)
        ),
        17,
    )


def _for_spreadsheets(summary: pd.DataFrame) -> pd.DataFrame:
    """Return ``summary`` with its texts printable, and with an apostrophe before those that look like formulas."""
    return summary.map(lambda cell: inert(visible(cell)) if isinstance(cell, str) else cell)


def _quality(row: pd.Series, named: bool) -> str:
    name = f"{row['metric']} " if named else ""
    spread = "" if math.isnan(row["quality_std"]) else f" ± {row['quality_std']:.3f}"
    return f"{name}{_known(row['quality_mean'], '.3f')}{spread}"


def _bits(row: pd.Series) -> str:
    """Return the mean bits of weights and of activations; nothing for a model in floats."""
    if math.isnan(row["bits_weights"]):
        return ""
    return f"{row['bits_weights']:.1f}/{_known(row['bits_activations'], '.1f')}"


def _energy(row: pd.Series) -> str:
    if row["energy_source"] == "unavailable":
        return "unavailable"
    return f"{_si(row['energy_j'], 'J')} ({row['energy_source']})"


def _note(row: pd.Series) -> str:
    notes = {
        f"{row['collapsed_layers']:g} collapsed": row["collapsed_layers"] > 0,
        f"predicts one class ({row['constant_runs']} of {row['seeds']})": row["constant_runs"] > 0,
        f"diverged ({row['diverged_runs']} of {row['seeds']})": row["diverged_runs"] > 0,
    }
    return "; ".join(note for note, holds in notes.items() if holds)


def _known(value: float, form: str, unit: str = "") -> str:
    """Return a value in the form asked for; an absent one says so."""
    return "unavailable" if math.isnan(value) else f"{value:{form}}{unit}"


def _si(value: float, unit: str) -> str:
    """Return a value with an SI prefix and three significant digits; an absent one says so."""
    if math.isnan(value):
        return "unavailable"
    rounded = float(f"{value:.3g}")
    for factor, prefix in _PREFIXES:
        if abs(rounded) >= factor:
            return f"{rounded / factor:.3g} {prefix}{unit}"
    return f"{rounded:.3g} {unit}"
