"""Where raw files are looked for, and the cache that stands in for them.

Raw folders belong to the user and are never written to. What a loader derives from them lives in the user's
cache, in a folder named by the raw files' content, made under a lock and moved into place whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from gnncompress.errors import DatasetError

ENVIRONMENT_VARIABLE = "GNNCOMPRESS_DATA"


def cache_root() -> Path:
    """Return the folder for downloaded and derived data: ``GNNCOMPRESS_CACHE`` or the user's cache."""
    return Path(os.environ.get("GNNCOMPRESS_CACHE") or user_cache_path("gnncompress", appauthor=False))


def candidate_roots(data_root: Path | None) -> list[Path]:
    """Return the roots to search, first one first: ``data_root``, then ``GNNCOMPRESS_DATA``, then the cache."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    roots = [data_root, Path(named) if named else None, cache_root()]
    return [root for root in roots if root is not None]


def find_raw(data_root: Path | None, folder: str, names: Iterable[str]) -> Path | None:
    """Return the first root's raw folder that holds all ``names``, or None when no root holds any.

    Raises:
        DatasetError: when a root holds some of the files but not all.
    """
    for root in candidate_roots(data_root):
        raw = root / folder / "raw"
        missing = [name for name in names if not (raw / name).is_file()]
        if not missing:
            return raw
        if raw.is_dir() and any((raw / name).is_file() for name in names):
            raise DatasetError(f"{raw}: {', '.join(missing)} missing; add the missing files beside the others")
    return None


def verify(raw: Path, digests: Mapping[str, str]) -> None:
    """Check every raw file against its published SHA-256, before anything parses it.

    Raises:
        DatasetError: naming the first file that differs; a file cut short is one of them.
    """
    for name, expected in digests.items():
        content = (raw / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise DatasetError(
                f"{raw / name}: damaged or cut short ({len(content):,} bytes, checksum differs from the "
                "published file); replace it with a fresh copy"
            )


def derived(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the cache folder ``name``-``key``, made by ``build(folder)`` if it is not there yet.

    The folder appears whole or not at all, also when two processes want it or one is killed midway.
    """
    parent = cache_root() / "derived"
    parent.mkdir(parents=True, exist_ok=True)
    final = parent / f"{name}-{key[:16]}"
    if final.is_dir():
        return final
    with FileLock(parent / f"{name}.lock"):
        if not final.is_dir():
            stage = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
            try:
                build(stage)
                stage.rename(final)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
    return final
