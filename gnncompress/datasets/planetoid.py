"""Planetoid citation networks, read from their raw files without trusting them.

The raw files are Python 2 pickles, and a pickle may run anything: they are read by an unpickler that knows only
the few names such files need, and what comes out is checked before it is used. Cora's files must also have the
published checksums.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnncompress.datasets import locations
from gnncompress.datasets.limits import too_wide
from gnncompress.datasets.loaded import Loaded
from gnncompress.datasets.planetoid_files import dense, node_numbers, test_numbers
from gnncompress.errors import DatasetError

if TYPE_CHECKING:
    import torch

NAMES = ("Cora", "CiteSeer", "PubMed")
PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
VALIDATION = 500

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
DIGESTS = {"Cora": CORA}


def fingerprint(source: str, data_root: Path | None = None) -> str:
    """Return a SHA-256 over the names and contents of the raw files of ``source``.

    Files whose published checksums are known need not be there: no others are ever loaded.

    Raises:
        DatasetError: if the files are nowhere and cannot be downloaded.
    """
    if _canonical(source) in DIGESTS:
        return locations.combined(DIGESTS[_canonical(source)])
    return locations.fingerprint(_files(source, data_root).values())


def load(source: str, data_root: Path | None = None) -> Loaded:
    """Load the citation network ``source``, one of ``NAMES``, with its public split.

    Shapes: x [N, F] float32 as in the files; edge_index [2, E] sorted by target, then source, without loops and
    duplicates; y [N] long; train_mask, val_mask, test_mask [N] bool. A test node that the files leave out (CiteSeer
    has some) has zero features and class 0, and labelled_mask [N] bool says that it is not to be learnt or scored.

    Memory: the features, at most 2.5 GiB, twice, and ten times the files, each at most 256 MiB.

    Raises:
        DatasetError: if the files are nowhere and cannot be downloaded, or one is damaged, too large or not what it
            should be.

    Source: Yang et al., ICML 2016; equal to ``torch_geometric.datasets.Planetoid``.
    """
    import torch
    from torch_geometric.data import Data

    files = _files(source, data_root)
    locations.verify(files["x"].parent, DIGESTS.get(_canonical(source), {}))
    allx, tx, ally, ty = (dense(files[part]) for part in ("allx", "tx", "ally", "ty"))
    train = len(dense(files["y"]))
    test = test_numbers(files["test.index"])
    for part, found, expected in (
        ("x", len(dense(files["x"])), train),
        ("ally", len(ally), len(allx)),
        ("tx", tx.shape[1], allx.shape[1]),
        ("ty", ty.shape[1], ally.shape[1]),
        ("tx", len(tx), len(test)),
        ("ty", len(ty), len(test)),
        ("test.index", int(test.min()), len(allx)),
    ):
        if found != expected:
            raise DatasetError(f"{files[part]}: {found:,} found where the other files say {expected:,}; restore it")

    nodes = int(test.max()) + 1
    if nodes > 2 * (len(allx) + len(test)):
        raise DatasetError(f"{files['test.index']}: node {nodes - 1:,} is far beyond the others; restore it")
    if refusal := too_wide(nodes, allx.shape[1]):
        raise DatasetError(f"{files['allx']}: {refusal}")
    x = np.zeros((nodes, allx.shape[1]), dtype=np.float32)
    x[: len(allx)], x[test] = allx, tx
    y = np.zeros(nodes, dtype=np.int64)
    y[: len(ally)], y[test] = ally.argmax(1), ty.argmax(1)
    absent = nodes - len(allx) - len(test)
    data = Data(
        x=torch.from_numpy(x),
        edge_index=_edges(files["graph"], nodes),
        y=torch.from_numpy(y),
        train_mask=_mask(slice(train), nodes),
        val_mask=_mask(slice(train, train + VALIDATION), nodes),
        test_mask=_mask(test, nodes),
    )
    if not absent:
        return Loaded(data)
    data.labelled_mask = _mask(slice(len(allx)), nodes) | _mask(test, nodes)
    note = f"{absent} nodes have neither features nor a label in the files: their features are zeros, no split has them"
    return Loaded(data, (note,))


def _edges(path: Path, nodes: int) -> torch.Tensor:
    """Return the edges [2, E] of a neighbour dictionary, in the order that PyG gives them."""
    import torch

    source, target = node_numbers(path, nodes)
    kept = source != target
    target, source = np.divmod(np.unique(target[kept] * nodes + source[kept]), nodes)
    return torch.from_numpy(np.stack([source, target]))


def _mask(where: Any, nodes: int) -> torch.Tensor:
    import torch

    mask = np.zeros(nodes, dtype=bool)
    mask[where] = True
    return torch.from_numpy(mask)


def _canonical(source: str) -> str:
    for name in NAMES:
        if name.casefold() == source.casefold():
            return name
    raise DatasetError(f"data set {source}: no Planetoid network has that name; there are {', '.join(NAMES)}")


def _files(source: str, data_root: Path | None) -> dict[str, Path]:
    name = _canonical(source)
    files = {part: f"ind.{name.lower()}.{part}" for part in PARTS}

    def fill(folder: Path) -> None:
        from torch_geometric.datasets import Planetoid

        for file in files.values():
            locations.fetch(f"{Planetoid.url}/{file}", folder)
        try:
            locations.verify(folder, DIGESTS.get(name, {}))
        except DatasetError as error:
            raise OSError("what arrived is not the published file") from error

    raw = locations.find_raw(data_root, f"Planetoid/{name}", files.values())
    if raw is None:
        raw = locations.download("Planetoid", name, files.values(), fill)
        if not any((raw / file).is_file() for file in files.values()):
            raise locations.lacking(raw, files.values())
    return {part: raw / file for part, file in files.items()}
