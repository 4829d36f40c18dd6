"""Where small registers are: in few places, taken in turns, so that they stay in a cache, and the same from call to call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gnncompress.runtime.arrays import empty
from gnncompress.runtime.program import Operation


@dataclass(frozen=True)
class Bound:
    """A small phase as it ran last: what it read and made, and the calls that make it again in the same place."""

    read: tuple[Any, ...]
    made: dict[str, Any]
    calls: tuple[Callable[[], object], ...]

    def run_again(self, env: dict[str, Any], names: tuple[str, ...]) -> bool:
        """Make the same registers anew if those that were read are the very same; say whether they are."""
        for name, before in zip(names, self.read, strict=True):
            if env[name] is not before:
                return False
        env.update(self.made)
        for call in self.calls:
            call()
        return True


@dataclass
class Places:
    """The places of the registers of one call at a time, by the numbers that ``taken_in_turns`` gave them.

    ``bound`` are the phases that ran in these places, ``pool`` is room that operations need while they run.
    """

    numbers: Mapping[str, int]
    bound: dict[int, Bound] = field(default_factory=dict)
    pool: dict[Any, Any] = field(default_factory=dict)
    _arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _bytes: dict[int, np.ndarray] = field(default_factory=dict)

    def room(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
        """Return the room of a register, that which it had before if it fits; a register without a number has new room."""
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

    def _part(self, number: int, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
        size = int(np.prod(shape)) * dtype.itemsize
        place = self._bytes.get(number)
        if place is None or len(place) < size:
            place = self._bytes[number] = empty((size,), torch.int8)
        return place[:size].view(empty((0,), dtype).dtype).reshape(shape)


def taken_in_turns(operations: Sequence[Operation], registers: Collection[str], result: str) -> dict[str, int]:
    """Return the number of a place for each of ``registers``: that of one which is not read any more, if there is any."""
    last = {name: at for at, one in enumerate(operations) for name in (*one.own(), *one.whole(), one.out)}
    last[result] = len(operations)
    numbers: dict[str, int] = {}
    free: list[int] = []
    for at, operation in enumerate(operations):
        if operation.out in registers:
            numbers[operation.out] = free.pop() if free else len(set(numbers.values()))
        free += [number for name, number in numbers.items() if last[name] == at]
    return numbers
