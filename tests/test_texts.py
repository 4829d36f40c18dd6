from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.texts import inert, one_line, visible


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = visible(text)
    assert all(one.isprintable() or one in "\n\t" for one in shown)
    assert visible(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [/] ± µ 中", "plain [/] ± µ 中"),
        ("\x1b[31mred\x07\r", "\\x1b[31mred\\x07\\r"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202egnp\u2066", "\\u202egnp\\u2066"),
        ("bad\udcff", "bad\\udcff"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_one_line() -> None:
    assert one_line(ValueError("a\n  b\tc ")) == "a b c"


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1+2", "-x", "@SUM(1)", "  =1", "\t=1", "\uff1d1", "-", "=1"])
def test_what_a_spreadsheet_would_compute_is_inert(cell: str) -> None:
    assert inert(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "-5", "+1e-3", "-inf", "1-2", "gcn", "a=b", "'=1", "0.5"])
def test_numbers_and_names_stay_as_they_are(cell: str) -> None:
    assert inert(cell) == cell
