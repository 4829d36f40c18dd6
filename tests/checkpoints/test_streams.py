"""Streams: every tensor back from every codec; sizes against entropy, computed here on its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gnncompress.checkpoints import fast, small, streams
from gnncompress.checkpoints.dtypes import LAYOUTS, Layout, ordered, restored

FLOAT = LAYOUTS["float32"]


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...], Layout]:
    layout = draw(st.sampled_from([LAYOUTS[name] for name in sorted(LAYOUTS)]))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=12))
    few = draw(st.lists(st.integers(0, 2 ** (8 * layout.word) - 1), min_size=1, max_size=5))
    elements = st.one_of(st.sampled_from(few), st.integers(0, 2 ** (8 * layout.word) - 1), st.just(0))
    return draw(hnp.arrays(layout.dtype, math.prod(shape), elements=elements)), shape, layout


@given(case=cases(), codec=st.sampled_from(["small", "fast"]))
def test_round_trip(case: tuple[np.ndarray, tuple[int, ...], Layout], codec: streams.Codec) -> None:
    words, shape, layout = case
    stream = streams.encode(words, shape, layout, codec)
    assert len(stream) <= words.nbytes + 1
    back = streams.decode(stream, shape, layout)
    assert back.dtype == words.dtype
    assert back.tolist() == words.tolist()
    assert back.flags.writeable


@given(case=cases())
def test_each_codec_by_itself(case: tuple[np.ndarray, tuple[int, ...], Layout]) -> None:
    words, shape, layout = case
    assert small.decode(small.encode(words, shape), shape, layout.dtype).tolist() == words.tolist()
    assert fast.decode(fast.encode(words), shape, layout.dtype).tolist() == words.tolist()
    assert restored(ordered(words, layout), layout).tolist() == words.tolist()


@pytest.mark.parametrize("value", [-128, -2, -1, 0, 1, 2, 127])
def test_signed_words_are_ordered_by_size(value: int) -> None:
    found = int(ordered(np.array([value], np.int8).view(np.uint8), LAYOUTS["int8"])[0])
    assert found == (2 * value if value >= 0 else -2 * value - 1)


@given(value=st.integers(0, 2**32 - 1))
def test_floating_words_have_their_sign_at_the_bottom(value: int) -> None:
    text = f"{value:032b}"
    assert f"{int(ordered(np.array([value], '<u4'), FLOAT)[0]):032b}" == text[1:] + text[0]


def entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def limit_b(words: np.ndarray) -> float:
    """Bits: H(mask), 24 bits and the entropy of the exponent, written down anew from reference/checkpoints.md."""
    kept = words[words != 0]
    mask = entropy(np.array([len(kept), len(words) - len(kept)]))
    return len(words) * mask + len(kept) * (24 + entropy(np.bincount((kept >> 23) & 255)))


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.7, 0.9, 0.95])
def test_gaussian_weights_reach_the_limit(sparsity: float) -> None:
    weights = np.random.default_rng(0).standard_normal(60_000).astype(np.float32)
    weights[np.argsort(np.abs(weights))[: round(sparsity * len(weights))]] = 0
    words = weights.view("<u4")
    sizes = {codec: 8 * len(streams.encode(words, (200, 300), FLOAT, codec)) for codec in ("small", "fast")}
    assert sizes["small"] < limit_b(words)
    assert sizes["fast"] < limit_b(words) / 0.97


def test_dead_rows_and_columns_cost_nothing() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((400, 100)).astype(np.float32)
    weights[rng.random(weights.shape) < 0.5] = 0
    weights[rng.random(400) < 0.6] = 0
    weights[:, rng.random(100) < 0.5] = 0
    words = weights.reshape(-1).view("<u4")
    alive = weights[weights.any(axis=1)][:, weights.any(axis=0)].reshape(-1).view("<u4")
    # 500 bits say which rows and columns are alive; the rest is as if nothing else were there.
    assert 8 * len(streams.encode(words, (400, 100), FLOAT, "small")) < limit_b(alive) + 500 + 800
    assert 8 * len(streams.encode(words, (400, 100), FLOAT, "small")) < 0.93 * limit_b(words)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_codes_take_their_entropy(bits: int) -> None:
    codes = np.random.default_rng(0).normal(scale=2 ** (bits - 3), size=20_000).round()
    words = codes.clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int8).view(np.uint8)
    wanted = len(words) * entropy(np.bincount(words)) / 8
    assert len(streams.encode(words, (20_000,), LAYOUTS["int8"], "small")) < 1.01 * wanted + 20


def test_constant_zero_and_empty_tensors_are_nearly_free() -> None:
    assert streams.encode(np.zeros(1000, "<u4"), (1000,), FLOAT, "small") == b"\x01"
    assert streams.encode(np.full(1000, 7, "<u4"), (1000,), FLOAT, "fast") == b"\x01\x07\x00\x00\x00"
    assert streams.encode(np.zeros(0, "<u4"), (0, 3), FLOAT, "small") == b"\x01"


def test_repetitions_are_found_in_integers() -> None:
    words = np.tile(np.arange(500), 40).astype("<u8")
    for codec in ("small", "fast"):
        size = len(streams.encode(words, (20_000,), LAYOUTS["int64"], codec))  # type: ignore[arg-type]
        assert size < words.nbytes / (50 if codec == "small" else 4)


def _structured() -> dict[str, np.ndarray]:
    """Return float32 tensors that are not like trained weights, and that general compressors do well on."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(60_000).astype(np.float32)
    scale = np.abs(weights).max() / 127
    codes = (np.round(weights / scale) * scale).astype(np.float32)
    bag = (rng.random((300, 200)) < 0.013).astype(np.float32)
    return {
        "quantized to 8 bits": codes,
        "the same, nine tenths of it zero": np.where(np.abs(weights) < np.quantile(np.abs(weights), 0.9), 0, codes),
        "quantized to 4 bits": (np.round(weights / scale / 16) * scale * 16).astype(np.float32),
        "whole numbers": rng.integers(-500, 500, 60_000).astype(np.float32),
        "bfloat16 in float32": (weights.view("<u4") & 0xFFFF0000).view(np.float32),
        "bag of words": (bag / np.maximum(bag.sum(1, keepdims=True), 1)).reshape(-1),
        "equal rows": np.tile(weights[:2000], 30),
    }


