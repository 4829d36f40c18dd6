"""Making one operation of two: what follows a sum is rounded again, or added to, while it is in registers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from gnncompress.runtime.aggregation import Aggregate, Weighted
from gnncompress.runtime.arrays import aligned
from gnncompress.runtime.operations import Add, Linear, Rescale
from gnncompress.runtime.program import Operation, Program
from gnncompress.runtime.rounding import (
    ADD,
    AGAIN,
    HIGH,
    HIGH_2,
    LOW,
    LOW_2,
    NONE,
    OTHER,
    SCALE,
    SCALE_2,
    SHIFT,
    SHIFT_2,
)

_Summing = Linear | Aggregate | Weighted


def fuse(program: Program) -> Program:
    """Return the same program with every rescaling or addition of a sum that nothing else reads made part of it."""
    uses = Counter(name for one in program.operations for name in (*one.own(), *one.whole()))
    uses[program.result] += 1
    made: list[Operation] = []
    place: dict[str, int] = {}
    within: dict[str, str] = {}
    for operation in program.operations:
        joined = None
        if isinstance(operation, (Rescale, Add)):
            at = place.get(operation.source, -1)
            before = made[at] if at >= 0 else None
            if isinstance(before, _Summing) and uses[before.out] == 1 and _is_rounded_once(before):
                if isinstance(operation, Rescale):
                    joined = _again(before, operation)
                elif place.get(operation.other, -1) < at:  # what is added is there already
                    joined = _added(before, operation)
        if joined is not None:
            within[joined.out] = made[at].out
            made[at] = joined
            place[operation.out] = at
        else:
            place[operation.out] = len(made)
            made.append(operation)
    return replace(program, operations=tuple(made), within=within)


def _is_rounded_once(operation: _Summing) -> bool:
    return operation.second == NONE and not (isinstance(operation, Linear) and operation.floats)


def _again(before: _Summing, operation: Rescale) -> _Summing:
    numbers, follow = before.numbers.copy(), operation.numbers
    scale, shift = follow[SCALE], follow[SHIFT]
    ends = np.stack([np.rint(numbers[bound] * scale + shift) for bound in (LOW, HIGH)])
    ends = np.clip(ends, follow[LOW], follow[HIGH])
    fused = aligned(numbers)
    fused[SCALE_2], fused[SHIFT_2] = scale, shift
    fused[LOW_2], fused[HIGH_2] = ends.min(0), ends.max(0)
    return replace(before, out=operation.out, numbers=fused, second=AGAIN)


def _added(before: _Summing, operation: Add) -> _Summing:
    fused = aligned(before.numbers)
    for row in (SCALE_2, SHIFT_2, OTHER, LOW_2, HIGH_2):
        fused[row] = operation.numbers[row]
    return replace(before, out=operation.out, numbers=fused, second=ADD, other=operation.other)
