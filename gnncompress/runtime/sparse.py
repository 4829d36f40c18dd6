"""Sparse features as arrays that kernels may follow without looking: they are checked as they are made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gnncompress.errors import ExecutionError
from gnncompress.runtime import features
from gnncompress.runtime.reads import Kind, Register, shown

INDICES: Collection[np.dtype[Any]] = frozenset({np.dtype(np.int64), np.dtype(np.int32)})


def is_line(array: object, dtypes: Collection[np.dtype[Any]]) -> bool:
    """Say whether something is a contiguous array of one dimension and one of the types."""
    return type(array) is np.ndarray and array.ndim == 1 and array.dtype in dtypes and bool(array.flags.c_contiguous)


def insist_on_rows(starts: np.ndarray, columns: np.ndarray, width: int) -> None:
    """Insist on rows of column numbers: row i has columns[starts[i]:starts[i + 1]], each in [0, width).

    Raises:
        ExecutionError: if they are anything else.
    """
    for array in (starts, columns):
        if not is_line(array, INDICES):
            raise ExecutionError(f"rows and columns must be whole numbers in a line, not {shown(array)}")
    if not len(starts):
        raise ExecutionError("there are no row pointers")
    look(starts, columns, width)


def look(starts: np.ndarray, columns: np.ndarray, width: int) -> None:
    """Look at what rows and columns hold.

    Raises:
        ExecutionError: if one is elsewhere.
    """
    if not features.is_csr(starts, columns, width):
        raise ExecutionError(f"a row or a column is outside [{len(starts) - 1}, {width}]")


@dataclass(frozen=True)
class Pattern:
    """Where the values of a sparse matrix are. Shapes: starts [rows + 1], columns [values] in [0, width).

    Raises:
        ExecutionError: if a row or a column is elsewhere.
    """

    starts: np.ndarray
    columns: np.ndarray
    width: int

    def __post_init__(self) -> None:
        insist_on_rows(self.starts, self.columns, self.width)


@dataclass(frozen=True)
class _Sparse(Register):
    """A sparse matrix. Shapes: values as the pattern's columns.

    Raises:
        ExecutionError: if there is not a value for each column.
    """

    pattern: Pattern
    values: np.ndarray

    DTYPES: ClassVar[Collection[np.dtype[Any]]]

    def __post_init__(self) -> None:
        values, columns = self.values, self.pattern.columns
        if not is_line(values, self.DTYPES) or values.shape != columns.shape:
            raise ExecutionError(f"{len(columns):,} columns must have as many values, not {shown(values)}")

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and columns."""
        return len(self), self.pattern.width

    def __len__(self) -> int:
        return len(self.pattern.starts) - 1


class SparseFloats(_Sparse):
    """A sparse matrix of floats."""

    KIND = Kind.CSR
    DTYPES = (np.dtype(np.float32),)


class SparseCodes(_Sparse):
    """Sparse rows of codes: of each stored value its code less the zero point, int16."""

    KIND = Kind.SPARSE_CODES
    DTYPES = (np.dtype(np.int16),)


def floats_of(name: str, x: Tensor) -> SparseFloats:
    """Return what a CSR tensor holds, for which torch takes anything if it is told not to look.

    Raises:
        ExecutionError: if they are damaged, naming the register that was to be made.
    """
    starts, columns = np.ascontiguousarray(x.crow_indices().numpy()), np.ascontiguousarray(x.col_indices().numpy())
    height, width = x.shape
    try:
        if len(starts) != height + 1:
            raise ExecutionError(f"{height:,} rows have {len(starts):,} pointers")
        return SparseFloats(Pattern(starts, columns, width), array_of(x.values()))
    except ExecutionError as error:
        raise damaged(name, error) from error


def look_again(name: str, given: SparseFloats) -> None:
    """Look at what a CSR tensor's memory holds now.

    Raises:
        ExecutionError: as ``floats_of`` does.
    """
    try:
        look(given.pattern.starts, given.pattern.columns, given.pattern.width)
    except ExecutionError as error:
        raise damaged(name, error) from error


def damaged(name: str, why: Exception) -> ExecutionError:
    """Return the error that names what was to be made of damaged features."""
    return ExecutionError(f"{name}: the sparse features are damaged: {why}")


def is_memory_of(x: Tensor, given: Any) -> bool:
    """Say whether the arrays that were made of a tensor, dense or CSR, are its own memory, and will change with it."""
    if not isinstance(given, SparseFloats):
        return is_array(x)
    parts = zip((x.crow_indices(), x.col_indices()), (given.pattern.starts, given.pattern.columns), strict=True)
    return is_array(x.values()) and all(part.data_ptr() == made.ctypes.data for part, made in parts)


def is_array(x: Tensor) -> bool:
    """Say whether a dense tensor's memory is an array of floats as it is."""
    return x.dtype is torch.float32 and x.is_contiguous() and not x.is_neg()


def array_of(x: Tensor) -> np.ndarray:
    """Return a dense tensor of numbers as a contiguous array of floats: its own memory if that is one, else a copy."""
    x = x.detach()  # an array holds the tensor that it was made of, whose memory may be taken from it by ``data``
    return (x if is_array(x) else x.float().contiguous().resolve_neg()).numpy()
