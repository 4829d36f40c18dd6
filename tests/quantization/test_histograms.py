"""Percentiles and ranges of least error from counts, against the values themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gnncompress.quantization import fake_quantize, grid_of
from gnncompress.quantization.affine import Codes
from gnncompress.quantization.histograms import Histogram
from gnncompress.quantization.observers import ranks

torch.manual_seed(0)
SAMPLES = {
    "normal": torch.randn(4000),
    "not negative": torch.randn(4000).relu(),
    "heavy tails": torch.randn(4000) ** 5,
    "one outlier": torch.cat([torch.randn(4000), torch.tensor([1e4])]),
    "a negative one": torch.cat([torch.rand(4000), torch.tensor([-1e4])]),
    "tiny": torch.randn(4000) * 1e-20,
    "huge": torch.randn(4000) * 1e30,
    "zeros": torch.zeros(50),
    "constant": torch.full((50,), 3.7),
    "all below zero": -2 - torch.rand(500),
    "mostly zeros": torch.cat([torch.zeros(4000), torch.ones(10), torch.full((5,), -3.0)]),
    "one value": torch.tensor(2.5),
}


def histogram(*batches: Tensor) -> Histogram:
    found = Histogram()
    for batch in batches:
        found.add(batch)
    return found


def squared_error(x: Tensor, low: float, high: float, codes: Codes) -> float:
    return float((fake_quantize(x.double(), grid_of(low, high, codes)) - x.double()).square().sum())


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("name", SAMPLES)
def test_the_range_of_least_error(name: str, bits: int) -> None:
    x = SAMPLES[name]
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    codes = Codes(bits)
    found = squared_error(x, *histogram(x).least_error(codes), codes)
    factors = np.concatenate([np.linspace(0.02, 1, 50), 10.0 ** np.linspace(-5, -2, 30)])
    best = min(
        squared_error(x, low * one, high * other, codes)
        for one, other in itertools.product(factors if low else [1.0], factors if high else [1.0])
        if low == 0 or high == 0 or one == other or bits == 4
    )
    assert found <= 1.05 * best + 1e-12 * float(x.double().square().sum())


@pytest.mark.parametrize("percentile", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("name", SAMPLES)
def test_percentiles(name: str, percentile: float) -> None:
    x = SAMPLES[name]
    values = x.flatten().sort().values.double()
    least, most = ranks(len(values), percentile)
    wanted = values[least - 1], values[most - 1]
    if wanted == (0.0, 0.0):
        wanted = values[0], values[-1]
    for found, value in zip(histogram(x).percentiles(percentile), wanted, strict=True):
        assert found == pytest.approx(float(value), rel=1 / 128)


def test_ranges_lie_within_what_was_seen() -> None:
    for x in SAMPLES.values():
        low, high = histogram(x).least_error(Codes(4))
        assert min(float(x.min()), 0) <= low <= 0 <= high <= max(float(x.max()), 0)


@given(
    batches=st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), min_size=1),
    seed=st.randoms(use_true_random=False),
)
def test_counts_do_not_depend_on_order_or_batches(batches: list[list[float]], seed: object) -> None:
    values = [value for batch in batches for value in batch]
    one = histogram(*(torch.tensor(batch) for batch in batches))
    seed.shuffle(values)  # type: ignore[attr-defined]
    other = histogram(torch.tensor(values))
    assert (one.counts == other.counts).all()
    assert int(one.counts.sum()) == len(values)
    assert (one.smallest, one.largest) == (other.smallest, other.largest) == (min(values), max(values))
    low, high, counts = one.bins()
    assert (low <= high).all()
    assert (np.diff(low) >= 0).all()
    assert counts.sum() == len(values)
    for value in values:
        assert ((low <= value + 1e-37) & (value - 1e-37 <= high)).any(), "each value lies in a bin"


def test_rows_count_as_often_as_they_occur() -> None:
    x, times = torch.randn(6, 3), torch.tensor([1, 2, 3, 1, 5, 2])
    one, other = Histogram(), histogram(x.repeat_interleave(times, 0))
    one.add(x, times)
    assert (one.counts == other.counts).all()


def test_half_and_double_precision_and_views() -> None:
    x = torch.randn(30, 4)
    for given_ in (x.double(), x.T, x[:, ::1], x.requires_grad_()):
        assert (histogram(given_).counts == histogram(x).counts).all()
    assert int(histogram(x.half()).counts.sum()) == 120
    assert int(histogram(torch.empty(0, 4)).counts.sum()) == 0
