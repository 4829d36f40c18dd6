"""The package as a whole: lazy imports, exports, errors, atomic files, names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gnncompress
from gnncompress import errors, files
from gnncompress.errors import GnncompressError, UsageError
from gnncompress.measurements import Measurement
from gnncompress.registry import Entry, Registry


@pytest.mark.parametrize("command", [["--help"], ["prune", "--help"], ["--version"], ["datasets"], ["methods"]])
def test_light_commands_import_no_torch(command: list[str]) -> None:
    code = (
        "import sys\nfrom gnncompress.cli import main\n"
        f"try: main({command!r})\nexcept SystemExit as stop: assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'torch_geometric', 'pandas', 'sklearn'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_of_the_package_imports_no_torch() -> None:
    code = "import sys, gnncompress; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_export_is_there() -> None:
    assert set(gnncompress._EXPORTS) | {"__version__"} == set(gnncompress.__all__)
    for name in gnncompress.__all__:
        assert getattr(gnncompress, name) is not None
    assert dir(gnncompress) == gnncompress.__all__
    with pytest.raises(AttributeError, match="has no attribute 'prun'"):
        gnncompress.prun  # noqa: B018


def test_every_error_is_one_of_ours_with_an_exit_code() -> None:
    found = [thing for thing in vars(errors).values() if isinstance(thing, type)]
    assert len(found) > 5
    assert all(issubclass(error, GnncompressError) for error in found)
    assert {error.exit_code for error in found} == {1, 2}


@given(content=st.binary(max_size=100))
def test_write_is_whole(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("files") / "file"
    files.write_bytes(path, content)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_folder_is_refused_by_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--output .*file/runs: cannot be written"):
        files.writable_folder(tmp_path / "file" / "runs", "--output")


def test_measurement_without_a_value_must_say_so() -> None:
    assert Measurement("inference", "energy", None, "J", "unavailable").value is None
    with pytest.raises(ValueError, match=r"inference.energy: value None does not fit source 'measured'"):
        Measurement("inference", "energy", None, "J")
    with pytest.raises(ValueError, match="value 0 does not fit source 'unavailable'"):
        Measurement("inference", "energy", 0, "J", "unavailable")


def test_registry_suggests_near_names() -> None:
    registry = Registry("fruit", [Entry("apple", "", "json:dumps", ""), Entry("pear", "", "json:loads", "")])
    assert registry["pear"].load()("1") == 1
    assert [entry.name for entry in registry] == ["apple", "pear"]
    with pytest.raises(UsageError, match=r"unknown fruit 'aple'; did you mean apple\?"):
        registry["aple"]
    with pytest.raises(UsageError, match="unknown fruit 'xyz'; there is: apple, pear"):
        registry["xyz"]


def test_registry_takes_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "plum"

        @staticmethod
        def load() -> Entry:
            return Entry("plum", "installed by someone else", "json:dumps", "")

    monkeypatch.setattr(
        "gnncompress.registry.entry_points", lambda group: [Point()] if group == "gnncompress.fruits" else []
    )
    registry = Registry("fruit", [Entry("apple", "", "json:dumps", "")])
    assert registry["plum"].summary == "installed by someone else"
    assert {entry.name for entry in registry} == {"apple", "plum"}
