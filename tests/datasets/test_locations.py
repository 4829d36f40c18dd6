from __future__ import annotations

from pathlib import Path

import pytest

from gnncompress.datasets import locations
from gnncompress.errors import ResultsError


def test_roots_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNCOMPRESS_DATA", str(tmp_path / "environment"))
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(tmp_path / "cache"))
    named = tmp_path / "option"
    assert locations.candidate_roots(named) == [named, tmp_path / "environment", tmp_path / "cache"]
    for root in ("cache", "environment", "option"):
        raw = tmp_path / root / "set" / "raw"
        raw.mkdir(parents=True)
        (raw / "file").touch()
        assert locations.find_raw(named, "set", ["file"]) == raw
    assert locations.find_raw(named, "other", ["file"]) is None


def test_derived_folder_is_built_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(tmp_path))
    built = []

    def build(folder: Path) -> None:
        (folder / "file").write_text("whole")
        built.append(folder)

    first = locations.derived("name", "0123456789abcdef", build)
    assert locations.derived("name", "0123456789abcdef", build) == first
    assert len(built) == 1
    assert (first / "file").read_text() == "whole"


def test_failed_build_leaves_nothing_to_trip_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        locations.derived("name", "key", fail)
    assert not [path for path in (tmp_path / "derived").iterdir() if path.is_dir()]


def test_a_lock_that_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(tmp_path))
    lock = tmp_path / "derived" / "name.lock"
    lock.parent.mkdir()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResultsError, match=r"name\.lock: cannot be locked \(a link, not a file\)"):
        locations.derived("name", "key", lambda folder: None)
    assert not (tmp_path / "elsewhere").exists()
