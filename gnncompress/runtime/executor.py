"""Running a program: blocks of rows go through as many operations as possible while they are in a cache."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from threading import Barrier
from typing import Any

import numpy as np
import torch

from gnncompress.runtime.arrays import empty, tensor_of
from gnncompress.runtime.graphs import Memory
from gnncompress.runtime.places import Bound, Places, taken_in_turns
from gnncompress.runtime.program import Operation, Program
from gnncompress.runtime.reads import ARRAYS, Found, describe, insist, insist_on_own
from gnncompress.runtime.sparse import SparseFloats, array_of, floats_of, is_memory_of, look_again

Calls = Sequence[Callable[[], object]]
# The name, width and type of registers.
Shapes = tuple[tuple[str, int, torch.dtype], ...]
# Two registers of so many bytes fit into a cache of the second level.
_BLOCK_BYTES = 1 << 19


@dataclass
class Context:
    """What lasts from call to call: what was worked out from edges, and how many values were beyond their range."""

    memory: Memory = field(default_factory=Memory)
    clamped: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    def count(self, name: str, clamped: int, of: int) -> None:
        """Count values of an input that were beyond its range, and all of them."""
        self.clamped[name] += clamped
        self.seen[name] += of


@dataclass
class Workspace:
    """What an operation that is not by row may use."""

    memory: Memory
    count: Callable[[str, int, int], None]
    places: Places

    def room(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
        """Return room for the register that the operation makes, the one it had before if it is small."""
        if self.is_small(math.prod(shape) * dtype.itemsize):
            return self.places.room(name, shape, dtype)
        return empty(shape, dtype)

    def is_small(self, size: int) -> bool:
        """Say whether a register of so many bytes keeps its place from call to call."""
        return size <= 2 * _BLOCK_BYTES


@dataclass(frozen=True, eq=False)
class Phase:
    """Operations that a block of rows can go through before the next does; or one that is not by row.

    ``kept`` are the registers that later phases read, ``dropped`` those that none reads any more, ``reused`` those that
    nothing outside the program ever sees.
    """

    operations: tuple[Operation, ...]
    kept: frozenset[str]
    dropped: frozenset[str]
    reused: frozenset[str]

    @property
    def by_row(self) -> bool:
        """Whether blocks of rows can go through the phase."""
        return self.operations[0].by_row

    @cached_property
    def source(self) -> str:
        """A register with as many rows as the phase makes."""
        return str(getattr(self.operations[0], self.operations[0].LIKE))

    @cached_property
    def counted(self) -> frozenset[str]:
        """The registers of which nothing but the number of rows is read."""
        return frozenset() if self.by_row else frozenset(self.operations[0].counted())

    @cached_property
    def plans(self) -> dict[tuple[Any, ...], Shapes]:
        """The registers that are made, by the kinds and widths of those that are read."""
        return {}

    def plan(self, env: Mapping[str, Any]) -> tuple[int, Shapes]:
        """Return how many rows the phase makes, and the name, width and type of its registers.

        Raises:
            ExecutionError: if a register is not what an operation reads.
        """
        found = [describe(env.get(name)) for name in self.read]
        key = tuple([(kind, shape[1:]) for kind, shape in found])
        height, known = found[0][1][:1], self.plans.get(key)
        for _, shape in found:
            if shape[:1] != height:
                known = None
        if known is None:
            known = self.plans[key] = self._planned(env, dict(zip(self.read, found, strict=True)))
        return height[0], known

    def _planned(self, env: Mapping[str, Any], known: dict[str, Found]) -> Shapes:
        """Insist on all that the operations read, and return what they make."""
        height = known[self.source][1][:1]
        made: dict[str, Found] = {}
        planned = []
        for operation in self.operations:
            insist(operation, env, made, *height)
            widths = {name: shape[1] for name, (_, shape) in (known | made).items() if len(shape) > 1}
            width, dtype = operation.shape(widths)
            made[operation.out] = ARRAYS[dtype], (*height, width)
            planned.append((operation.out, width, dtype))
        return tuple(planned)

    @cached_property
    def read(self) -> tuple[str, ...]:
        """The registers that are read and made before."""
        made = {operation.out for operation in self.operations}
        read = dict.fromkeys(name for one in self.operations for name in (*one.own(), *one.whole()))
        return tuple(name for name in read if name not in made)


class Block:
    """A range of rows, as the operations of a phase see it: of ``height`` rows those from ``first`` to ``last``.

    ``env`` holds what they read and make, and no tensors: these have become arrays.
    """

    def __init__(
        self, env: Mapping[str, Any], local: Mapping[str, Any], pool: dict[Any, Any], first: int, last: int, height: int
    ) -> None:
        self.env, self.local, self.pool, self.first, self.last = env, local, pool, first, last
        self.all = last - first == height

    def rows(self, name: str) -> Any:
        """Return the block's rows of a register; of sparse codes all, since their rows are found by number."""
        if name in self.local:
            return self.local[name][: self.last - self.first]
        value = self.env[name]
        return value[self.first : self.last] if isinstance(value, np.ndarray) and not self.all else value

    def whole(self, name: str) -> Any:
        """Return all of a register."""
        return self.env[name]

    def scratch(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
        """Return room that the next operation may use again under the same name."""
        key = name, shape[1:]
        room = self.pool.get(key)
        if room is None or len(room) < shape[0]:
            room = self.pool[key] = empty(shape, dtype)
        return room if len(room) == shape[0] else room[: shape[0]]


class Plan:
    """A program ready to run: its phases, and the places of registers that no call has at the moment."""

    def __init__(self, program: Program, context: Context) -> None:
        for operation in program.operations:
            insist_on_own(operation)
        self.program, self.phases, self._context = program, phases_of(program), context
        reused = {name for phase in self.phases for name in phase.reused}
        self._numbers = taken_in_turns(program.operations, reused, program.result)
        self._idle: list[Workspace] = []

    def run(self, given: Mapping[str, Any]) -> Any:
        """Return the program's result for the inputs ``given``, on as many threads as torch is set to use."""
        context, env = self._context, dict(given)
        try:
            workspace = self._idle.pop()
        except IndexError:  # other calls, at work at the same time, have them all
            workspace = Workspace(context.memory, context.count, Places(self._numbers))
        places, at = workspace.places, 0
        while at < len(self.phases):
            bound = places.bound.get(at)
            again = bound is not None and bound.run_again(env)
            at = bound.end if bound is not None and again else self._run_anew(at, env, workspace)
        result = places.result_of(env[self.program.result], self.program)
        self._idle.append(workspace)
        return result

    def _run_anew(self, first: int, env: dict[str, Any], workspace: Workspace) -> int:
        """Run phases, all from ``first`` on that are bound one after the other; return the number of the next."""
        joined: Bound | None = None
        for at in range(first, len(self.phases)):
            phase = self.phases[at]
            made, calls = _run(phase, env, workspace)
            bound = (
                None if calls is None else workspace.places.bind(env, phase.read, made, calls, at + 1, phase.counted)
            )
            for name in phase.dropped:
                env.pop(name, None)
            if bound is None:
                break
            joined = bound if joined is None else joined.and_then(bound)
        workspace.places.keep(first, at + 1, joined)
        return at + 1


def step(program: Program, given: Mapping[str, Any], observe: Callable[[Operation, dict[str, Any]], None]) -> Any:
    """Return the program's result, one operation after the other; ``observe`` may look at, and change, each register.

    It is called after each operation with the operation and all registers by name. Nothing is counted or kept.
    """
    env = dict(given)
    workspace = Workspace(Memory(), lambda name, clamped, of: None, Places({}))
    for phase in phases_of(program, alone=True):
        _run(phase, env, workspace)
        if phase.operations[0].out in env:
            observe(phase.operations[0], env)
        for name in phase.dropped - {program.result}:
            env.pop(name, None)
    return tensor_of(env[program.result], program.width)


def phases_of(program: Program, alone: bool = False) -> tuple[Phase, ...]:
    """Return a program's phases; ``alone`` makes each operation a phase of its own."""
    groups: list[list[Operation]] = []
    alike: dict[str, str] = {}  # registers of one name have the same number of rows
    for operation in program.operations:
        like = getattr(operation, operation.LIKE) if operation.LIKE else operation.out
        alike[operation.out] = alike.get(like, like)
        last = groups[-1] if groups else []
        made = {before.out for before in last}
        joins = not alone and operation.by_row and last and last[0].by_row and not made & set(operation.whole())
        if joins and alike[last[0].out] == alike[operation.out]:
            last.append(operation)
        else:
            groups.append([operation])
    shared = [one for one in program.operations if not one.by_row and not one.COPIES]
    seen = {name for one in shared for name in one.whole()}
    phases = []
    for number, group in enumerate(groups):
        later = {name for after in groups[number + 1 :] for one in after for name in (*one.own(), *one.whole())}
        later.add(program.result)
        made = {one.out for one in group}
        read = {name for one in group for name in (*one.own(), *one.whole())}
        phases.append(
            Phase(tuple(group), frozenset(made & later), frozenset((read | made) - later), frozenset(made - seen))
        )
    return tuple(phases)


def _run(phase: Phase, env: dict[str, Any], workspace: Workspace) -> tuple[dict[str, Any], Calls | None]:
    """Make a phase's registers; return them and what makes them again in their places, if anything does."""
    if phase.by_row:
        return _run_by_row(phase, env, workspace)
    (operation,) = phase.operations
    if operation.reads:
        insist(operation, env, {})
    found = env[operation.out] = operation.run(env, workspace)
    calls = operation.again(env, found, workspace)
    if calls and not workspace.places.has(operation.out, found):
        calls = None  # what others may have seen is not written to again
    return {operation.out: found}, calls


def _run_by_row(phase: Phase, env: dict[str, Any], workspace: Workspace) -> tuple[dict[str, Any], Calls | None]:
    height, shapes = phase.plan(env)
    given = {name: _as_array(phase, name, env[name], workspace.memory) for name in phase.read}
    widest = max(width for _, width, _ in shapes)
    # Handing less over to other threads takes longer than doing it.
    threads = torch.get_num_threads() if height * widest >= 2 * _BLOCK_BYTES else 1
    size = max(min(_BLOCK_BYTES // max(widest, 1), -(-height // threads)), 64)
    if height <= size:
        tensors = [(env[name], one) for name, one in given.items() if env[name] is not one]
        made, calls = _run_alone(phase, given, workspace.places, height, shapes)
        env.update(made)
        if calls is None or not all(is_memory_of(tensor, one) for tensor, one in tensors):
            return made, None
        return made, [*(_looks(phase, one) for _, one in tensors if isinstance(one, SparseFloats)), *calls]
    made = {name: empty((height, width), dtype) for name, width, dtype in shapes if name in phase.kept}
    env.update(made)
    starts = range(0, height, size)

    def work(mine: range) -> None:
        rows = min(size, height)
        local = {name: empty((rows, width), dtype) for name, width, dtype in shapes if name not in made}
        pool: dict[Any, Any] = {}
        for begin in mine:
            block = Block(given | made, local, pool, begin, min(begin + size, height), height)
            for operation in phase.operations:
                operation.rows(block)

    if threads == 1:
        work(starts)
    else:
        for _ in _workers(threads).map(work, (starts[number::threads] for number in range(threads))):
            pass
    return {}, None


def _as_array(phase: Phase, register: str, value: Any, memory: Memory) -> Any:
    """Return a tensor that a phase by row reads as arrays, anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    if value.layout is torch.strided:
        return array_of(value)
    key, name = ("floats", register), phase.operations[0].out
    known = memory.get(key, (value,))
    if known is not None:
        look_again(name, known)  # its indices may have been changed without the tensor's knowing
        return known
    made = floats_of(name, value)
    return memory.keep(key, (value,), made) if is_memory_of(value, made) else made


def _looks(phase: Phase, given: SparseFloats) -> Callable[[], object]:
    """Return what looks at sparse features before a phase that is bound to them runs again."""
    return partial(look_again, phase.operations[0].out, given)


def _run_alone(
    phase: Phase, given: dict[str, Any], places: Places, height: int, shapes: Shapes
) -> tuple[dict[str, Any], Calls | None]:
    made = {name: places.room(name, (height, width), dtype) for name, width, dtype in shapes}
    block = Block(given | made, {}, places.pool, 0, height, height)
    calls = []
    for operation in phase.operations:
        calls.append(operation.bound(block))
        calls[-1]()
    return made, calls if made.keys() <= phase.reused else None


@lru_cache(maxsize=1)
def _workers(threads: int) -> ThreadPoolExecutor:
    """Return threads that take blocks; each has torch to itself with one thread."""
    started = Barrier(threads)

    def begin() -> None:
        torch.set_num_threads(1)
        started.wait()

    workers = ThreadPoolExecutor(threads, "gnncompress")
    for future in [workers.submit(begin) for _ in range(threads)]:
        future.result()
    torch.set_num_threads(threads)  # the last call decides what threads to come are given
    return workers
