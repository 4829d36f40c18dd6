"""Files that are whole or absent: write to a temporary name, fsync, rename.

A process may be killed between any two lines below; a reader then sees the old file, the new file or none,
never half of one.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from gnncompress.errors import UsageError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed to ``path``.

    If the block raises, the temporary file is removed and ``path`` is left as it was.
    """
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
        raise UsageError(f"{option} {path}: cannot be written ({error.strerror}); choose another folder") from error
    return path


def cache_root() -> Path:
    """Return the folder for downloaded and derived data: ``GNNCOMPRESS_CACHE`` or the user's cache."""
    return Path(os.environ.get("GNNCOMPRESS_CACHE") or user_cache_path("gnncompress", appauthor=False))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
