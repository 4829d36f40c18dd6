"""What values are to operations, and what is said of those that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch

from gnncompress.errors import ExecutionError
from gnncompress.runtime.executor import Context, Plan
from gnncompress.runtime.graphs import neighbours
from gnncompress.runtime.program import Operation, Program
from gnncompress.runtime.reads import TENSORS, Constant, Kind, Read, describe, every, insist, shown
from gnncompress.runtime.sparse import Pattern, SparseCodes

EDGES = torch.tensor([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("value", "kind", "shape"),
    [
        (np.zeros((3, 16), np.int8), Kind.CODES, (3, 16)),
        (np.zeros((3, 5), np.float32), Kind.FLOATS, (3, 5)),
        (np.zeros((3, 5), np.float32).T, Kind.OTHER, (5, 3)),
        (np.zeros((3, 5), ">f4"), Kind.OTHER, (3, 5)),
        (np.zeros((3, 5), np.int16), Kind.OTHER, (3, 5)),
        (np.ma.zeros((3, 5), np.float32), Kind.OTHER, ()),
        (torch.zeros(3, 5), Kind.FLOAT_TENSOR, (3, 5)),
        (torch.zeros(5, 3).t().half(), Kind.FLOAT_TENSOR, (3, 5)),
        (torch.zeros((), dtype=torch.uint8), Kind.WHOLE_TENSOR, ()),
        (torch.zeros(2, dtype=torch.bool), Kind.BOOL_TENSOR, (2,)),
        (torch.zeros(2, dtype=torch.complex64), Kind.OTHER, (2,)),
        (torch.zeros(3, 5).to_sparse_csr(), Kind.CSR, (3, 5)),
        (torch.zeros(3, 5).long().to_sparse_csr(), Kind.CSR_OF_OTHERS, (3, 5)),
        (torch.zeros(3, 5).to_sparse(), Kind.OTHER, (3, 5)),
        (torch.zeros(3, 5, device="meta"), Kind.OTHER, ()),
        (torch.nested.nested_tensor([torch.zeros(2)]), Kind.OTHER, ()),
        (neighbours(EDGES, 4), Kind.NEIGHBOURS, (4,)),
        (SparseCodes(Pattern(np.zeros(4, int), np.zeros(0, int), 7), np.zeros(0, np.int16)), Kind.SPARSE_CODES, (3, 7)),
        (None, Kind.NOTHING, ()),
        ([1.0], Kind.OTHER, ()),
    ],
)
def test_kinds(value: Any, kind: Kind, shape: tuple[int, ...]) -> None:
    assert describe(value) == (kind, shape)
    assert "\n" not in shown(value)


@dataclass(frozen=True, eq=False)
class Reader(Operation):
    """Asks for what it is told to ask for."""

    asks: tuple[Read, ...]
    table: Any = None

    WHOLE = ("registers",)

    @property
    def registers(self) -> tuple[str, ...]:
        return ("a", "b")

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        return self.asks

    def constants(self) -> tuple[Constant, ...]:
        return (Constant("table", self.table, np.int8, (256, (5, 16))),)

    def fault(self, sizes: Mapping[str, int]) -> str:
        return "five is too few" if sizes.get("columns") == 5 else ""


A = Read("a", "features", every(TENSORS, "rows", "columns"))
B = Read("b", "weights", {**every(TENSORS, "rows", ...), Kind.NOTHING: ()})
C = Read("c", "coordinates", {Kind.FLOATS: (3, range(2, 99), None)})


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"a": torch.zeros(4, 2)}, ""),
        ({"a": torch.zeros(4, 2), "b": torch.zeros(4, 1, 1)}, ""),
        ({"a": torch.zeros(4, 2), "b": torch.zeros(4, 2)}, "b must be weights [rows], not torch.float32 [4, 2]"),
        ({"a": torch.zeros(4, 2), "b": torch.zeros(3)}, "b must be weights [4 rows], not torch.float32 [3]"),
        ({"a": torch.zeros(4, 2), "b": torch.zeros(())}, "b must be weights [4 rows], not torch.float32 []"),
        ({"a": torch.zeros(4, 5)}, "five is too few"),
        ({"a": torch.zeros(4)}, "a must be features [rows, columns], not torch.float32 [4]"),
        ({}, "a must be features [rows, columns], not nothing"),
        ({"a": 3}, "a must be features [rows, columns], not a int"),
        (
            {"a": torch.zeros(4, 2).to_sparse()},
            "a must be features [rows, columns], not torch.float32 sparse_coo [4, 2]; "
            "features are added up before they are multiplied; give dense ones",
        ),
        ({"a": torch.zeros(4, 2, device="meta")}, "a must be features [rows, columns], not a tensor on meta"),
    ],
)
def test_what_is_said(env: dict[str, Any], told: str) -> None:
    operation = Reader("out", (A, B))
    if not told:
        insist(operation, env, {})
        return
    with pytest.raises(ExecutionError) as caught:
        insist(operation, env, {})
    assert str(caught.value) == f"out: {told}"


def test_registers_that_are_yet_to_be_made_are_held_against_it_too() -> None:
    operation = Reader("out", (C,))
    insist(operation, {}, {"c": (Kind.FLOATS, (3, 2, 9))})
    with pytest.raises(ExecutionError, match=r"^out: c must be coordinates \[3, 2 or more\], not floats \[3, 1, 9\]$"):
        insist(operation, {}, {"c": (Kind.FLOATS, (3, 1, 9))})


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (None, "nothing"),
        (np.zeros((256, 6), np.int8), r"int8 \[256, 6\]"),
        (np.zeros((256, 5), np.uint8), r"uint8 \[256, 5\]"),
        (np.zeros((5, 256), np.int8).T, r"int8 \[256, 5\], not contiguous"),
        (torch.zeros(256, 5, dtype=torch.int8), r"torch.int8 \[256, 5\]"),
    ],
)
def test_constants_are_looked_at_before_a_program_runs(table: Any, told: str) -> None:
    with pytest.raises(ExecutionError, match=rf"^out: table must be int8 \[256, 5\], not {told}$"):
        Plan(Program((Reader("out", (A, B), table),), ("a", "b"), "out"), Context())


@pytest.mark.parametrize(
    ("asks", "told"),
    [((A,), "does not say what it reads"), ((A, B), "reads what has other rows")],
)
def test_an_operation_by_row_has_to_say_what_it_reads(asks: tuple[Read, ...], told: str) -> None:
    with pytest.raises(NotImplementedError, match=told):
        Plan(Program((Reader("out", asks, np.zeros((256, 16), np.int8)),), ("a", "b"), "out"), Context())
