"""The range coder's tables against their definition; numbers, tables, symbols and bits there and back."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gnncompress.checkpoints import bitfields
from gnncompress.checkpoints.entropy import Reader, Writer, coded_bits, levels_of
from gnncompress.checkpoints.masks import read_mask, write_mask

COUNTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=300).filter(any)


@given(count=st.integers(1, 2**34))
def test_levels_are_half_powers_of_two(count: int) -> None:
    assert levels_of(np.array([count, 0])).tolist() == [1 + round(2 * math.log2(count)), 0]


@given(counts=COUNTS, numbers=st.lists(st.integers(0, 2**64 - 1), max_size=5), seed=st.integers(0, 9))
def test_whatever_is_written_is_read(counts: list[int], numbers: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = levels_of(np.array(counts))
    symbols = rng.choice(np.flatnonzero(levels), 50)
    bits = rng.random(80) < 0.3
    bounds = [number + 1 + int(rng.integers(9)) for number in numbers]
    writer = Writer()
    for number, bound in zip(numbers, bounds, strict=True):
        writer.below(number, bound)
    writer.table(levels)
    writer.symbols(symbols, levels)
    writer.bits(bits, int(bits.sum()))
    reader = Reader(writer.bytes())
    assert [reader.below(bound) for bound in bounds] == numbers
    assert reader.table(len(levels)).tolist() == levels.tolist()
    assert reader.symbols(50, levels).tolist() == symbols.tolist()
    assert reader.bits(80, int(bits.sum())).tolist() == bits.tolist()


def test_bits_foreseen_are_the_bits_written() -> None:
    symbols = np.random.default_rng(0).geometric(0.2, 20_000)
    counts = np.bincount(symbols)
    writer = Writer()
    writer.table(levels_of(counts))
    writer.symbols(symbols, levels_of(counts))
    foreseen = coded_bits(counts, levels_of(counts))
    assert 8 * len(writer.bytes()) == pytest.approx(foreseen, abs=64)
    shares = counts[counts > 0] / len(symbols)
    assert foreseen < len(symbols) * (0.02 - (shares * np.log2(shares)).sum()) + 8 * len(counts)


@given(content=st.binary(max_size=64).map(lambda b: b[: len(b) // 4 * 4]), size=st.integers(1, 300))
def test_any_bytes_read_as_numbers_in_range_or_not_at_all(content: bytes, size: int) -> None:
    reader = Reader(content)
    with contextlib.suppress(ValueError):
        assert 0 <= reader.below(size) < size
        symbols = reader.symbols(20, reader.table(size))
        assert ((symbols >= 0) & (symbols < size)).all()


@given(
    mask=hnp.arrays(bool, hnp.array_shapes(min_dims=1, max_dims=4, max_side=20)),
    dead=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_masks_of_any_shape(mask: np.ndarray, dead: float, seed: int) -> None:
    mask = mask.copy()
    mask[np.random.default_rng(seed).random(len(mask)) < dead] = False
    writer = Writer()
    write_mask(writer, mask)
    assert read_mask(Reader(writer.bytes()), mask.shape).tolist() == mask.reshape(-1).tolist()


@given(
    bits=st.integers(0, 64),
    width=st.sampled_from([1, 2, 4, 8]),
    raw=hnp.arrays("<u8", st.integers(0, 70), elements=st.integers(0, 2**64 - 1)),
)
def test_bitfields(bits: int, width: int, raw: np.ndarray) -> None:
    bits = min(bits, 8 * width)
    numbers = raw.astype(f"<u{width}")
    content = bitfields.pack(numbers, bits)
    assert len(content) == bitfields.packed_size(len(numbers), bits)
    assert len(content) <= len(numbers) * bits / 8 + 7
    wanted = [int(number) % (1 << bits) for number in numbers]
    assert bitfields.unpack(content, len(numbers), bits, numbers.dtype).tolist() == wanted
    with pytest.raises(ValueError, match="bytes of remainders instead of"):
        bitfields.unpack(content + b"x", len(numbers), bits, numbers.dtype)


def test_bitfields_by_hand() -> None:
    # 5 = 0b101, 2 = 0b010, 7 = 0b111: the lowest two bits 01, 10, 11, then the third bits 1, 0, 1
    assert bitfields.pack(np.array([5, 2, 7], np.uint8), 3) == bytes([0b00111001, 0b00000101])
