"""Files that are whole or absent, and reading, locking and deleting that trust nothing of what they find.

Writing goes to a temporary name, fsync, rename: a process may be killed between any two lines below; a reader then sees
the old file, the new file or none, never half of one. Reading waits for no pipe and opens no device. Folders and locks
of the package's own are never taken through a link, and deleting stops at links.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock
from platformdirs import user_cache_path

from gnncompress.errors import ResultsError, UsageError

# No file that is read whole is larger: results of some hundred thousand runs; JSON that people or programs wrote.
_LARGEST, _LARGEST_JSON = 256 << 20, 16 << 20
# No JSON of ours is nested deeper than a few levels; deeper ones break what recurses into them.
_DEEPEST = 64


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed to ``path``.

    If the block raises, the temporary file is removed and ``path`` is left as it was.

    Raises:
        OSError: if ``path`` is there and no file, such as a device, which must not be replaced by one.
    """
    if path.exists():
        _insist_on_plain(path, path.stat())
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` to ``path`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def sync(path: Path) -> None:
    """Ask the operating system to put a file or a folder's entries on the disk.

    Windows has no descriptor for a folder; there the rename alone must do.
    """
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file for reading bytes.

    Raises:
        OSError: as ``open`` does, or because there is something else: a folder, a pipe, a socket or a device.
    """
    _insist_on_plain(path, path.stat())  # before it is opened, which some devices notice
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(handle, "rb")
    try:
        _insist_on_plain(path, os.fstat(handle))
    except OSError:
        file.close()
        raise
    return file


def read_bytes(path: Path, largest: int = _LARGEST) -> bytes:
    """Return the content of a plain file.

    Raises:
        OSError: as ``open_plain`` does, or if there are more than ``largest`` bytes.
    """
    with open_plain(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"more than {largest:,} bytes", str(path))
    return content


def read_text(path: Path) -> str:
    """Return the text of a plain file in UTF-8, its line ends as they are.

    Raises:
        OSError: as ``read_bytes`` does. ValueError: if it is not UTF-8.
    """
    return read_bytes(path).decode()


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a plain file.

    Raises:
        OSError: as ``read_bytes`` does. ValueError: if it is not UTF-8, no JSON, no object, or nested too deep.
    """
    try:
        found = json.loads(read_bytes(path, _LARGEST_JSON).decode())
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError(f"holds a {type(found).__name__}, not an object")
    level: list[Any] = [found]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [inner for inner in level if isinstance(inner, (dict, list))]
    if level:
        raise ValueError("nested too deep")
    return found


def why(error: Exception) -> str:
    """Return what an error says, of one of the operating system's the reason alone."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _insist_on_plain(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        number = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
        raise OSError(number, f"{_kind(found.st_mode)}, not a file", str(path))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISLNK: "a link",
        stat.S_ISREG: "a file",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
    }
    return next((name for holds, name in kinds.items() if holds(mode)), "a device")


def own_folder(path: Path) -> Path:
    """Make the folder ``path``, or find it; a link to one is none.

    Raises:
        OSError: if it cannot be made, or something else is there.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    insist_on_folder(path)
    return path


def insist_on_folder(path: Path) -> None:
    """Insist that ``path`` is a folder itself, not a link to one.

    Raises:
        OSError: saying what it is.
    """
    mode = path.lstat().st_mode
    if not stat.S_ISDIR(mode):
        raise OSError(errno.ENOTDIR, f"{_kind(mode)}, not a folder", str(path))


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it; what links lead to stays.

    Raises:
        OSError: if something of it cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, made if need be; wait for whoever holds it.

    Raises:
        ResultsError: naming the file and why it cannot be locked: a link, another user's.
    """
    try:
        insist_on_lockable(path)
        lock = FileLock(path)
        lock.acquire()
    except OSError as error:
        raise ResultsError(f"{path}: cannot be locked ({why(error)}); delete it, or choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def insist_on_lockable(path: Path) -> None:
    """Insist that a lock file is not there yet, or a plain file that may be written.

    Raises:
        OSError: saying what is there instead, or that it is another user's.
    """
    if not os.path.lexists(path):
        return
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, f"{_kind(found.st_mode)}, not a file", str(path))
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        whose = "another user's" if os.name != "nt" and found.st_uid != os.geteuid() else "not writable"
        raise PermissionError(errno.EACCES, whose, str(path))


def writable_folder(path: Path, option: str) -> Path:
    """Create ``path`` if need be and prove that a file can be written in it.

    Raises:
        UsageError: naming ``option`` and the folder, when it cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written ({why(error)}); choose another folder") from error
    return path


def user_id() -> str:
    """Return what tells users of a machine apart: files in folders that all share have it in their names."""
    return os.environ.get("USERNAME", "user") if os.name == "nt" else str(os.getuid())


def cache_root() -> Path:
    """Return the folder for downloaded and derived data: ``GNNCOMPRESS_CACHE`` or the user's cache."""
    return Path(os.environ.get("GNNCOMPRESS_CACHE") or user_cache_path("gnncompress", appauthor=False))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