@pytest.mark.parametrize("name", list(_structured()))
def test_structure_is_found(name: str) -> None:
    words = np.ascontiguousarray(_structured()[name], np.float32).view("<u4")
    stream = streams.encode(words, (300, 200), FLOAT, "small")
    assert streams.decode(stream, (300, 200), FLOAT).tolist() == words.tolist()
    assert len(stream) <= len(zstandard.ZstdCompressor(level=19).compress(words.tobytes())) + 1


def test_long_tensors_are_coded_in_parts() -> None:
    codes = np.random.default_rng(0).integers(0, 9, 600_000).astype(np.uint8)
    stream = streams.encode(codes, (600, 1000), LAYOUTS["uint8"], "small")
    assert (streams.decode(stream, (600, 1000), LAYOUTS["uint8"]) == codes).all()


def test_gaps_longer_than_a_byte() -> None:
    words = np.zeros(5000, "<u4")
    words[[0, 254, 510, 765, 1020, 4999]] = [1, 2, 3, 4, 5, 6]
    assert fast.decode(fast.encode(words), (5000,), words.dtype).tolist() == words.tolist()


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"", "a stream of kind none and 0 bytes"),
        (b"\x09abc", "a stream of kind 09 and 3 bytes"),
        (b"\x00abc", "a stream of kind 00 and 3 bytes"),
        (b"\x01abc", "a stream of kind 01 and 3 bytes"),
        (b"\x02\x7f", "the coded part is cut short"),
        (b"\x02" + b"\xff" * 20, "a length does not end"),
        (b"\x03", "the stream is cut short"),
        (b"\x03\x00\x7f\x00", "127 of 4 words"),
    ],
)
def test_what_is_no_stream_is_refused(stream: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        streams.decode(stream, (4,), FLOAT)


def test_bytes_too_many_are_refused() -> None:
    for codec in ("small", "fast"):
        stream = streams.encode(np.arange(1000, dtype="<u4"), (1000,), FLOAT, codec)
        with pytest.raises(ValueError, match="bytes"):
            streams.decode(stream + b"x", (1000,), FLOAT)
