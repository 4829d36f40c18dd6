"""What operations read, declared by each, and insisted on before any of them runs.

Kernels are compiled without checks of bounds: what they are given must be right. So an operation says of every register
that it reads of what kind and shape it may be, and of every array of its own its type and shape. The executor holds
registers against that before a phase runs, on any number of threads, whoever made them; a program's own arrays are
checked when it is made ready to run. Arrays of indices, whose contents matter too, come in objects that check them as
they are made: ``Neighbours`` and those of ``sparse``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gnncompress.errors import ExecutionError

if TYPE_CHECKING:
    from gnncompress.runtime.program import Operation

# The size of a dimension: a number, one of several, a name for what is the same wherever an operation reads it, or
# anything (None); ``...`` stands for any number of dimensions of size 1.
Size = int | str | Collection[int] | None
Shape = tuple[Size | EllipsisType, ...]


class Kind(str, Enum):
    """What a register is. Arrays are contiguous; tensors are dense and on the CPU, but for those of CSR."""

    CODES = "codes"
    FLOATS = "floats"
    SPARSE_CODES = "sparse codes"
    NEIGHBOURS = "neighbours"
    WEIGHTED = "neighbours with weights"
    FLOAT_TENSOR = "a tensor of floats"
    WHOLE_TENSOR = "a tensor of whole numbers"
    BOOL_TENSOR = "a tensor of bools"
    CSR = "a CSR tensor of floats"
    CSR_OF_OTHERS = "a CSR tensor of whole numbers"
    NOTHING = "nothing"
    OTHER = "something else"


TENSORS = (Kind.FLOAT_TENSOR, Kind.WHOLE_TENSOR, Kind.BOOL_TENSOR)
# All that has a row for each node.
ROWS = (Kind.CODES, Kind.FLOATS, *TENSORS, Kind.SPARSE_CODES, Kind.CSR, Kind.CSR_OF_OTHERS)
ARRAYS = {torch.int8: Kind.CODES, torch.float32: Kind.FLOATS}
_OTHER = Kind.OTHER
_OF_DTYPE = {np.dtype(np.int8): Kind.CODES, np.dtype(np.float32): Kind.FLOATS}
_WHOLE = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip
_FLOATS = tuple(one for one in vars(torch).values() if isinstance(one, torch.dtype) and one.is_floating_point)
_OF_STRIDED = {
    **dict.fromkeys(_FLOATS, Kind.FLOAT_TENSOR),
    **dict.fromkeys(_WHOLE, Kind.WHOLE_TENSOR),
    torch.bool: Kind.BOOL_TENSOR,
}
_OF_CSR = {**dict.fromkeys(_FLOATS, Kind.CSR), **dict.fromkeys((*_WHOLE, torch.bool), Kind.CSR_OF_OTHERS)}


class Register:
    """What a register holds that is no array and no tensor."""

    KIND: ClassVar[Kind]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size, rows first."""
        raise NotImplementedError


Found = tuple[Kind, tuple[int, ...]]
# The shape that each kind must have.
Forms = Mapping[Kind, Shape]


@dataclass(frozen=True)
class Read:
    """What an operation asks of a register: the kinds of which it may be, and their shapes.

    ``what`` says in messages what it holds.
    """

    register: str
    what: str
    forms: Forms


@dataclass(frozen=True)
class Constant:
    """An array of an operation's own, and what it must be."""

    name: str
    value: Any
    dtype: type
    shape: Shape


def every(kinds: Sequence[Kind], *shape: Size | EllipsisType) -> dict[Kind, Shape]:
    """Return the same shape for several kinds."""
    return dict.fromkeys(kinds, shape)


def describe(value: Any) -> Found:
    """Return the kind and the shape of a value."""
    if type(value) is np.ndarray:
        return _OF_DTYPE.get(value.dtype, _OTHER) if value.flags.c_contiguous else _OTHER, value.shape
    if isinstance(value, Tensor):
        if value.is_nested or not value.is_cpu:
            return _OTHER, ()
        if value.layout is torch.strided:
            return _OF_STRIDED.get(value.dtype, _OTHER), value.shape
        return _OF_CSR.get(value.dtype, _OTHER) if value.layout is torch.sparse_csr else _OTHER, value.shape
    if isinstance(value, Register):
        return value.KIND, value.shape
    return Kind.NOTHING if value is None else _OTHER, ()


