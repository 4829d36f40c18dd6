from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.datasets import tables
from gnncompress.datasets.tables import table
from gnncompress.errors import DatasetError


def written(folder: Path, text: str) -> Path:
    path = folder / "numbers.txt"
    path.write_bytes(text.encode())
    return path


@given(
    rows=st.integers(1, 40).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=width, max_size=width), min_size=1, max_size=30
        )
    ),
    separator=st.sampled_from([",", ", ", " ,\t"]),
    end=st.sampled_from(["\n", "\r\n", " \n"]),
    rest=st.sampled_from(["", "\n", "\n\n \n"]),
)
@pytest.mark.parametrize(("block", "at_once"), [(7, 3), (tables.BLOCK, tables.AT_ONCE)])
def test_whole_numbers_come_back_in_parts_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    block: int,
    at_once: int,
    rows: list[list[int]],
    separator: str,
    end: str,
    rest: str,
) -> None:
    text = end.join(separator.join(map(str, row)) for row in rows) + rest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK", block)
        patch.setattr(tables, "AT_ONCE", at_once)
        found = table(written(tmp_path_factory.mktemp("table"), text), whole=True)
    assert found.dtype == np.int64
    assert found.tolist() == rows


def test_numbers_are_of_32_bits(tmp_path: Path) -> None:
    found = table(written(tmp_path, "0.1, 1e38\n-2, 3\n"), whole=False)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[0.1, 1e38], [-2, 3]], np.float32))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1\n2\nnan\n", 3),
        ("1\ninf\n", 2),
        ("1\n-inf\n", 2),
        ("1\n1e400\n", 2),
        ("1\n3.5e38\n", 2),
        ("1\nNA\n", 2),
        ("1\n\n2\n", 2),
        ("1\n,\n", 2),
        ("1\n2 3\n", 2),
        ("1\n0x10\n", 2),
        ('"1"\n2\n', 1),
        ("1\n2\x003\n", 2),
        ("1\n\x1f\x8b\x08\n", 2),
        ("1\n2;3\n", 2),
    ],
)
def test_what_is_no_number_is_named(tmp_path: Path, whole: bool, text: str, line: int) -> None:
    with pytest.raises(
        DatasetError, match=rf"numbers\.txt: line {line}: .* found where 1 .*number should be"
    ) as caught:
        table(written(tmp_path, text), whole)
    assert str(caught.value).isprintable()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**400])
def test_numbers_beyond_64_bits_are_named(tmp_path: Path, number: int) -> None:
    with pytest.raises(DatasetError, match=r"numbers\.txt: line 2: '-?\d{1,40}' found where 1 whole number should be"):
        table(written(tmp_path, f"1\n{number}\n"), whole=True)


def test_limits_of_lines_columns_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_NUMBERS", 12)
    monkeypatch.setattr(tables, "MOST_COLUMNS", 4)
    monkeypatch.setattr(tables, "MOST_LINE", 9)
    monkeypatch.setattr(tables, "BLOCK", 8)
    assert table(written(tmp_path, "1,2,3,4\n" * 3), whole=True).shape == (3, 4)
    with pytest.raises(DatasetError, match="4 lines of 4 numbers, at most 12 numbers are read; make it smaller"):
        table(written(tmp_path, "1,2,3,4\n" * 4), whole=True)
    with pytest.raises(DatasetError, match="5 columns, at most 4 are read; leave some out"):
        table(written(tmp_path, "1,2,3,4,5\n"), whole=True)
    assert table(written(tmp_path, "123456789\n" * 3), whole=True).shape == (3, 1)
    for before in (0, 1, 2):
        text = "1\n" * before + "1234567890\n1\n"
        with pytest.raises(DatasetError, match=rf"line {before + 1}: longer than 9 characters"):
            table(written(tmp_path, text), whole=True)
