"""Molecules as graphs, made by rdkit once and kept in the cache as plain arrays.

rdkit and PyG take a millisecond a molecule, a hundred times what reading the arrays takes.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gnncompress.datasets.limits import MOST_ATOMS
from gnncompress.datasets.loaded import Loaded
from gnncompress.datasets.locations import derived
from gnncompress.errors import DatasetError

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from gnncompress.datasets.moleculenet_csv import Molecules

FORMAT = 1
NAMED = 3
TEXTS = ("smiles", "canonical", "scaffold")


def load(name: str, fingerprint: str, read: Callable[[], Molecules]) -> Loaded:
    """Return the graphs of the file with this ``fingerprint``, from the cache if they are there, else of ``read()``.

    Raises:
        DatasetError: if rdkit is not installed, no molecule can be expressed, or the cache is damaged.
    """
    try:
        import rdkit
    except ImportError as error:
        raise DatasetError(f"data set {name}: molecules need rdkit; install it with pip install rdkit") from error
    import torch_geometric

    versions = (str(FORMAT), name, fingerprint, rdkit.__version__, torch_geometric.__version__)
    key = hashlib.sha256("\n".join(versions).encode()).hexdigest()
    folder = derived(f"moleculenet-{name}", key, lambda stage: _write(stage, name, read()))
    try:
        return _read(folder)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{folder}: damaged ({error}); remove this folder, it will be made anew") from error


def _write(folder: Path, name: str, molecules: Molecules) -> None:
    """Make the graphs and write them: all of a kind in one array, cut by the counts of nodes and edges."""
    from rdkit import rdBase

    graphs: list[Data] = []
    kept, refused = [], []
    with rdBase.BlockLogs():
        for row, (line, smiles) in enumerate(zip(molecules.lines, molecules.smiles, strict=True)):
            try:
                graph = _graph(smiles)
            except DatasetError as error:
                raise DatasetError(f"data set {name}: line {line:,}: {error}") from error
            if graph is None:
                refused.append(f"{' '.join(smiles.split())[:60] or 'blank'} (line {line:,})")
            else:
                graphs.append(graph)
                kept.append(row)
    if not graphs:
        raise DatasetError(f"data set {name}: rdkit reads none of its {len(refused):,} SMILES, such as {refused[0]}")
    y = molecules.labels[kept].astype(np.float32)
    np.savez(
        folder / "arrays.npz",
        nodes=np.array([graph.num_nodes for graph in graphs]),
        edges=np.array([graph.num_edges for graph in graphs]),
        x=np.concatenate([graph.x.numpy() for graph in graphs]).astype(np.int16),
        edge_index=np.concatenate([graph.edge_index.numpy() for graph in graphs], axis=1).astype(np.int32),
        edge_attr=np.concatenate([graph.edge_attr.numpy() for graph in graphs]).astype(np.int16),
        y=y,
    )
    texts = {key: [graph[key] for graph in graphs] for key in TEXTS}
    notes = molecules.notes + _notes(refused, texts["canonical"], y)
    (folder / "texts.json").write_text(json.dumps({**texts, "notes": notes}), encoding="utf-8")


def _graph(smiles: str) -> Data | None:
    """Return the molecule as a graph with its texts, or None if rdkit or PyG cannot express it.

    Raises:
        DatasetError: if it has more than 2,000 atoms.
    """
    from rdkit import Chem
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles
    from torch_geometric.utils import from_rdmol

    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        return None
    if (atoms := molecule.GetNumAtoms()) > MOST_ATOMS:
        raise DatasetError(f"a molecule of {atoms:,} atoms, at most {MOST_ATOMS:,} are read; leave it out")
    try:
        graph: Data = from_rdmol(molecule)
        graph.scaffold = MurckoScaffoldSmiles(mol=molecule)
    except (RuntimeError, ValueError):  # a charge or a degree beyond PyG's categories; a scaffold beyond rdkit's rules
        return None
    graph.smiles, graph.canonical = smiles, Chem.MolToSmiles(molecule)
    return graph


def _notes(refused: list[str], canonical: list[str], y: np.ndarray) -> list[str]:
    """Say how many rows are left out and which, and how many molecules occur more than once."""
    notes = []
    if refused:
        rows = f"{len(refused):,} of {len(refused) + len(canonical):,} rows"
        more = f" and {len(refused) - NAMED:,} more" if len(refused) > NAMED else ""
        notes.append(f"{rows} left out, no graph can be made of their SMILES: {', '.join(refused[:NAMED])}{more}")
    rows_of = defaultdict(list)
    for text, label in zip(canonical, y, strict=True):
        rows_of[text].append(label.tobytes())
    repeated = [rows for rows in rows_of.values() if len(rows) > 1]
    if repeated:
        unlike = sum(len(set(rows)) > 1 for rows in repeated)
        times = f"{len(repeated):,} molecule{'s occur' if len(repeated) > 1 else ' occurs'} more than once"
        notes.append(
            f"{times} ({sum(map(len, repeated)):,} rows; the labels of {unlike:,} differ): "
            f"{len(rows_of):,} distinct of {len(canonical):,}"
        )
    return notes


def _read(folder: Path) -> Loaded:
    """Read the arrays as graphs again."""
    import torch

    from gnncompress.datasets.collated import Collated, Field, bounds_of

    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        nodes, edges = torch.from_numpy(arrays["nodes"]), torch.from_numpy(arrays["edges"])
        fields = {
            "x": Field(torch.from_numpy(arrays["x"]).long(), bounds_of(nodes)),
            "edge_index": Field(torch.from_numpy(arrays["edge_index"]).long(), bounds_of(edges), dim=1),
            "edge_attr": Field(torch.from_numpy(arrays["edge_attr"]).long(), bounds_of(edges)),
            "y": Field(torch.from_numpy(arrays["y"]), torch.arange(len(nodes) + 1)),
        }
    graphs = Collated({**fields, **{key: texts[key] for key in TEXTS}}, nodes)
    return Loaded(graphs, tuple(texts["notes"]))
