"""A summary as text: for people in rich, markdown and LaTeX, for programs in CSV and JSON with bare numbers."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from tabulate import tabulate

from gnncompress.texts import inert, visible

FORMATS = ("table", "markdown", "csv", "latex", "json")
_WIDE = 250
_TEXT = {"dataset", "model", "method", "tuned", "setting", "note"}
_WRAPPED = {"setting", "note"}
_ABOVE = ("dataset", "model", "parameters", "setting", "seeds", "energy")
# What is left out of a narrow terminal, first one first; it is in every other form.
_LEAST = ["CPU", "memory", "non-zero"]


def render(summary: pd.DataFrame, style: str) -> str:
    """Return ``summary`` as text in one of the ``FORMATS``."""
    if style == "table":
        console = Console(file=io.StringIO(), width=_WIDE, markup=False, emoji=False)
        with console.capture() as captured:
            console.print(rich_tables(summary, _WIDE))
        return captured.get()
    if style == "csv":
        return _for_spreadsheets(summary).to_csv(index=False, lineterminator="\n")
    if style == "json":
        records = summary.astype(object).where(summary.notna(), None).to_dict(orient="records")
        return json.dumps(records, indent=1) + "\n"
    readable = for_people(summary)
    form = {"markdown": "github", "latex": "latex_booktabs"}[style]
    cells = readable.to_numpy().tolist()
    return tabulate(cells, headers=list(readable.columns), tablefmt=form, disable_numparse=True) + "\n"


def rich_tables(summary: pd.DataFrame, width: int) -> Group:
    """Return ``summary`` for a terminal of ``width`` columns, one table for each data set and model.

    What is the same in every row stands above its table. Where the rest is still too wide, the last figures are
    left out and the caption says so.
    """
    parts = summary.groupby(["dataset", "task", "model"], sort=False)
    return Group(*(_rich_table(part, width) for _, part in parts))


def _rich_table(summary: pd.DataFrame, width: int) -> Table:
    readable = for_people(summary)
    same = [name for name in _ABOVE if name in readable and readable[name].nunique() == 1]
    title = ", ".join(f"{name} {readable[name].iloc[0]}" for name in same)
    console = Console(width=_WIDE, markup=False, emoji=False)
    for count in range(len(_LEAST) + 1):
        table = _build(readable.drop(columns=same), title, _LEAST[:count])
        if Measurement.get(console, console.options, table).maximum <= width:
            break
    return table


def _build(readable: pd.DataFrame, title: str, left_out: list[str]) -> Table:
    shown = readable.drop(columns=left_out)
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title, title_justify="left", title_style="bold"
    )
    if left_out:
        table.caption = f"{' and '.join(left_out)} left out: widen the terminal, or use report --format csv"
        table.caption_justify = "left"
    for column in shown.columns:
        justify: JustifyMethod = "left" if column in _TEXT else "right"
        table.add_column(column, justify=justify, no_wrap=column not in _WRAPPED, overflow="fold")
    for line in shown.itertuples(index=False):
        table.add_row(*line)
    return table


def for_people(summary: pd.DataFrame) -> pd.DataFrame:
    """Return ``summary`` with units and ± in the cells, columns that say nothing left out."""
    metrics = summary["metric"].unique()
    columns: dict[str, Callable[[pd.Series], str]] = {
        "dataset": lambda row: row["dataset"],
        "model": lambda row: row["model"],
        "method": lambda row: row["method"] + (f" {row['scheme']}" if row["scheme"] else ""),
        "sparsity": lambda row: f"{row['sparsity']:g}",
        "tuned": lambda row: "yes" if row["finetuned"] else "no",
        "setting": lambda row: row["setting"],
        "seeds": lambda row: str(row["seeds"]),
        metrics[0] if len(metrics) == 1 else "quality": lambda row: _quality(row, named=len(metrics) > 1),
        "majority": lambda row: _known(row["majority_mean"], ".3f"),
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
    return readable.drop(columns=[name for name in ("setting", "note", "bits w/a") if not readable[name].any()])


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
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
