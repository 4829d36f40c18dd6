"""A program: a list of operations on named registers, and its text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch

from gnncompress.runtime.reads import Constant, Read
from gnncompress.runtime.rounding import NAMES, NUMBERS

if TYPE_CHECKING:
    from gnncompress.runtime.executor import Block


@dataclass(frozen=True, eq=False)
class Operation:
    """Makes the register ``out``. Those named in ``OWN`` are read row by row, those in ``WHOLE`` anywhere.

    An operation that is ``by_row`` makes a range of rows from the same rows of what it reads row by row, so that blocks
    of rows may go through many operations before the next block does.
    """

    out: str

    OWN: ClassVar[tuple[str, ...]] = ()
    WHOLE: ClassVar[tuple[str, ...]] = ()
    # Those of them of which nothing but the number of rows is read.
    COUNTED: ClassVar[tuple[str, ...]] = ()
    # The field whose register has as many rows as what is made; empty if none is known to have.
    LIKE: ClassVar[str] = ""
    by_row: ClassVar[bool] = True
    # Whether what is made, if it is not by row, surely shares no memory with what is read.
    COPIES: ClassVar[bool] = False

    def own(self) -> list[str]:
        """Return the registers that are read row by row."""
        return [name for field in self.OWN for name in _names(getattr(self, field))]

    def whole(self) -> list[str]:
        """Return the registers that are read anywhere."""
        return [name for field in self.WHOLE for name in _names(getattr(self, field))]

    def counted(self) -> list[str]:
        """Return the registers of which nothing but the number of rows is read."""
        read = {*self.OWN, *self.WHOLE}.difference(self.COUNTED)
        others = {name for field in read for name in _names(getattr(self, field))}
        return [name for field in self.COUNTED for name in _names(getattr(self, field)) if name not in others]

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """What the registers that are read must be; nothing is asked of those that are left out."""
        return ()

    def constants(self) -> Iterable[Constant]:
        """Return the operation's own arrays, and what they must be; each is checked before the next is asked for."""
        return ()

    def fault(self, sizes: Mapping[str, int]) -> str:
        """Return what is wrong with the sizes that ``reads`` gives names to, nothing if all is well."""
        return ""

    def shape(self, widths: Mapping[str, int]) -> tuple[int, torch.dtype]:
        """Return the width of the rows that the operation makes, given those of other registers, and their type."""
        raise NotImplementedError

    def rows(self, block: Block) -> None:
        """Make the rows of a block."""
        self.bound(block)()

    def bound(self, block: Block) -> Callable[[], object]:
        """Return what makes the rows of a block, as often as it is called, while the block's registers are the same."""
        return partial(self.rows, block)

    def run(self, env: Mapping[str, Any], workspace: Any) -> Any:
        """Return what the operation makes, if it is not by row."""
        raise NotImplementedError

    def again(self, env: Mapping[str, Any], made: Any, workspace: Any) -> Sequence[Callable[[], object]] | None:
        """Return what makes ``made`` again as long as all that ``run`` read is the same, None if it is to run anew."""
        return None

    def __str__(self) -> str:
        return f"{self.out} = {type(self).__name__.lower()} {describe(self)}"


class Place(NamedTuple):
    """A value of the model that a program was made of: what the n-th call of a module returns, counted from 0."""

    module: str
    call: int


@dataclass(frozen=True, eq=False)
class Program:
    """Operations in the order of their execution, the names of the inputs, and the register that is the result.

    Inputs that are ``optional`` may be None. The result has ``width`` columns, 0 if that is not known. ``floats`` says
    which layers run in floats, and why. ``stands_for`` says which values of the model registers hold, and ``calls`` how
    often each module is called for them. ``within`` names the register to which an operation that was made part of
    another rounds first.
    """

    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]
    result: str
    width: int = 0
    optional: tuple[str, ...] = ()
    floats: tuple[tuple[str, str], ...] = ()
    stands_for: Mapping[str, Place] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    within: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"inputs {', '.join(self.inputs)}", *map(str, self.operations), f"result {self.result}"]
        lines += [f"in floats: {layer} ({why})" for layer, why in self.floats]
        return "\n".join(lines)


def describe(operation: Operation) -> str:
    """Return an operation's registers and numbers as text, of arrays their shape, or their range."""
    parts = []
    for one in fields(operation):
        value = getattr(operation, one.name)
        if one.name == "numbers" and len(value) == NUMBERS:
            parts += [f"{name}={_shown(row)}" for name, row in zip(NAMES, value, strict=True) if row.any()]
        elif one.name != "out" and not (isinstance(value, (str, bool)) and not value):
            parts.append(f"{one.name}={_shown(value)}")
    return " ".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        if value.ndim > 1:
            return f"{value.dtype}[{'x'.join(map(str, value.shape))}]"
        return f"{value.min():g}" if value.min() == value.max() else f"{value.min():g}..{value.max():g}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _names(value: Any) -> Iterable[str]:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str) else value
