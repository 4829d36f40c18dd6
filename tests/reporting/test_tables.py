"""Tables of any width: figures whole, columns that are missing named, rows that differ still different."""

from __future__ import annotations

import math
import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from gnncompress.reporting.render import for_people, terminal_tables
from gnncompress.reporting.tables import UNLIMITED, Column, fitted

WIDTHS = (40, 60, 80, 100, 200)
MORE = "--format csv"
SUMMARY = [
    Column("method", text=True),
    Column("sparsity"),
    Column("accuracy"),
    Column("setting", text=True),
    Column("latency", rank=2),
    Column("energy", rank=3),
    Column("CPU", rank=4),
]
ROWS = [
    (
        "fine-grained",
        "0.9",
        "0.736 ± 0.051",
        "finetune.epochs=100, recipe.learning_rate=0.0001",
        "2.32 ms",
        "1 J",
        "99%",
    ),
    ("global", "0.9", "0.9 ± 0.009", "", "12.32 ms", "1.23 mJ (rapl)", "100%"),
]


def shown(text: str) -> str:
    return " ".join(text.split())


def left_out(text: str) -> list[str]:
    found = re.search(r"left out: (.*); shown in a wider terminal, or by ", shown(text))
    return found[1].split(", ") if found else []


@pytest.mark.parametrize("width", WIDTHS)
def test_figures_stand_whole_or_are_named_as_left_out(width: int) -> None:
    text = fitted(SUMMARY, ROWS, width, MORE, ["dataset cora", "parameters 69,143"]).plain
    assert max(map(cell_len, text.splitlines())) <= width
    for place, column in enumerate(SUMMARY):
        if column.name in left_out(text):
            assert column.rank
        elif not column.text:
            assert all(any(row[place] in line for line in text.splitlines()) for row in ROWS), column.name
    assert "…" not in text
    assert "parameters 69,143" in text
    for number in ("0.0001", "=100"):
        assert number in text


def test_the_least_important_are_left_out_first_and_the_line_says_how_to_see_them() -> None:
    gone = [left_out(fitted(SUMMARY, ROWS, width, MORE).plain) for width in range(200, 50, -1)]
    assert [] in gone
    steps = [names for number, names in enumerate(gone) if number == 0 or names != gone[number - 1]]
    assert steps == [[], ["CPU"], ["energy", "CPU"], ["latency", "energy", "CPU"]]
    narrow = shown(fitted(SUMMARY, ROWS, 60, MORE).plain)
    assert narrow.endswith("left out: latency, energy, CPU; shown in a wider terminal, or by --format csv")


def test_a_table_that_cannot_fit_becomes_lines_of_name_and_value() -> None:
    text = fitted(SUMMARY, ROWS, 40, MORE).plain
    assert "accuracy  0.736 ± 0.051\n" in text
    assert "CPU       99%" in text
    assert left_out(text) == []
    assert "\n\nmethod    global\n" in text


def test_text_is_folded_at_spaces_then_at_signs_and_never_within_a_number_or_before_its_unit() -> None:
    columns = [Column("what", text=True), Column("seen", text=True)]
    seen = (
        "package-1 12.3 W (rapl), recipe.learning_rate=0.00015, x 7.487 (1.5e-14 to 7.968), 64 x 128, averyverylongname"
    )
    for width in range(24, 80):
        lines = fitted(columns, [("counters", seen)], width, MORE).plain.splitlines()
        assert max(map(cell_len, lines)) <= width
        for figure in ("12.3 W", "0.00015,", "x 7.487", "(1.5e-14", "7.968)", "64 x 128"):
            assert any(figure in line for line in lines), (width, figure)


def test_the_column_that_tells_rows_apart_stays() -> None:
    columns = [Column("method", text=True), Column("accuracy"), Column("CPU", rank=1), Column("energy", rank=9)]
    rows = [("global", "0.9", "100%", "1 J (rapl)"), ("global", "0.9", "100%", "1 J (estimated)")]
    text = fitted(columns, rows, 35, MORE).plain
    assert left_out(text) == ["CPU"]
    assert "1 J (estimated)" in text


def test_rows_that_differ_in_a_long_name_alone_are_told_apart() -> None:
    names = ["a-very-long-name-of-a-method-that-ends-in-one", "a-very-long-name-of-a-method-that-ends-in-two"]
    rows = [(name, "0.123456 ± 0.000001") for name in names]
    for width in (20, 30, *WIDTHS):
        text = fitted([Column("method", text=True), Column("accuracy")], rows, width, MORE).plain
        letters = re.sub(r"[^a-z]", "", text)
        assert letters.count("endsinone") == letters.count("endsintwo") == 1


