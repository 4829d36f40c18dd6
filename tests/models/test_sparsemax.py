"""Sparsemax on edge lists against the sorting algorithm, one group at a time, in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.models.sparsemax import sparsemax


def slow_sparsemax(z: np.ndarray) -> np.ndarray:
    """Sort descending, k = max{k : 1 + k z_k > sum_{<=k} z}, tau = (sum_{<=k} z - 1) / k."""
    ordered = np.sort(z)[::-1]
    sums = np.cumsum(ordered)
    k = max(k for k in range(1, len(z) + 1) if 1 + k * ordered[k - 1] > sums[k - 1])
    return np.maximum(z - (sums[k - 1] - 1) / k, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.7301, 0.6792, -1.0565, 1.6614], [0.5343, 0, 0, 0.4657]),
        ([-0.3196, -0.7790, -0.3877, -0.4943, 0.1831, -0.0061], [0.0612, 0, 0, 0, 0.5640, 0.3748]),
        ([-7.0], [1]),
        ([1e8, 1e8, 0], [0.5, 0.5, 0]),
    ],
)
def test_known_vectors(values: list[float], expected: list[float]) -> None:
    got = sparsemax(torch.tensor(values), torch.zeros(len(values), dtype=torch.long), 1)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float), atol=1e-4, rtol=0)


# Eighths are exact, so that ties and values on the border of the support occur.
ENTRIES = st.lists(
    st.tuples(st.integers(0, 4), st.one_of(st.integers(-16, 16).map(lambda k: k / 8), st.floats(-50, 50))),
    min_size=1,
    max_size=40,
)


@given(entries=ENTRIES)
def test_any_order_of_groups_matches_the_slow_version(entries: list[tuple[int, float]]) -> None:
    index = np.array([group for group, _ in entries])
    values = np.array([value for _, value in entries])
    got = sparsemax(torch.tensor(values), torch.tensor(index), 6).numpy()
    assert got.min() >= 0
    for group in np.unique(index):
        np.testing.assert_allclose(got[index == group], slow_sparsemax(values[index == group]), atol=1e-12)
        assert got[index == group].sum() == pytest.approx(1)


@given(entries=ENTRIES, shift=st.floats(-1e4, 1e4, width=32))
def test_single_precision_stays_on_the_simplex(entries: list[tuple[int, float]], shift: float) -> None:
    index = torch.tensor([group for group, _ in entries])
    values = torch.tensor([value for _, value in entries]) + shift
    got = sparsemax(values, index, 5)
    sums = torch.zeros(5).index_add(0, index, got)
    assert got.dtype == torch.float32
    assert got.min() >= 0
    torch.testing.assert_close(sums, torch.zeros(5).index_fill(0, index, 1), atol=1e-5, rtol=0)


def test_the_threshold_may_take_many_rounds() -> None:
    # Each of these falls out of the support only after the one below it has.
    values = [0.0]
    for k in range(1, 30):
        values.append((sum(values) - 1) / k - 1e-9)
    values.append(-0.999)
    got = sparsemax(torch.tensor(values, dtype=torch.double), torch.zeros(len(values), dtype=torch.long), 1)
    np.testing.assert_allclose(got.numpy(), slow_sparsemax(np.array(values)), atol=1e-12)


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(40, generator=generator, dtype=torch.double, requires_grad=True)
    index = torch.randint(0, 7, (40,), generator=generator)
    assert (sparsemax(values, index, 7) == 0).any()
    assert torch.autograd.gradcheck(lambda z: sparsemax(z, index, 7), values)


def test_gradient_by_hand() -> None:
    values = torch.tensor([0.5, 9.0, 0.3, -3.0], requires_grad=True)
    (sparsemax(values, torch.tensor([1, 0, 1, 1]), 2) * torch.tensor([3.0, 5.0, 1.0, 7.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [1, 0, -1, 0]


def test_no_values() -> None:
    values = torch.empty(0, requires_grad=True)
    got = sparsemax(values, torch.empty(0, dtype=torch.long), 3)
    got.sum().backward()
    assert got.shape == (0,)
