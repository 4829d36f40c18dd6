"""Where small registers are: in few places, taken in turns to stay in a cache, the same ones from call to call."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gnncompress.runtime.arrays import empty, tensor_of
from gnncompress.runtime.graphs import Version, version_of
from gnncompress.runtime.program import Operation, Program


@dataclass(frozen=True)
class Mark:
    """What a register, or an input, was when it was read: an array, a tensor and its version, or None."""

    name: str
    value: Any
    version: Version | None = None

    def is_of(self, value: Any) -> bool:
        """Say whether a value is the very same, and unchanged if it is a tensor; arrays have places, and may change."""
        if self.version is None:
            return value is self.value
        return value is not None and value is self.value() and version_of(value) == self.version


@dataclass(frozen=True)
class Count:
    """How many rows a register had when no more than that was read."""

    name: str
    rows: int

    def is_of(self, value: Any) -> bool:
        """Say whether a value has as many rows."""
        return value is not None and len(value) == self.rows


@dataclass(frozen=True)
class Bound:
    """Phases as they ran last, up to ``end``: what they read and made, and the calls that make it there again."""

    read: tuple[Mark | Count, ...]
    made: dict[str, Any]
    calls: tuple[Callable[[], object], ...]
    end: int

    def run_again(self, env: dict[str, Any]) -> bool:
        """Make the same registers anew if those that were read are the very same; say whether they are."""
        for mark in self.read:
            if not mark.is_of(env.get(mark.name)):
                return False
        env.update(self.made)
        for call in self.calls:
            call()
        return True

    def and_then(self, other: Bound) -> Bound:
        """Return this and what follows as one."""
        known = {*self.made, *(mark.name for mark in self.read if isinstance(mark, Mark))}
        new = tuple(mark for mark in other.read if mark.name not in known)
        return Bound(self.read + new, self.made | other.made, self.calls + other.calls, other.end)


@dataclass
class Places:
    """The places of the registers of one call at a time, by the numbers that ``taken_in_turns`` gave them.

    ``bound`` are phases that ran in these places, by the first's number; ``pool`` is what operations need meanwhile.
    """

    numbers: Mapping[str, int]
    bound: dict[int, Bound] = field(default_factory=dict)
    pool: dict[Any, Any] = field(default_factory=dict)
    _arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _bytes: dict[int, np.ndarray] = field(default_factory=dict)
    _tensors: dict[str, tuple[np.ndarray, torch.Tensor]] = field(default_factory=dict)

    def bind(
        self,
        env: Mapping[str, Any],
        names: Sequence[str],
        made: dict[str, Any],
        calls: Sequence[Callable[[], object]],
        end: int,
        counted: Collection[str] = (),
    ) -> Bound | None:
        """Return a phase as it ran, None if it read a tensor that knows no version, or an array that has no place.

        The former may change unseen; the latter will not come again, and would only be kept alive. Of the registers
        ``counted`` only the number of rows was read.
        """
        marks: list[Mark | Count] = []
        for name in names:
            value = env.get(name)
            if name in counted:
                marks.append(Count(name, len(env[name])))
            elif isinstance(value, torch.Tensor):
                version = version_of(value)
                if version is None:
                    return None
                marks.append(Mark(name, weakref.ref(value), version))
            elif isinstance(value, np.ndarray) and not self.has(name, value):
                return None
            else:
                marks.append(Mark(name, value))
        return Bound(tuple(marks), made, tuple(calls), end)

    def keep(self, first: int, end: int, bound: Bound | None) -> None:
        """Keep what the phases from ``first`` to ``end`` are bound to, in place of all that any of them was."""
        if self.bound:
            for begin in [begin for begin, one in self.bound.items() if begin < end and one.end > first]:
                del self.bound[begin]
        if bound is not None:
            self.bound[first] = bound

    def room(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
        """Return the room of a register, the one that it had before if it fits; new room if it has no number."""
        found = self._arrays.get(name)
        if found is None or found.shape != shape:
            number = self.numbers.get(name)
            if number is None:
                return empty(shape, dtype)
            found = self._arrays[name] = self._part(number, shape, dtype)
        return found

    def has(self, name: str, array: Any) -> bool:
        """Say whether an array is a register's room, which the next call will make again."""
        return self._arrays.get(name) is array

    def result_of(self, value: Any, program: Program) -> Any:
        """Return what the caller is given: floats as a tensor, a copy of what the next call makes in the same place."""
        if not self.has(program.result, value):
            return tensor_of(value, program.width)
        return self.tensor(program.result, value, program.width).clone()

    def tensor(self, name: str, array: np.ndarray, width: int = 0) -> torch.Tensor:
        """Return the first columns of a register's room as a tensor, all of them if ``width`` is 0."""
        known = self._tensors.get(name)
        if known is None or known[0] is not array:
            with torch.inference_mode(False):  # one made in inference mode could not be written to outside of it
                known = self._tensors[name] = array, tensor_of(array, width)
        return known[1]

    def _part(self, number: int, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
        size = int(np.prod(shape)) * dtype.itemsize
        place = self._bytes.get(number)
        if place is None or len(place) < size:
            place = self._bytes[number] = empty((size,), torch.int8)
        return place[:size].view(empty((0,), dtype).dtype).reshape(shape)


def taken_in_turns(operations: Sequence[Operation], registers: Collection[str], result: str) -> dict[str, int]:
    """Return the number of a place for each of ``registers``, that of one not read any more if there is one."""
    last = {name: at for at, one in enumerate(operations) for name in (*one.own(), *one.whole(), one.out)}
    last[result] = len(operations)
    numbers: dict[str, int] = {}
    free: list[int] = []
    for at, operation in enumerate(operations):
        if operation.out in registers:
            numbers[operation.out] = free.pop() if free else len(set(numbers.values()))
        free += [number for name, number in numbers.items() if last[name] == at]
    return numbers
