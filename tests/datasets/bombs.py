"""Small files that ask for large memory, and a program for ``test_limits`` that loads them with little memory left.

It prints, as JSON, for each the error and the bytes that the process grew by.
"""

from __future__ import annotations

import json
import pickle
import resource
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch_geometric.data import Data

from gnncompress.datasets import moleculenet, planetoid, tudataset
from gnncompress.datasets.transforms import encode_features
from gnncompress.errors import GnncompressError
from tests.memory import growth, memory

ROOM = 192 * 2**20
LONG = 2**31

TINY = {"A": "1, 2\n2, 1\n", "graph_indicator": "1\n1\n1\n2\n", "graph_labels": "1\n2\n", "node_labels": "0\n1\n0\n1\n"}


def tu(root: Path, **changes: str) -> None:
    """Write a TUDataset of two graphs with some files changed."""
    folder = root / "TUDataset" / "TINY" / "raw"
    folder.mkdir(parents=True)
    for part, text in {**TINY, **changes}.items():
        (folder / f"TINY_{part}.txt").write_text(text)


def holey(path: Path, start: str = "") -> None:
    """Write a file that is 2 GiB long and takes no room on disk: after ``start`` it has zero bytes."""
    path.write_text(start)
    with path.open("r+b") as file:
        file.truncate(LONG)


def tu_holey(root: Path, part: str, start: str = "") -> None:
    tu(root)
    holey(root / "TUDataset" / "TINY" / "raw" / f"TINY_{part}.txt", start)


def molecules(root: Path, text: str) -> None:
    """Write a molecule set."""
    folder = root / "MoleculeNet" / "mine" / "raw"
    folder.mkdir(parents=True)
    (folder / "set.csv").write_text(text)


def molecules_holey(root: Path) -> None:
    molecules(root, "")
    holey(root / "MoleculeNet" / "mine" / "raw" / "set.csv", "smiles,y\nC,")


def citations(root: Path, part: str, content: object) -> None:
    """Write a CiteSeer of six nodes with one file changed."""
    folder = root / "Planetoid" / "CiteSeer" / "raw"
    folder.mkdir(parents=True)
    known, tested, labels = csr_matrix(np.eye(4, 3)), csr_matrix(np.eye(2, 3)), np.eye(4, 2)
    parts: dict[str, object] = {
        "x": known[:2],
        "allx": known,
        "tx": tested,
        "y": labels[:2],
        "ally": labels,
        "ty": labels[:2],
        "graph": {0: [1], 1: [0]},
        "test.index": b"4\n5\n",
    }
    for name, made in {**parts, part: content}.items():
        data = made if isinstance(made, bytes) else pickle.dumps(made, protocol=4)
        (folder / f"ind.citeseer.{name}").write_bytes(data)


def citations_holey(root: Path, part: str) -> None:
    citations(root, part, b"")
    holey(root / "Planetoid" / "CiteSeer" / "raw" / f"ind.citeseer.{part}")


def shaped(*shape: int) -> csr_matrix:
    """Return a matrix of three rows that says it has another shape."""
    matrix = csr_matrix(np.eye(3))
    matrix._shape = shape
    return matrix