def insist(operation: Operation, env: Mapping[str, Any], made: Mapping[str, Found], rows: int | None = None) -> None:
    """Insist on what an operation reads: registers of ``env``, or such that are yet to be ``made``.

    ``rows`` is how many rows the operation is to make, if it is by row.

    Raises:
        ExecutionError: naming the operation and the register, what it must be, and what it is.
    """
    sizes: dict[str, int] = {} if rows is None else {"nodes": rows}
    for read in operation.reads:
        found = made.get(read.register)
        kind, shape = describe(env.get(read.register)) if found is None else found
        wanted = read.forms.get(kind)
        if wanted is None or not _fits(shape, wanted, sizes):
            told = _refusal(read, env.get(read.register), kind, shape, sizes)
            raise ExecutionError(f"{operation.out}: {told}")
    fault = operation.fault(sizes)
    if fault:
        raise ExecutionError(f"{operation.out}: {fault}")


def insist_on_own(operation: Operation) -> None:
    """Insist on an operation's own arrays, and that it says what it reads.

    Raises:
        ExecutionError: naming the array, what it must be, and what it is.
    """
    sizes: dict[str, int] = {}
    for constant in operation.constants():
        value = constant.value
        right = type(value) is np.ndarray and value.dtype == constant.dtype and value.flags.c_contiguous
        if not right or not _fits(value.shape, constant.shape, sizes):
            wanted = f"{np.dtype(constant.dtype)} [{_sizes(constant.shape, (), {})}]"
            raise ExecutionError(f"{operation.out}: {constant.name} must be {wanted}, not {shown(value)}")
    if operation.by_row:
        declared = {read.register for read in operation.reads}
        if declared != {*operation.own(), *operation.whole()}:
            raise NotImplementedError(f"{type(operation).__name__} does not say what it reads")
        if any(form[:1] != ("nodes",) for read in operation.reads for form in read.forms.values()):
            raise NotImplementedError(f"{type(operation).__name__} is by row, and reads what has other rows")


def _fits(shape: Sequence[int], wanted: Shape, sizes: dict[str, int]) -> bool:
    """Say whether a shape is what is wanted; sizes that have a name are added to ``sizes``."""
    if wanted and wanted[-1] is ...:
        wanted = wanted[:-1] + (1,) * (len(shape) - len(wanted) + 1)
    if len(shape) != len(wanted):
        return False
    for size, of in zip(shape, wanted):  # noqa: B905  asked a moment ago
        kind = type(of)
        if kind is int:
            if size != of:
                return False
        elif kind is str:
            if sizes.setdefault(of, size) != size:  # type: ignore[arg-type]
                return False
        elif of is not None and size not in of:  # type: ignore[operator]
            return False
    return True


def _refusal(read: Read, value: Any, kind: Kind, shape: Sequence[int], sizes: Mapping[str, int]) -> str:
    """Return what a register must be, what it is, and what to do; ``value`` is None if it is yet to be made."""
    wanted = _sizes(next(iter(read.forms.values())), shape, sizes)
    found = f"{kind.value} {list(shape)}" if value is None and kind is not Kind.NOTHING else shown(value)
    text = f"{read.register} must be {read.what} [{wanted}], not {found}"
    is_sparse = kind is Kind.SPARSE_CODES or (isinstance(value, Tensor) and value.layout is not torch.strided)
    if is_sparse and read.what == "features":
        if Kind.CSR in read.forms:
            if kind not in read.forms:
                text += "; sparse features must be CSR: x.to_sparse_csr()"
        else:
            text += "; features are added up before they are multiplied; give dense ones"
    elif kind not in read.forms and kind in (Kind.WHOLE_TENSOR, Kind.BOOL_TENSOR) and Kind.FLOAT_TENSOR in read.forms:
        text += f"; give floats: {read.register}.float()"
    return text


def _sizes(wanted: Shape, shape: Sequence[int], sizes: Mapping[str, int]) -> str:
    """Return a shape in words: the number that a name stands for is told where the size is another."""
    parts = []
    for of, size in zip_longest((one for one in wanted if one is not ...), shape):
        if isinstance(of, str):
            parts.append(of if sizes.get(of, size) == size else f"{sizes[of]:,} {of}")
        elif isinstance(of, range):
            parts.append(f"{of[0]} or more")
        elif isinstance(of, (int, tuple)):
            parts.append(f"{of[0] if isinstance(of, tuple) else of}")
    return ", ".join(parts)


def shown(value: Any) -> str:
    """Return in a few words what a value is."""
    if isinstance(value, Register):
        return f"{value.KIND.value} {list(value.shape)}"
    if isinstance(value, Tensor):
        if value.is_nested or not value.is_cpu:
            return f"a {'nested ' if value.is_nested else ''}tensor on {value.device}"
        layout = "" if value.layout is torch.strided else f" {str(value.layout).removeprefix('torch.')}"
        return f"{value.dtype}{layout} {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}{'' if value.flags.c_contiguous else ', not contiguous'}"
    return "nothing" if value is None else f"a {type(value).__name__}"
