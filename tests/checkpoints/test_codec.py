from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gnncompress.checkpoints import codec


@given(
    words=st.sampled_from(["<u1", "<u2", "<u4", "<u8"]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.integers(0, 80), elements={"min_value": 0})
    ),
    rotate=st.booleans(),
)
def test_round_trip(words: np.ndarray, rotate: bool) -> None:
    stream = codec.encode(words, rotate)
    back = codec.decode(stream, words.size, words.dtype, rotate)
    assert back.dtype == words.dtype
    assert back.tolist() == words.tolist()


@given(value=st.integers(0, 2**32 - 1))
def test_rotation_moves_the_sign_to_the_bottom(value: int) -> None:
    rotated = codec._rotate(np.array([value], "<u4"), 1)
    text = f"{value:032b}"
    assert f"{int(rotated[0]):032b}" == text[1:] + text[0]
    assert codec._rotate(rotated, -1)[0] == value


def test_segments_by_hand() -> None:
    # one word 0x0100 among three zeros: the mask 0b01000000, then the top byte 1, then the low byte 0
    stream = codec.encode(np.array([0, 0x100, 0, 0], "<u2"), rotate=False)
    constant = b"\x01" + (1).to_bytes(8, "little")
    assert stream == constant + b"\x40" + constant + b"\x01" + constant + b"\x00"


@pytest.mark.parametrize("count", [0, 3, 5, 2**40])
def test_another_count_is_refused(count: int) -> None:
    stream = codec.encode(np.array([1, 2, 3, 4], "<u4"), rotate=False)
    if count in (3, 5):  # the mask of up to eight words fits in one byte; its planes then do not
        stream = codec.encode(np.arange(1, 20, dtype="<u4"), rotate=False)
    with pytest.raises((ValueError, MemoryError)):
        codec.decode(stream, count, np.dtype("<u4"), rotate=False)


def test_trailing_bytes_are_refused() -> None:
    stream = codec.encode(np.array([1], "<u1"), rotate=False)
    with pytest.raises(ValueError, match="1 bytes too many"):
        codec.decode(stream + b"x", 1, np.dtype("<u1"), rotate=False)
