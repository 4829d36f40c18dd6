from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gnncompress import files
from gnncompress.errors import ResultsError
from gnncompress.files import locked, own_folder, read_bytes, read_json, read_text, remove, why, write_text

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and sockets as files are POSIX's")


def put_socket(place: Path) -> None:
    here = Path.cwd()
    os.chdir(place.parent)  # the names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(place.name)
    finally:
        os.chdir(here)


@posix
@pytest.mark.parametrize(
    ("put", "what"),
    [
        (lambda place: os.mkfifo(place), "a pipe, not a file"),
        (put_socket, "a socket, not a file"),
        (Path.mkdir, "a folder, not a file"),
        (lambda place: place.symlink_to("/dev/zero"), "a device, not a file"),
        (lambda place: None, "No such file or directory"),
        (lambda place: place.symlink_to(place), "Too many levels of symbolic links"),
    ],
)
@pytest.mark.parametrize("read", [read_bytes, read_text, read_json])
def test_what_is_no_file_is_refused_at_once(
    put: Callable[[Path], None], what: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    put(tmp_path / "x")
    with pytest.raises(OSError, match=what) as raised:
        read(tmp_path / "x")
    assert why(raised.value) == what


@posix
def test_a_pipe_put_there_after_the_look_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "x")
    (plain := tmp_path / "plain").write_text("")
    stat = plain.stat()
    monkeypatch.setattr(Path, "stat", lambda _: stat)
    with pytest.raises(OSError, match="a pipe, not a file"):
        read_bytes(tmp_path / "x")


@posix
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("pipe", "device"):
        with pytest.raises(OSError, match=f"a {name}, not a file"):
            write_text(tmp_path / name, "x")
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "device"}
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "device").is_symlink()


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("a\r\nß".encode())
    (tmp_path / "y").symlink_to("x")
    assert read_text(tmp_path / "y") == "a\r\nß"


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match=r"more than 1,000 bytes"):
        read_bytes(tmp_path / "x", largest=1000)
    with pytest.raises(OSError, match=r"more than 16,777,216 bytes"):
        read_json(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[1]", "holds a list, not an object"),
        (b"null", "holds a NoneType, not an object"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 200_000, "nested too deep"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested too deep"),
        (b"\xff", "'utf-8' codec"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_is_no_object_is_a_value_error(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=what):
        read_json(tmp_path / "x")


def test_json_of_ordinary_depth_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"a":' * 20 + "[1]" + "}" * 20)
    assert list(read_json(tmp_path / "x")) == ["a"]


def test_own_folder(tmp_path: Path) -> None:
    assert own_folder(tmp_path / "a") == own_folder(tmp_path / "a") == tmp_path / "a"
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "file").write_text("")
    for name, what in (("link", "a link"), ("file", "a file")):
        with pytest.raises(OSError, match=f"{what}, not a folder"):
            own_folder(tmp_path / name)


def test_removing_stops_at_links(tmp_path: Path) -> None:
    (kept := tmp_path / "kept").mkdir()
    (kept / "file").write_text("kept")
    (inner := tmp_path / "x" / "y").mkdir(parents=True)
    (inner / "folder").symlink_to(kept)
    (inner / "file").symlink_to(kept / "file")
    (tmp_path / "link").symlink_to(kept)
    for name in ("x", "link", "absent"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").read_text() == "kept"


@posix
@pytest.mark.parametrize(
    ("put", "what"),
    [
        (lambda place: place.symlink_to("made"), "a link, not a file"),
        (lambda place: os.mkfifo(place), "a pipe, not a file"),
        (Path.mkdir, "a folder, not a file"),
    ],
)
def test_what_is_no_lock_is_refused(put: Callable[[Path], None], what: str, tmp_path: Path) -> None:
    put(tmp_path / "x.lock")
    with (
        pytest.raises(ResultsError, match=rf"x\.lock: cannot be locked \({what}\); delete it"),
        locked(tmp_path / "x.lock"),
    ):
        pytest.fail("nothing is held")
    assert not (tmp_path / "made").exists()


def test_a_lock_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(tmp_path / "x.lock"):
        pass
    monkeypatch.setattr(files.os, "access", lambda *_, **__: False)
    monkeypatch.setattr(files.os, "supports_effective_ids", set())
    with pytest.raises(ResultsError, match=r"cannot be locked \(not writable\)"), locked(tmp_path / "x.lock"):
        pytest.fail("nothing is held")