def test_markup_wide_letters_and_line_ends_are_text() -> None:
    columns = [Column("model", text=True, styles={"[/]": "red"}), Column("n")]
    text = fitted(columns, [("[/]", "1"), ("[bold]图神经网络[/bold]", "2"), ("two\nlines", "3")], 40, MORE)
    assert text.plain.splitlines()[2:] == [
        "[/]                      1",
        "[bold]图神经网络[/bold]  2",
        "two lines                3",
    ]
    assert [span.style for span in text.spans if text.plain[span.start : span.end] == "[/]"] == ["red"]


def test_without_limit_nothing_is_folded_or_left_out() -> None:
    rows = [tuple(f"{row}.{column}" * 20 for column in range(50)) for row in range(3)]
    text = fitted([Column(str(name), text=name % 2 == 0, rank=name) for name in range(50)], rows, UNLIMITED, MORE).plain
    assert left_out(text) == []
    assert len(text.splitlines()) == 5


numbers = st.floats(1e-9, 1e12) | st.just(math.nan)
spreads = st.floats(0, 9) | st.just(math.nan)


@st.composite
def summaries(draw: st.DrawFn) -> pd.DataFrame:
    lines = []
    for number in range(draw(st.integers(1, 4))):
        source = draw(st.sampled_from(["rapl", "estimated", "unavailable"]))
        lines.append(
            {
                "dataset": draw(st.sampled_from(["cora", "digits"])),
                "task": draw(st.sampled_from(["node-classification", "link-prediction"])),
                "model": draw(st.sampled_from(["gcn", "my_models/networks.py:build_the_large_one"])),
                "method": draw(st.sampled_from(["none", "fine-grained", "quantize"])),
                "scheme": draw(st.sampled_from(["", "rate=1e-05", "qat-int8"])),
                "sparsity": draw(st.sampled_from([0.0, 0.5, 0.7902848, 0.99999991, 0.99999992])),
                "finetuned": draw(st.booleans()),
                "setting": draw(st.sampled_from(["", f"recipe.epochs={number}, split.kind=random"])),
                "seeds": draw(st.integers(1, 20)),
                "metric": "accuracy",
                "quality_mean": draw(st.floats(0, 1)),
                "quality_std": draw(spreads),
                "constant_mean": draw(spreads),
                "bits_weights": draw(st.floats(1, 32) | st.just(math.nan)),
                "energy_source": source,
                "collapsed_layers": draw(st.integers(0, 2)),
                "constant_runs": draw(st.integers(0, 2)),
                "diverged_runs": 0,
                **{
                    name: draw(numbers)
                    for name in (
                        *("parameters", "nonzero_parameters", "size_bytes", "size_ratio", "latency_s", "energy_j"),
                        *("cpu_percent", "memory_bytes", "bits_activations"),
                    )
                },
            }
        )
    return pd.DataFrame(lines)


@settings(deadline=None, max_examples=60)
@given(summaries(), st.sampled_from(WIDTHS))
def test_every_figure_of_a_summary_is_printed_in_full_with_its_unit(summary: pd.DataFrame, width: int) -> None:
    text = terminal_tables(summary, width).plain
    assert max(map(cell_len, text.splitlines())) <= width
    blocks = 0
    for _, part in summary.groupby(["dataset", "task", "model"], sort=False):
        blocks += 1
        readable = for_people(part, tasks=False)
        alone = terminal_tables(part, width).plain
        missing = left_out(alone)
        assert not {"method", "sparsity", "tuned", "setting", "accuracy"} & set(missing)
        lines = alone.splitlines()
        for name in set(readable.columns) - set(missing) - {"dataset", "model", "method", "setting", "note"}:
            for cell in readable[name]:
                assert any(re.search(rf"(?<![\w.]){re.escape(cell)}(?![\w.%])", line) for line in lines), (name, cell)
    assert text.count("accuracy") >= blocks


@given(st.floats(1e-9, 9.9e14), st.sampled_from(["s", "B", "J"]))
def test_a_value_with_a_prefix_keeps_three_digits(value: float, unit: str) -> None:
    from gnncompress.reporting.render import _si

    number, prefixed = _si(value, unit).split(" ")
    factor = {"n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[
        prefixed.removesuffix(unit)
    ]
    assert float(number) * factor == pytest.approx(value, rel=0.0051)
    assert "e" not in number, "1,000 of one prefix are 1 of the next"


def test_sparsities_that_six_digits_do_not_tell_apart_have_more() -> None:
    summary = pd.DataFrame({"sparsity": [0.99999991, 0.99999992]})
    from gnncompress.reporting.render import _digits

    assert _digits(summary["sparsity"]) == 8
    assert _digits(pd.Series([0.5, 0.7902848])) == 6
