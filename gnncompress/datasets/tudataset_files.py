"""Where the text files of a TU Dortmund set are, and how they are downloaded."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from gnncompress.datasets import locations
from gnncompress.datasets.limits import MOST_UNPACKED
from gnncompress.errors import DatasetError

# Canonical spelling for a download; sets of other names are read just the same.
NAMES = (
    *("AIDS", "BZR", "COX2", "DHFR", "ER_MD", "FRANKENSTEIN", "MUTAG", "Mutagenicity", "NCI1", "NCI109"),
    *("PTC_FM", "PTC_FR", "PTC_MM", "PTC_MR", "DD", "ENZYMES", "KKI", "OHSU", "Peking_1", "PROTEINS"),
    *("PROTEINS_full", "COIL-DEL", "COIL-RAG", "Cuneiform", "Fingerprint", "FIRSTMM_DB", "Letter-high"),
    *("Letter-low", "Letter-med", "MSRC_9", "MSRC_21", "MSRC_21C", "COLLAB", "IMDB-BINARY", "IMDB-MULTI"),
    *("REDDIT-BINARY", "REDDIT-MULTI-5K", "REDDIT-MULTI-12K", "deezer_ego_nets", "github_stargazers"),
    *("twitch_egos", "SYNTHETIC", "SYNTHETICnew", "Synthie", "COLORS-3", "TRIANGLES"),
)
COLLECTION = "TUDataset"
REQUIRED = ("A", "graph_indicator", "graph_labels")
FEATURES = ("node_labels", "node_attributes")


def find(source: str, data_root: Path | None) -> dict[str, Path]:
    """Return the files to read, by what they hold, downloaded if no root has any.

    Raises:
        DatasetError: if they cannot be had, some are missing, or the set is one for regression.
    """
    name, colon, kind = source.partition(":")
    if colon and kind != "labels":
        raise DatasetError(f"data set {source}: after the colon only 'labels' is known, as in {name}:labels")
    name = next((known for known in NAMES if known.casefold() == name.casefold()), name)
    found = _find(name, data_root)
    if not found:
        wanted = [f"{name}_{part}.txt" for part in (*REQUIRED, *FEATURES)]
        some = [*wanted[:3], f"if there are any {wanted[3]}", wanted[4]]
        raw = locations.download(COLLECTION, name, some, _filler(name))
        found = _find(name, data_root)
        if not found:
            raise locations.lacking(raw, wanted[:3])
    folder = next(iter(found.values())).parent
    if "graph_attributes" in found and "graph_labels" not in found:
        raise DatasetError(f"{folder}: {name} has graph_attributes but no graph_labels: regression, not supported")
    missing = [f"{name}_{part}.txt" for part in REQUIRED if part not in found]
    if kind and "node_labels" not in found:
        missing.append(f"{name}_node_labels.txt")
    if missing:
        raise DatasetError(f"{folder}: {', '.join(missing)} missing; add the missing files beside the others")
    wanted = [*REQUIRED, *([FEATURES[0]] if kind else FEATURES)]
    return {part: found[part] for part in wanted if part in found}


def _find(name: str, data_root: Path | None) -> dict[str, Path]:
    """Return the files of the first folder that has any, by what they hold."""
    parts = {f"{name}_{part}.txt".casefold(): part for part in (*REQUIRED, *FEATURES, "graph_attributes")}
    for folder in locations.named_folders(data_root, COLLECTION, name):
        found = {
            parts[path.name.casefold()]: path
            for path in folder.iterdir()
            if path.name.casefold() in parts and path.is_file()
        }
        if found:
            return found
    return {}


def _filler(name: str) -> Callable[[Path], None]:
    """Return what downloads the set into a folder: the text files of its archive, without the archive's folders."""

    def fill(folder: Path) -> None:
        from torch_geometric.datasets import TUDataset

        archive = locations.fetch(f"{TUDataset.url}/{name}.zip", folder)
        with zipfile.ZipFile(archive) as members:
            unpacked = sum(member.file_size for member in members.infolist())
            if unpacked > MOST_UNPACKED:
                raise OSError(f"{archive.name} unpacks to {unpacked:,} bytes, at most {MOST_UNPACKED:,} are taken")
            for member in members.infolist():
                # The last part of the path alone: a member may call itself ../../elsewhere.
                file = re.split(r"[\\/]", member.filename)[-1]
                if file.startswith(f"{name}_") and file.endswith(".txt"):
                    with members.open(member) as packed:
                        locations.copy(packed, folder / file)
        archive.unlink()
        if not (folder / f"{name}_A.txt").is_file():
            raise OSError(f"{name}_A.txt is not in {archive.name}")

    return fill
