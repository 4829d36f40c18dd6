"""Molecule sets in MoleculeNet's form: one CSV file with SMILES and a column a label.

PyG's reader splits lines at commas, so it loses a last line without line end and misreads quoted fields; it also
leaves no trace of the molecules it drops. This one reads CSV as CSV and reports what is left out.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

from gnncompress.datasets import locations
from gnncompress.datasets.loaded import Loaded
from gnncompress.datasets.moleculenet_csv import Layout, read
from gnncompress.errors import DatasetError

COLLECTION = "MoleculeNet"
# The facts of torch_geometric.datasets.MoleculeNet.names; a test holds them to it.
LAYOUTS = {
    "esol": Layout("delaney-processed.csv", -1, slice(-2, -1)),
    "freesolv": Layout("SAMPL.csv", 1, slice(2, 3)),
    "lipo": Layout("Lipophilicity.csv", 2, slice(1, 2)),
    "pcba": Layout("pcba.csv.gz", -1, slice(0, 128)),
    "muv": Layout("muv.csv.gz", -1, slice(0, 17)),
    "hiv": Layout("HIV.csv", 0, slice(-1, None)),
    "bace": Layout("bace.csv", 0, slice(2, 3)),
    "bbbp": Layout("BBBP.csv", -1, slice(-2, -1)),
    "tox21": Layout("tox21.csv.gz", -1, slice(0, 12)),
    "toxcast": Layout("toxcast_data.csv.gz", 0, slice(1, 618)),
    "sider": Layout("sider.csv.gz", 0, slice(1, 28)),
    "clintox": Layout("clintox.csv.gz", 0, slice(1, 3)),
}


def fingerprint(source: str, data_root: Path | None = None) -> str:
    """Return a SHA-256 over the name and content of the CSV file of ``source``.

    Raises:
        DatasetError: if the file is nowhere and cannot be downloaded.
    """
    return locations.fingerprint([_file(source, data_root)])


def load(source: str, data_root: Path | None = None) -> Loaded:
    """Load the set ``source`` as a list of molecules; rows that rdkit or PyG cannot express are left out and noted.

    Shapes of each: x [n, 9] and edge_attr [e, 3] long, integer categories of ``torch_geometric.utils.smiles``;
    edge_index [2, e]; y [1, T] float32, NaN where the file is blank. Texts of each: smiles as in the file,
    canonical, and scaffold, the Bemis-Murcko scaffold without stereochemistry ('' for a molecule without rings).
    The columns of a published set are known; of another, every numeric column is a label.

    Raises:
        DatasetError: if the file is nowhere and cannot be downloaded, lacks a column, holds a label that is no
            number, no molecule, or one of more than 2,000 atoms, or is too large (``moleculenet_csv.read``); or if
            rdkit is not installed.

    Source: Wu et al., MoleculeNet, Chem. Sci. 9, 2018; graphs equal to ``torch_geometric.datasets.MoleculeNet``.
    """
    from gnncompress.datasets import moleculenet_cache

    path = _file(source, data_root)
    layout = LAYOUTS.get(source.lower())
    return moleculenet_cache.load(source.lower(), locations.fingerprint([path]), lambda: read(path, layout))


def _file(source: str, data_root: Path | None) -> Path:
    """Return the set's CSV file: the published one by its name, of another set the only one."""
    layout = LAYOUTS.get(source.lower())
    for folder in locations.named_folders(data_root, COLLECTION, source):
        if found := _csv(folder, layout):
            return found
    raw = locations.download(COLLECTION, source.lower(), _wanted(layout), _filler(layout))
    found = _csv(raw, layout)
    if found is None:
        raise locations.lacking(raw, _wanted(layout))
    return found


def _csv(folder: Path, layout: Layout | None) -> Path | None:
    found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(".csv") and path.is_file())
    if layout:
        found = [path for path in found if path.name.lower() == layout.file.lower()]
    if len(found) > 1:
        raise DatasetError(f"{folder}: several CSV files: {', '.join(path.name for path in found)}; keep one")
    return found[0] if found else None


def _wanted(layout: Layout | None) -> list[str]:
    return [layout.file if layout else "one CSV file with a column called smiles"]


def _filler(layout: Layout | None) -> Callable[[Path], None]:
    """Return what downloads the set into a folder and unpacks it."""

    def fill(folder: Path) -> None:
        if layout is None:
            raise OSError("no address is known for it")
        from torch_geometric.datasets import MoleculeNet

        packed = locations.fetch(MoleculeNet.url.format(layout.download), folder)
        if packed.suffix == ".gz":
            with gzip.open(packed) as source:
                locations.copy(source, folder / layout.file)
            packed.unlink()

    return fill
