"""The affine quantizer where the official code says nothing or is wrong: channels, sparse inputs, bad values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.errors import QuantizationError, UsageError
from gnncompress.quantization import Quantizer, fake_quantize, grid_of, protection_probability
from gnncompress.quantization.affine import Codes, to_codes


def reference(x: np.ndarray, low: float, high: float, bits: int, signed: bool, symmetric: bool) -> np.ndarray:
    """The definition in double precision, one value at a time."""
    qmin = -(2 ** (bits - 1)) if signed else 0
    qmax = qmin + 2**bits - 1
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        scale, zero = 2 * max(-low, high) / (qmax - qmin), 0 if signed else 2 ** (bits - 1)
    else:
        scale = (high - low) / (qmax - qmin)
        zero = min(max(qmin - round(low / scale), qmin), qmax)
    return np.array([scale * (min(max(round(value / scale + zero), qmin), qmax) - zero) for value in x.tolist()])


@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=40),
    bits=st.integers(2, 8),
    signed=st.booleans(),
    symmetric=st.booleans(),
)
def test_values_against_the_definition(values: list[float], bits: int, signed: bool, symmetric: bool) -> None:
    x = torch.tensor(values)
    low, high = float(x.min()), float(x.max())
    if max(high, 0) - min(low, 0) < 1e-3:
        return
    grid = grid_of(low, high, Codes(bits, signed), symmetric)
    found = fake_quantize(x, grid).double().numpy()
    wanted = reference(x.double().numpy(), low, high, bits, signed, symmetric)
    step = float(grid.scale)
    assert np.abs(found - wanted).max() <= 1.001 * step, "at most one step where rounding ties"
    assert (np.abs(found - wanted) > 1e-4 * step).mean() <= 0.5
    codes = to_codes(x, grid)
    assert codes.min() >= grid.codes.lowest
    assert codes.max() <= grid.codes.highest
    assert float(fake_quantize(torch.zeros(1), grid)) == 0, "zero has a code"


@pytest.mark.parametrize("symmetric", [False, True])
def test_one_grid_a_channel_is_one_quantizer_a_channel(symmetric: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 7) * torch.arange(1.0, 8.0)
    x[:, 3] = 0
    whole = Quantizer("w", 4, symmetric=symmetric, channel=1, channels=7)
    found = whole(x)
    for channel in range(7):
        assert torch.equal(found[:, channel], Quantizer("w", 4, symmetric=symmetric)(x[:, channel]))


def test_percentiles_keep_sparse_inputs() -> None:
    x = torch.zeros(100, 100)
    x[torch.arange(100), torch.arange(100)] = 1.0
    assert float(Quantizer("x", 4, observer="per")(x).sum()) == pytest.approx(100, rel=1e-3)


def test_unsigned_symmetric_codes_have_their_zero_in_the_middle() -> None:
    x = torch.linspace(-1, 1, 9)
    assert float((Quantizer("x", 4, signed=False, symmetric=True)(x) - x).abs().max()) < 0.15


def test_a_state_dict_loads_into_a_new_quantizer() -> None:
    x = torch.randn(40)
    one, other = Quantizer("x", 8), Quantizer("x", 8)
    one(x)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.eval()(x), one.eval()(x))


def test_an_empty_batch_says_nothing() -> None:
    module = Quantizer("x", 8)
    module(torch.ones(3))
    before = module.observer.range.clone()
    assert module(torch.empty(0, 4)).shape == (0, 4)
    assert torch.equal(module.observer.range, before)


@pytest.mark.parametrize("observer", ["abs", "mom", "per"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_refused_by_name(observer: str, value: float) -> None:
    x = torch.ones(3000)
    x[7] = value
    module = Quantizer("convs.0.message", 8, observer=observer)  # type: ignore[arg-type]
    with pytest.raises(QuantizationError, match=r"convs\.0\.message: a value is NaN or infinite"):
        module(x)
    assert not module.observer.seen
    module(torch.ones(3))
    with pytest.raises(QuantizationError, match=r"convs\.0\.message: a value is NaN or infinite"):
        module.eval()(x)
    module(torch.full((4,), 3e38))  # their sum overflows, they do not


def test_evaluation_before_training_is_refused_by_name() -> None:
    with pytest.raises(QuantizationError, match=r"lin1\.inputs: its quantizer has seen nothing; train or calibrate"):
        Quantizer("lin1.inputs", 8).eval()(torch.ones(3))


def test_bad_arguments() -> None:
    for bits in (1, 9):
        with pytest.raises(UsageError, match=f"{bits} bits: use 2 to 8"):
            Quantizer("x", bits)
    with pytest.raises(UsageError, match="unknown observer 'prc'; did you mean per"):
        Quantizer("x", observer="prc")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown gradient 'stt'; did you mean ste"):
        Quantizer("x", gradient="stt")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"protection 1\.5, 0\.1: the first must be in \[0, 1\]"):
        protection_probability(torch.ones(3), 1.5, 0.1)


@given(degrees=st.lists(st.integers(0, 6), min_size=1, max_size=30), seed=st.integers(0, 99))
def test_protection_is_the_share_of_nodes_not_above(degrees: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    degree = torch.tensor(degrees)
    batch = torch.randint(0, 3, (len(degrees),))
    found = protection_probability(degree, 0.1, 0.2, batch, 3)
    for node in range(len(degrees)):
        mates = degree[batch == batch[node]]
        share = float((mates <= degree[node]).double().mean())
        assert float(found[node]) == pytest.approx(0.1 + 0.2 * share, abs=1e-6)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float16, torch.bfloat16])
def test_numbers_of_other_types_are_rounded_as_floats(kind: torch.dtype) -> None:
    x = torch.randint(0, 2, (5, 4)).to(kind)
    quantizer = Quantizer("q", 8)
    quantizer(torch.tensor([-0.9, 1.3]))
    quantizer.eval()
    found, wanted = quantizer(x), quantizer(x.float())
    assert found.dtype == (kind if kind.is_floating_point else torch.float32)
    assert torch.equal(found, wanted.to(found.dtype))
    fresh = Quantizer("q", 8)  # in training
    assert fresh(x).is_floating_point()
    assert fresh.observer.bounds() == (float(x.float().min()), float(x.float().max()))


def test_halves_get_the_codes_of_the_floats_that_they_are() -> None:
    x = (torch.arange(-2000, 2000) / 500).half()
    quantizer = Quantizer("q", 8)
    quantizer(torch.tensor([-4.0, 4.0]))
    quantizer.eval()
    step = 8 / 255
    assert float((quantizer(x).float() - x.float()).abs().max()) <= 0.51 * step
    assert quantizer(x).dtype == torch.float16


def test_complex_values_are_refused_by_name() -> None:
    with pytest.raises(QuantizationError, match=r"^q: values are torch\.complex64, and must be real$"):
        Quantizer("q")(torch.zeros(3, dtype=torch.complex64))
