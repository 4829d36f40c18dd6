"""Rows appended to a CSV file: whole, with a header, and only to a file that is ours."""

from __future__ import annotations

import csv
import os
import tempfile
import threading
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from gnncompress.errors import ResultsError, UsageError
from gnncompress.measurements import COLUMNS, Measurement
from gnncompress.profiling import records
from gnncompress.profiling.records import append_rows, insist_on_writable

ROWS = [
    Measurement("train", "duration", 1.5, "s"),
    Measurement("train", "energy", None, "J", "unavailable"),
]
HEADER = "run_id,dataset,task,model,method,scheme,sparsity,finetuned,seed,phase,layer,metric,value,unit,source\n"


def test_a_new_file_has_a_header_and_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "new" / "costs.csv"
    run_id = append_rows(file, "baseline", ROWS)
    assert len(run_id) == 16
    assert file.read_text() == (
        HEADER
        + f"{run_id},,,baseline,profile,,0.0,false,0,train,,duration,1.5,s,measured\n"
        + f"{run_id},,,baseline,profile,,0.0,false,0,train,,energy,,J,unavailable\n"
    )
    assert HEADER.strip().split(",") == list(COLUMNS)


def test_rows_are_appended_under_an_id_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "costs.csv"
    ids = [append_rows(file, label, ROWS) for label in ("a", "b, with a comma", "c")]
    assert len(set(ids)) == 3
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["run_id"], row["model"]) for row in rows] == [
        (run_id, label) for run_id, label in zip(ids, ("a", "b, with a comma", "c"), strict=True) for _ in ROWS
    ]
    assert file.read_text().count("run_id") == 1


def test_a_file_whose_last_line_has_no_end_gets_one(tmp_path: Path) -> None:
    file = tmp_path / "costs.csv"
    append_rows(file, "a", ROWS)
    file.write_text(file.read_text().rstrip("\n"))
    append_rows(file, "b", ROWS)
    assert list(pd.read_csv(file)["model"]) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_a_file_whose_last_row_is_cut_is_refused(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "costs.csv"
    append_rows(file, "a", ROWS)
    file.write_text(file.read_text().rstrip("\n")[:-cut])
    with pytest.raises(ResultsError, match=r"costs\.csv: its last row is cut off"):
        append_rows(file, "b", ROWS)


def test_what_is_no_plain_file_is_left_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match=r"pipe: cannot be read \(a pipe, not a file\); name another file"):
        insist_on_writable(pipe)


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "run_id,dataset\n", "hello"])
def test_a_foreign_file_is_refused_and_left_as_it_was(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.csv"
    file.write_text(content)
    for refused in (lambda: append_rows(file, "x", ROWS), lambda: insist_on_writable(file)):
        with pytest.raises(ResultsError, match=r"other\.csv: has not the columns run_id,dataset,.*; name another file"):
            refused()
    assert file.read_text() == content


def test_a_binary_file_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match=r".*model\.bin: cannot be read \(.*\); name another file"):
        append_rows(file, "x", ROWS)
    assert file.read_bytes() == b"\xff\xfe\x00\x80"


def test_another_users_lock_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(ResultsError, match=r"gnncompress-rows-.*\.lock: cannot be locked \(Permission denied\)"):
        append_rows(tmp_path / "costs.csv", "x", ROWS)


def test_two_users_have_locks_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their folder for temporary files is one, and a lock that one of them left cannot be opened by the other."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    for user in (1001, 1002):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        append_rows(tmp_path / "costs.csv", "x", ROWS)
        for lock in (tmp_path / "shared").iterdir():
            assert f"-{user}-" in lock.name
            lock.rename(tmp_path / lock.name)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_lock", lambda _: tmp_path / "lock")
    (tmp_path / "lock").symlink_to(tmp_path / "made")
    with pytest.raises(ResultsError, match=r"lock: cannot be locked \(a link, not a file\)"):
        append_rows(tmp_path / "costs.csv", "x", ROWS)
    assert not (tmp_path / "made").exists()


def test_line_ends_of_another_system_are_taken(tmp_path: Path) -> None:
    append_rows(file := tmp_path / "costs.csv", "a", ROWS)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    append_rows(file, "b", ROWS)
    assert b"\r" not in file.read_bytes()
    assert len(pd.read_csv(file)) == 2 * len(ROWS)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}: cannot be read \\(a folder, not a file\\); name another file"):
        append_rows(tmp_path, "x", ROWS)
    assert list(tmp_path.iterdir()) == []


def test_a_file_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"costs.csv in .*file: cannot be written"):
        insist_on_writable(tmp_path / "file" / "costs.csv")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(UsageError, match=f"costs.csv in {tmp_path}: cannot be written \\(Permission denied\\); choose"):
        insist_on_writable(tmp_path / "costs.csv")
    with pytest.raises(UsageError, match="cannot be written"):
        append_rows(tmp_path / "costs.csv", "x", ROWS)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(records, "read_text", refuse)
    with pytest.raises(UsageError, match=r"costs\.csv: cannot be read \(.*Permission denied\); name another file"):
        insist_on_writable(tmp_path / "costs.csv")


def test_asking_first_writes_nothing(tmp_path: Path) -> None:
    insist_on_writable(tmp_path / "costs.csv")
    assert list(tmp_path.iterdir()) == []


def test_no_lock_or_temporary_file_is_left_beside_the_rows(tmp_path: Path) -> None:
    append_rows(tmp_path / "costs.csv", "x", ROWS)
    assert [file.name for file in tmp_path.iterdir()] == ["costs.csv"]


def test_nothing_is_lost_when_many_append_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "costs.csv"
    monkeypatch.chdir(tmp_path)
    ids: list[str] = []
    errors: list[Exception] = []

    def append(number: int) -> None:
        # The same file under two names.
        place = file if number % 2 else Path("costs.csv")
        try:
            ids.extend(append_rows(place, f"thread {number}", ROWS) for _ in range(5))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    table = pd.read_csv(file)
    assert len(table) == 8 * 5 * len(ROWS)
    assert set(table["run_id"]) == set(ids)
    assert len(set(ids)) == 40


def test_pandas_reads_numbers_and_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "costs.csv"
    append_rows(file, "x", ROWS)
    table = pd.read_csv(file)
    assert list(table.columns) == list(COLUMNS)
    assert table["value"].dtype == float
    assert table["value"][0] == 1.5
    assert table["value"].isna().tolist() == [False, True]


def test_numbers_are_written_to_the_last_digit(tmp_path: Path) -> None:
    file = tmp_path / "costs.csv"
    append_rows(file, "x", [Measurement("p", "m", 0.1 + 0.2, "s"), Measurement("p", "n", 2**60 + 1, "bytes")])
    with file.open(newline="") as lines:
        assert [row["value"] for row in csv.DictReader(lines)] == ["0.30000000000000004", str(2**60 + 1)]
