"""Rows of numbers of b bits each, packed without gaps between the bits that belong together.

A number is cut into fields of 16, 8, 4, 2 and 1 bits, from the bottom, and each field of all numbers is stored
together: cutting at those widths only needs no arithmetic across bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def packed_size(count: int, bits: int) -> int:
    """Return the bytes that ``count`` numbers of ``bits`` bits take."""
    return sum(-(-count * width // 8) for _, width in _fields(bits))


def pack(numbers: np.ndarray, bits: int) -> bytes:
    """Pack the lowest ``bits`` bits of each number: [count] of an unsigned dtype."""
    return b"".join(_packed(numbers >> numbers.dtype.type(shift), width) for shift, width in _fields(bits))


def unpack(content: bytes, count: int, bits: int, dtype: np.dtype) -> np.ndarray:
    """Return the numbers that ``pack`` packed: [count] of ``dtype``.

    Raises:
        ValueError: if the content has another length than ``packed_size`` says.
    """
    if len(content) != packed_size(count, bits):
        raise ValueError(f"{len(content)} bytes of remainders instead of {packed_size(count, bits)}")
    numbers = np.zeros(count, dtype)
    start = 0
    for shift, width in _fields(bits):
        end = start + -(-count * width // 8)
        field = _unpacked(np.frombuffer(content[start:end], np.uint8), count, width).astype(dtype)
        numbers |= field << dtype.type(shift)
        start = end
    return numbers


def _fields(bits: int) -> Iterator[tuple[int, int]]:
    """Yield the lowest bit and the width of each field."""
    shift = 0
    for width in (*[16] * (bits // 16), 8, 4, 2, 1):
        if bits - shift >= width:
            yield shift, width
            shift += width


def _packed(field: np.ndarray, width: int) -> bytes:
    if width >= 8:
        return field.astype(f"<u{width // 8}").tobytes()
    low = field.astype(np.uint8) & ((1 << width) - 1)
    if width == 1:
        return np.packbits(low, bitorder="little").tobytes()
    each = 8 // width
    rows = np.zeros((-(-len(low) // each), each), np.uint8)
    rows.reshape(-1)[: len(low)] = low
    return np.bitwise_or.reduce(rows << (np.arange(each, dtype=np.uint8) * width), axis=1).astype(np.uint8).tobytes()


def _unpacked(content: np.ndarray, count: int, width: int) -> np.ndarray:
    if width >= 8:
        return content.view(f"<u{width // 8}")
    if width == 1:
        return np.unpackbits(content, count=count, bitorder="little")
    shifts = np.arange(8 // width, dtype=np.uint8) * width
    return (content[:, None] >> shifts & ((1 << width) - 1)).reshape(-1)[:count]
