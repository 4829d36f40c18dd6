"""Where raw files are looked for, how they get there, and the cache that stands in for them.

Raw folders belong to the user and are never written to. What a loader downloads or derives lives in the user's
cache, derived data in a folder named by the raw files' content; both are made under a lock and moved into place
whole. No torch here: a fingerprint of files that are there must cost no more than reading them.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import urlopen

from filelock import FileLock

from gnncompress.datasets import keeping
from gnncompress.datasets.limits import MOST_UNPACKED
from gnncompress.errors import DatasetError
from gnncompress.files import cache_root, locked

ENVIRONMENT_VARIABLE = "GNNCOMPRESS_DATA"


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


def named_folders(data_root: Path | None, collection: str, name: str) -> Iterator[Path]:
    """Yield every root's folders for the set ``name`` of a collection, in any case: each ``raw``, then itself."""
    for root in candidate_roots(data_root):
        for path in called(name, root / collection):
            yield from (place for place in (path / "raw", path) if place.is_dir())


def called(name: str, parent: Path) -> list[Path]:
    """Return the folders in ``parent`` that are called ``name`` in any case, first the one spelled just so."""
    inside = parent.iterdir() if parent.is_dir() else ()
    alike = [path for path in inside if path.name.casefold() == name.casefold() and path.is_dir()]
    return sorted(alike, key=lambda path: (path.name != name, path.name))


def fingerprint(files: Iterable[Path]) -> str:
    """Return a SHA-256 over the names and contents of ``files``; their order and folder do not matter."""
    return combined({path.name: _digest(path) for path in files})


def _digest(path: Path) -> str:
    return keeping.digest(path, _sha256)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def combined(digests: Mapping[str, str]) -> str:
    """Return the fingerprint of files whose SHA-256 are known by name."""
    lines = sorted(f"{digest}  {name}\n" for name, digest in digests.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def download(collection: str, name: str, files: Iterable[str], fill: Callable[[Path], None]) -> Path:
    """Return the cache's raw folder for the set ``name``, filled by ``fill(folder)``, whole or not at all.

    ``fill`` says by an ``OSError`` that the files cannot be had; ``files`` says which are wanted.

    Raises:
        DatasetError: telling the files and where to put them.
    """
    folder = f"{collection}/{name}"
    target = cache_root() / folder / "raw"
    try:
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise OSError(f"{name!r} is no name of a data set")
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_root() / "download.lock"), tempfile.TemporaryDirectory(dir=target.parent.parent) as stage:
            if not target.is_dir():  # otherwise another process was faster
                raw = Path(stage) / "raw"
                raw.mkdir()
                fill(raw)
                target.parent.mkdir(exist_ok=True)
                raw.rename(target)
    except (OSError, EOFError, HTTPException, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"data set {name.lower()}: no raw files and no download ({error}); put {', '.join(files)} "
            f"into {target}, or into DIR/{folder}/raw with --data-root DIR or "
            f"{ENVIRONMENT_VARIABLE}=DIR; or use -d digits, which needs no download"
        ) from error
    return target


def lacking(raw: Path, files: Iterable[str]) -> DatasetError:
    """Return the error of a folder that stands where a download would go and holds none of the ``files``."""
    return DatasetError(
        f"{raw}: {', '.join(files)} missing; put the files there, or remove the folder to download them"
    )


def fetch(url: str, folder: Path) -> Path:
    """Download ``url`` into ``folder`` and return the file; the server's certificate is checked.

    Raises:
        OSError: if it cannot be had, nothing arrives for a minute, or more than 8 GiB do.
    """
    target = folder / url.rpartition("/")[2]
    with urlopen(url, timeout=60) as answer:
        copy(answer, target)
    return target


def copy(source: IO[bytes] | gzip.GzipFile, target: Path) -> None:
    """Write what ``source`` holds, unpacked where it is packed, to the file ``target``.

    Raises:
        OSError: if it is more than 8 GiB.
    """
    room = MOST_UNPACKED
    with target.open("wb") as file:
        while block := source.read(2**20):
            room -= len(block)
            if room < 0:
                raise OSError(f"{target.name} has more than {MOST_UNPACKED:,} bytes")
            file.write(block)


def verify(raw: Path, digests: Mapping[str, str]) -> None:
    """Check every raw file against its published SHA-256, before anything parses it.

    Raises:
        DatasetError: naming the first file that differs; a file cut short is one of them.
    """
    for name, expected in digests.items():
        if _digest(raw / name) != expected:
            raise DatasetError(
                f"{raw / name}: damaged or cut short ({(raw / name).stat().st_size:,} bytes, checksum differs from the "
                "published file); replace it with a fresh copy"
            )


def derived(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the cache folder ``name``-``key``, made by ``build(folder)`` if it is not there yet.

    The folder appears whole or not at all, also when two processes want it or one is killed midway.

    Raises:
        ResultsError: if it cannot be locked, since something else or another user's file is in the lock's place.
    """
    parent = cache_root() / "derived"
    parent.mkdir(parents=True, exist_ok=True)
    final = parent / f"{name}-{key[:16]}"
    if final.is_dir():
        return final
    with locked(parent / f"{name}.lock"):
        if not final.is_dir():
            stage = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
            try:
                build(stage)
                stage.rename(final)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
    return final
