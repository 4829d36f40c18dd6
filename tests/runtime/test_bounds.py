"""No kernel touches what it was not given, whatever registers and constants an operation is made to read."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gnncompress.runtime import aggregation, coefficients, floating, levels, operations
from gnncompress.runtime.program import Operation
from tests.runtime import guarded

# What is not refused and is not what was there before: another graph, other graphs, or weights left out.
OTHER_INPUT = r"edge_index (narrower|wider)|(batch|edge_weight) nothing|codes long|\.attention 1 |lone no weights"


@pytest.mark.parametrize("forced", ["", *[one.name for one in levels.LEVELS if one.available][1:]])
def test_every_operation_with_whatever_it_may_be_given(forced: str) -> None:
    """All operations at the level of this processor, products at every other level that it has."""
    only = "Linear" if forced else ""
    root = Path(guarded.__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-m", "tests.runtime.guarded", *only.split()]
    env = {**os.environ, **({levels.VARIABLE: forced} if forced else {})}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=300, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{done.returncode} in {lines[-1]}\n{done.stderr[-2000:]}"
    wrong = []
    for line in lines:
        case, _, ended = line.rpartition(": ")
        right = ["ran"] if case.endswith(guarded.AS_IT_IS) else ["ran", "refused"]
        if re.search(OTHER_INPUT, case):
            right.append("another result")
        wrong += [line] if ended not in right else []
    assert not wrong, "\n".join(wrong)
    assert len(lines) > (200 if only else 1800)


def test_all_operations_are_tried_and_say_what_they_read() -> None:
    rooms = operations, aggregation, coefficients, floating
    kinds = {
        one for room in rooms for one in vars(room).values() if isinstance(one, type) and issubclass(one, Operation)
    }
    tried = {type(operation) for operation, _ in guarded.operations()}
    assert kinds - {Operation, floating.Call} == tried
    for operation, given in guarded.operations():
        assert {read.register for read in operation.reads} == given.keys()
        arrays = sum(1 for value in vars(operation).values() if hasattr(value, "dtype"))
        assert len(list(operation.constants())) == arrays


@pytest.mark.parametrize(("at_end", "offset"), [(True, 24), (False, -1)])
def test_what_touches_a_page_without_access_is_noticed(at_end: bool, offset: int) -> None:
    touch = (
        "import ctypes, numpy; from tests.runtime.guarded import guarded; "
        f"one = guarded(numpy.ones(3), {at_end}); print(one.sum(), flush=True); "
        f"ctypes.string_at(one.ctypes.data + {offset}, 1)"
    )
    root = Path(guarded.__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-c", touch]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout.strip(), done.returncode) == ("3.0", -signal.SIGSEGV)
