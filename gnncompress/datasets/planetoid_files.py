"""The three kinds of raw file that a Planetoid network consists of, read so that no file can do harm."""

from __future__ import annotations

import pickle
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from gnncompress.errors import DatasetError


class _Unpickler(pickle.Unpickler):
    """Knows the names that arrays, CSR matrices and dictionaries of lists need, and refuses every other."""

    def find_class(self, module: str, name: str) -> Any:
        from scipy.sparse import csr_matrix

        # Old and new Pythons, numpys and scipys call the same things differently.
        known = {
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
            "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
            "numpy._core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
            "scipy.sparse.csr.csr_matrix": csr_matrix,
            "scipy.sparse._csr.csr_matrix": csr_matrix,
            "collections.defaultdict": defaultdict,
            "__builtin__.list": list,
            "builtins.list": list,
        }
        if f"{module}.{name}" not in known:
            raise DatasetError(f"asks for {module}.{name}, which no file of this kind needs; do not trust it")
        return known[f"{module}.{name}"]


def dense(path: Path) -> np.ndarray:
    """Return a pickled matrix, sparse or not, as float32 [rows, columns].

    Raises:
        DatasetError: naming the file, if it is damaged, asks for code to be run, or holds something else.
    """
    found = _unpickle(path)
    try:
        if not isinstance(found, np.ndarray):
            from scipy.sparse import csr_matrix

            found = csr_matrix((found.data, found.indices, found.indptr), shape=found.shape)
            found.check_format(full_check=True)  # indices out of range would write outside the array below
            found = found.toarray()
        found = found.astype(np.float32)
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: damaged, holds no matrix ({error}); restore it") from error
    if found.ndim != 2 or not found.size or not np.isfinite(found).all():
        raise DatasetError(f"{path}: damaged, holds no matrix of finite numbers; restore it")
    return found


def node_numbers(path: Path, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two ends [E], [E] of every edge of a pickled neighbour dictionary over ``nodes`` nodes.

    Raises:
        DatasetError: naming the file, if it is damaged, asks for code to be run, or names a node out of range.
    """
    graph = _unpickle(path)
    try:
        degrees = [len(neighbours) for neighbours in graph.values()]
        source = np.repeat(np.array(list(graph), dtype=np.int64), degrees)
        target = np.fromiter(chain.from_iterable(graph.values()), dtype=np.int64, count=sum(degrees))
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: damaged, holds no lists of neighbours ({error}); restore it") from error
    for ends in (source, target):
        if ends.size and not 0 <= ends.min() <= ends.max() < nodes:
            raise DatasetError(f"{path}: an edge ends outside the other files' {nodes:,} nodes; restore it")
    return source, target


def test_numbers(path: Path) -> np.ndarray:
    """Return the node numbers [T] of a text file with one a line.

    Raises:
        DatasetError: naming the file, and the line that is no number or repeats one.
    """
    seen: dict[int, None] = {}
    for line, text in enumerate(path.read_text(errors="replace").rstrip().split("\n"), start=1):
        number = int(text) if text.strip().isdecimal() else -1
        if number < 0 or number in seen:
            raise DatasetError(f"{path}: line {line}: {text[:40]!r} is not the number of a further node; restore it")
        seen[number] = None
    return np.array(list(seen), dtype=np.int64)


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    except Exception as error:  # what a damaged pickle raises has no bounds
        raise DatasetError(f"{path}: damaged or cut short ({error}); replace it with a fresh copy") from error
