"""The three kinds of raw file that a Planetoid network consists of, read so that no file can do harm.

A pickle is a program. Its few names stand for things here that hold what they are given and make nothing of it; the
sizes that it names are compared with the file's own before memory is taken for them.
"""

from __future__ import annotations

import pickle
import pickletools
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from gnncompress.datasets.limits import MOST_COLUMNS, MOST_PICKLE, too_wide
from gnncompress.datasets.tables import table
from gnncompress.errors import DatasetError

_MEMO = ("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET")


class _Matrix:
    """A CSR matrix as it was pickled: attributes, not yet checked."""


class _Nothing:
    """What a pickle names and nobody needs: a class of arrays, the kind of a dictionary's values."""


def _array(*_: object) -> np.ndarray:
    """Return the empty array that a pickle's shape and bytes are put into."""
    return np.empty(0, dtype=np.int8)


def _neighbours(*_: object) -> dict[Any, Any]:
    """Return the dictionary that a pickle's lists are put into."""
    return {}


# Old and new Pythons, numpys and scipys call the same things differently.
_KNOWN: dict[str, Any] = {
    "numpy.ndarray": _Nothing,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
    "scipy.sparse.csr.csr_matrix": _Matrix,
    "scipy.sparse._csr.csr_matrix": _Matrix,
    "collections.defaultdict": _neighbours,
    "__builtin__.list": _Nothing,
    "builtins.list": _Nothing,
}


class _Unpickler(pickle.Unpickler):
    """Knows the names that arrays, CSR matrices and dictionaries of lists need, and refuses every other."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _KNOWN:
            raise DatasetError(f"asks for {module}.{name}, which no file of this kind needs; do not trust it")
        return _KNOWN[f"{module}.{name}"]


def dense(path: Path) -> np.ndarray:
    """Return a pickled matrix, sparse or not, as float32 [rows, columns].

    Memory: the matrix, at most 2.5 GiB, and ten times the file, which may have 256 MiB.

    Raises:
        DatasetError: naming the file, if it is damaged or too large, asks for code to be run, or holds something else.
    """
    found = _unpickle(path)
    try:
        shape = found.shape if isinstance(found, np.ndarray) else tuple(map(int, found._shape))
        if len(shape) == 2:
            _insist_on_room(path, *shape)
        found = _floats(found) if isinstance(found, np.ndarray) else _from_csr(found, shape)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: damaged, holds no matrix ({error}); restore it") from error
    if found.ndim != 2 or not found.size or not np.isfinite(found).all():
        raise DatasetError(f"{path}: damaged, holds no matrix of finite numbers; restore it")
    return found


def _insist_on_room(path: Path, rows: int, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise DatasetError(f"{path}: {columns:,} columns, at most {MOST_COLUMNS:,} are read; restore it")
    if refusal := too_wide(rows, columns):
        raise DatasetError(f"{path}: {refusal}")


def _floats(array: object) -> np.ndarray:
    """Return an array of numbers as float32; what does not fit becomes infinite."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise TypeError(f"{getattr(array, 'dtype', type(array).__name__)} instead of an array of real numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _from_csr(matrix: Any, shape: tuple[int, ...]) -> np.ndarray:
    from scipy.sparse import csr_matrix

    made = csr_matrix((_floats(matrix.data), matrix.indices, matrix.indptr), shape=shape)
    made.check_format(full_check=True)  # indices out of range would write outside the array below
    return np.asarray(made.toarray())


def node_numbers(path: Path, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two ends [E], [E] of every edge of a pickled neighbour dictionary over ``nodes`` nodes.

    Raises:
        DatasetError: naming the file, if it is damaged or too large, asks for code to be run, names a node out of
            range, or has a list of neighbours more than once.
    """
    graph = _unpickle(path)
    try:
        degrees = [len(neighbours) for neighbours in graph.values()]
        if sum(degrees) > path.stat().st_size:  # a list that a pickle names again costs it three bytes
            raise DatasetError(f"{path}: {sum(degrees):,} neighbours, more than the file has bytes; restore it")
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
        DatasetError: naming the file, and the line that is no number, is negative or repeats one.
    """
    numbers = table(path, whole=True, columns=1)[:, 0]
    first = np.zeros(len(numbers), dtype=bool)
    first[np.unique(numbers, return_index=True)[1]] = True
    wrong = (numbers < 0) | ~first
    if wrong.any():
        line = int(wrong.argmax())
        raise DatasetError(
            f"{path}: line {line + 1}: '{numbers[line]}' is not the number of a further node; restore it"
        )
    return numbers


def _unpickle(path: Path) -> Any:
    size = path.stat().st_size
    if size > MOST_PICKLE:
        raise DatasetError(f"{path}: {size:,} bytes, at most {MOST_PICKLE:,} are read; restore it")
    try:
        with path.open("rb") as file:
            for code, argument, _ in pickletools.genops(file):
                # The unpickler makes room for every number up to this one.
                if code.name in _MEMO and int(argument or 0) > size:
                    raise DatasetError(f"asks for {argument:,} objects, more than the file has bytes; do not trust it")
            file.seek(0)
            return _Unpickler(file, encoding="latin1").load()
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    except Exception as error:  # what a damaged pickle raises has no bounds
        raise DatasetError(f"{path}: damaged or cut short ({error}); replace it with a fresh copy") from error