class Calls:
    """Is pickled as a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def repeated() -> dict[int, list[int]]:
    neighbours = [0] * 100_000
    return dict.fromkeys(range(100_000), neighbours)


def copied() -> list[object]:
    numbers = list(range(100_000))
    return [Calls(list, numbers) for _ in range(2_000)]


# A memo of 2^31 entries: the unpickler makes room for all of them.
MEMO = b"\x80\x02}" + b"r" + struct.pack("<I", 2**31) + b"."


def categories() -> object:
    x = (torch.arange(400_000) % 9_000).view(-1, 1)
    return encode_features([Data(x=x, edge_index=torch.empty(2, 0, dtype=torch.long))], "auto")


def many_columns(root: Path) -> None:
    """Write twenty label columns of 400 values for 100,000 nodes: one alone fits."""
    nodes = 100_000
    rows = "".join(", ".join(["0" if node % 2 else "399"] * 20) + "\n" for node in range(nodes))
    tu(root, graph_indicator="1\n" * (nodes - 1) + "2\n", node_labels=rows)


TU: dict[str, Callable[[Path], None]] = {
    "a label": lambda root: tu(root, node_labels="0\n0\n0\n268435455\n"),
    "a label of 2^63": lambda root: tu(root, node_labels=f"{-(2**63)}\n0\n0\n{2**63 - 1}\n"),
    "twenty labels": lambda root: tu(root, node_labels=("0," * 19 + "0\n") * 3 + "67108863," * 19 + "67108863\n"),
    "twenty columns": many_columns,
    "a million attributes": lambda root: tu(root, node_attributes=("0," * 999_999 + "0\n") * 4),
    "four million attributes": lambda root: tu(root, node_attributes="0," * 3_999_999 + "0\n"),
    "a long row among short ones": lambda root: tu(root, A="1, 2\n" + "1," * 2_000_000 + "1\n"),
    "short rows after a long one": lambda root: tu(root, node_attributes="0," * 30_000 + "0\n" + "0\n" * 4_000),
    "a graph of a large number": lambda root: tu(root, graph_indicator=f"1\n1\n1\n{2**62}\n"),
    "many graphs": lambda root: tu(root, graph_indicator="".join(f"{n}\n" for n in range(1, 2**20 + 2))),
    "a node of a large number": lambda root: tu(root, A=f"1, {2**62}\n"),
    "a line without end": lambda root: tu_holey(root, "graph_indicator", "1\n1\n"),
    "attributes without end": lambda root: tu_holey(root, "node_attributes", "0,"),
}
MOLECULES: dict[str, Callable[[Path], None]] = {
    "a molecule": lambda root: molecules(root, f"smiles,y\n{'C' * 100_000},1\n"),
    "2,001 atoms": lambda root: molecules(root, f"smiles,y\nC,0\n{'C' * 2_001},1\n"),
    "many names": lambda root: molecules(root, "smiles," + "y," * 1_000_000 + "y\n"),
    "many fields": lambda root: molecules(root, "smiles,y\nC" + "," * 4_000_000 + "\n"),
    "a row of many lines": lambda root: molecules(root, 'smiles,y\n"' + 'C\n","' * 1_000_000),
    "a row without end": molecules_holey,
}
CITATIONS: dict[str, Callable[[Path], None]] = {
    "a large shape": lambda root: citations(root, "allx", shaped(2**31, 2**31)),
    "a wide shape": lambda root: citations(root, "allx", shaped(3, 2**27)),
    "a call for an array": lambda root: citations(root, "allx", Calls(np.ndarray, (2**40,))),
    "a call for a matrix": lambda root: citations(root, "allx", Calls(csr_matrix, (2**40, 3))),
    "a call for a copy": lambda root: citations(root, "graph", copied()),
    "a memo": lambda root: citations(root, "graph", MEMO),
    "a list named again": lambda root: citations(root, "graph", repeated()),
    "a test node": lambda root: citations(root, "test.index", b"4\n" + b"9" * 5_000 + b"\n"),
    "a test node beyond": lambda root: citations(root, "test.index", f"4\n{2**62}\n".encode()),
    "a pickle without end": lambda root: citations_holey(root, "allx"),
}
SOUND = {
    "tu": (tu, lambda root: tudataset.load("TINY", root)),
    "molecules": (lambda root: molecules(root, "smiles,y\nC,1\nCO,0\n"), lambda root: moleculenet.load("mine", root)),
    "citations": (lambda root: citations(root, "y", np.eye(4, 2)[:2]), lambda root: planetoid.load("citeseer", root)),
}
BOMBS = {"tu": TU, "molecules": MOLECULES, "citations": CITATIONS}


def write(folder: Path) -> None:
    """Write all files, of each kind some that are sound, too."""
    for kind, (sound, _) in SOUND.items():
        sound(folder / kind / "sound")
        for name, bomb in BOMBS[kind].items():
            bomb(folder / kind / name)


def attempt(load: Callable[[], object]) -> tuple[str, str, int]:
    """Return the kind of error that loading raises, its text, and the bytes that the process grew by meanwhile."""
    kind, text = "none", ""
    with growth() as grown:
        try:
            load()
        except GnncompressError as error:
            kind, text = type(error).__name__, str(error)
        except BaseException as error:  # the test tells it
            kind, text = f"raw {type(error).__name__}", str(error)
        return kind, text, grown()


def main(folder: Path) -> None:
    """Load what is sound with all memory, and the rest with little more than the process then has."""
    for kind, (_, load) in SOUND.items():
        load(folder / kind / "sound")
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + ROOM, resource.RLIM_INFINITY))
    found = {}
    for kind, (_, load) in SOUND.items():
        for name in BOMBS[kind]:
            found[name] = attempt(partial(load, folder / kind / name))
    found["categories"] = attempt(categories)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
