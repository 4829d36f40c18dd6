"""Planetoid citation networks, read through PyG from raw files that are checked first.

The raw files are Python pickles, so none is opened before its checksum is that of the published file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from torch_geometric.data import Data
from torch_geometric.datasets import Planetoid

from gnncompress.datasets.locations import ENVIRONMENT_VARIABLE, cache_root, derived, find_raw, verify
from gnncompress.errors import DatasetError

# SHA-256 of the files in the public repository kimiyoung/planetoid, data/ind.cora.*
CORA = {
    "ind.cora.allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
    "ind.cora.ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
    "ind.cora.graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
    "ind.cora.test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    "ind.cora.tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
    "ind.cora.ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
    "ind.cora.x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
    "ind.cora.y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
}


def load_cora(data_root: Path | None = None) -> Data:
    """Load Cora with its raw binary features, as one PyG ``Data``."""
    return load("Cora", CORA, data_root)


def load(name: str, digests: Mapping[str, str], data_root: Path | None) -> Data:
    """Load the Planetoid graph ``name`` whose raw files have the SHA-256 ``digests``.

    Raises:
        DatasetError: if the files are nowhere and cannot be downloaded, or are not the published ones.
    """
    folder = f"Planetoid/{name}"
    raw = find_raw(data_root, folder, digests) or _download(name, digests)
    verify(raw, digests)

    def build(stage: Path) -> None:
        shutil.copytree(raw, stage / name / "raw", ignore=lambda _, names: set(names) - set(digests))
        _open(stage, name)

    key = hashlib.sha256("".join(digests[file] for file in sorted(digests)).encode()).hexdigest()
    return _open(derived(f"planetoid-{name.lower()}", key, build), name)[0]


def _open(root: Path, name: str) -> Planetoid:
    with contextlib.redirect_stderr(io.StringIO()):  # PyG announces its processing there
        return Planetoid(str(root), name)


def _download(name: str, digests: Mapping[str, str]) -> Path:
    """Let PyG download the raw files into the cache, whole or not at all."""
    target = cache_root() / "Planetoid" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_root() / "download.lock"), tempfile.TemporaryDirectory(dir=target.parent) as stage:
        if (target / "raw").is_dir():  # another process was faster
            return target / "raw"
        try:
            _open(Path(stage), name)
        except OSError as error:
            raise DatasetError(
                f"data set {name.lower()}: no raw files and no download ({error}); put {', '.join(digests)} "
                f"into {target / 'raw'}, or into DIR/Planetoid/{name}/raw with --data-root DIR or "
                f"{ENVIRONMENT_VARIABLE}=DIR; or use -d digits, which needs no download"
            ) from error
        target.mkdir(exist_ok=True)
        (Path(stage) / name / "raw").rename(target / "raw")
    return target / "raw"
