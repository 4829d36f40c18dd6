"""Sparse features: what is damaged is never made, and what changed behind a tensor's back is seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gnncompress.errors import ExecutionError
from gnncompress.runtime import places
from gnncompress.runtime.floating import FloatLinear
from gnncompress.runtime.model import ProgramModel
from gnncompress.runtime.program import Program
from gnncompress.runtime.sparse import Pattern, SparseCodes, SparseFloats, array_of, floats_of, is_memory_of

STARTS, COLUMNS = np.array([0, 2, 2, 5]), np.array([0, 3, 1, 2, 3])


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_a_pattern_that_is_sound(kind: type) -> None:
    made = SparseFloats(Pattern(STARTS.astype(kind), COLUMNS.astype(kind), 4), np.ones(5, np.float32))
    assert made.shape == (3, 4)
    assert len(made) == 3


@pytest.mark.parametrize(
    ("starts", "columns", "width", "told"),
    [
        (STARTS, COLUMNS, 3, r"a row or a column is outside \[3, 3\]"),
        (STARTS[:-1].copy(), COLUMNS, 4, "a row or a column is outside"),
        (np.array([0, 2, 1, 5]), COLUMNS, 4, "a row or a column is outside"),
        (np.array([0, 9, 9, 5]), COLUMNS, 4, "a row or a column is outside"),
        (STARTS, COLUMNS - 1, 4, "a row or a column is outside"),
        (STARTS[:0].copy(), COLUMNS[:0].copy(), 4, "there are no row pointers"),
        (STARTS.astype(np.int16), COLUMNS, 4, r"must be whole numbers in a line, not int16 \[4\]"),
        (STARTS, COLUMNS[:, None], 4, r"must be whole numbers in a line, not int64 \[5, 1\]"),
        (np.repeat(STARTS, 2)[::2], COLUMNS, 4, "not contiguous"),
        (None, COLUMNS, 4, "not nothing"),
    ],
)
def test_a_pattern_that_is_damaged_is_not_made(starts: Any, columns: Any, width: int, told: str) -> None:
    with pytest.raises(ExecutionError, match=told):
        Pattern(starts, columns, width)


@pytest.mark.parametrize("values", [np.ones(4, np.float32), np.ones(5), np.ones((5, 1), np.float32), None])
def test_values_that_do_not_fit_are_not_held(values: Any) -> None:
    with pytest.raises(ExecutionError, match=r"^5 columns must have as many values, not "):
        SparseFloats(Pattern(STARTS, COLUMNS, 4), values)
    with pytest.raises(ExecutionError, match=r"^5 columns must have as many values, not float32 \[5\]$"):
        SparseCodes(Pattern(STARTS, COLUMNS, 4), np.ones(5, np.float32))


def test_whose_memory_arrays_are() -> None:
    x = torch.eye(3).to_sparse_csr()
    assert is_memory_of(x, floats_of("x", x))
    assert not is_memory_of(x.double(), floats_of("x", x.double()))
    dense = torch.rand(3, 4)
    assert is_memory_of(dense, array_of(dense))
    for other in (dense.t(), dense.double(), dense.long(), torch._neg_view(dense)):
        assert not is_memory_of(other, array_of(other))
        np.testing.assert_array_equal(array_of(other), other.resolve_neg().float().numpy())


def test_a_phase_that_is_bound_to_sparse_features_looks_at_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[bool] = []
    run_again = places.Bound.run_again
    monkeypatch.setattr(
        places.Bound, "run_again", lambda self, env: again.append(run_again(self, env)) or again[-1]
    )  # the second part is what counts
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    model = ProgramModel(Program((FloatLinear("out", "x", weight, np.zeros(3, np.float32)),), ("x",), "out", 3))
    columns, values = torch.tensor([0, 3, 1, 2, 3]), torch.ones(5)
    x = torch.sparse_csr_tensor(torch.from_numpy(STARTS), columns, values, (3, 4))
    first = model(x)
    values[0] = 5  # of which x knows nothing
    torch.testing.assert_close(model(x) - first, torch.tensor([[0.0, 4, 8], [0, 0, 0], [0, 0, 0]]))
    assert again == [True]
    columns[1] = 4
    with pytest.raises(ExecutionError, match=r"^out: the sparse features are damaged: a row or a column is outside"):
        model(x)
