"""The codec ``small``: as few bits as the frequencies of positions, exponents and top mantissa bits allow.

A word that is not zero is cut in two: its top part is a symbol, coded by how often it occurs in the tensor, and its
lowest bits are stored as they are. Floating words have their sign rotated to the bottom first, so that the top part
is the exponent and as many mantissa bits as pay: the cut is where table, symbols and rest together are shortest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnncompress.checkpoints import bitfields
from gnncompress.checkpoints.entropy import Reader, Writer, coded_bits, levels_of
from gnncompress.checkpoints.masks import read_mask, write_mask

_SYMBOLS = 1 << 12
_LENGTH = 4


def encode(words: np.ndarray, shape: Sequence[int]) -> bytes:
    """Encode a row of unsigned words, ordered so that values of like size have like top bits.

    Shapes: words [n] of a little-endian unsigned dtype, ``shape`` of the tensor that they fill.
    """
    writer = Writer()
    mask = words != 0
    kept = int(np.count_nonzero(mask))
    writer.below(kept, len(words) + 1)
    if 0 < kept < len(words):
        write_mask(writer, mask.reshape(shape))
    values = words if kept == len(words) else words[mask]
    rest = b""
    if kept:
        bits = 8 * words.dtype.itemsize
        cut, counts, lowest = _choose_cut(values)
        levels = levels_of(counts)
        writer.below(cut, bits)
        writer.below(lowest, 1 << (bits - cut))
        writer.below(len(levels) - 1, _SYMBOLS)
        writer.table(levels)
        writer.symbols(_symbols(values, cut, lowest), levels)
        rest = bitfields.pack(values, cut)
    coded = writer.bytes()
    return len(coded).to_bytes(_LENGTH, "little") + coded + rest


def decode(stream: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Decode what ``encode`` made of a tensor of ``shape``.

    Raises:
        ValueError: if the stream is not one of that shape and dtype.
    """
    count = int(np.prod(shape, dtype=object))
    end = _LENGTH + int.from_bytes(stream[:_LENGTH], "little")
    if end > len(stream):
        raise ValueError("the coded part is cut short")
    reader = Reader(stream[_LENGTH:end])
    kept = reader.below(count + 1)
    mask = read_mask(reader, shape) if 0 < kept < count else None
    if mask is not None and np.count_nonzero(mask) != kept:
        raise ValueError("the mask has another number of ones")
    values = _read_values(reader, stream[end:], kept, dtype)
    if mask is None:
        return values if kept else np.zeros(count, dtype)
    words = np.zeros(count, dtype)
    words[np.flatnonzero(mask)] = values
    return words


def _read_values(reader: Reader, rest: bytes, kept: int, dtype: np.dtype) -> np.ndarray:
    if not kept:
        if rest:
            raise ValueError(f"{len(rest)} bytes too many")
        return np.zeros(0, dtype)
    bits = 8 * dtype.itemsize
    cut = reader.below(bits)
    lowest = reader.below(1 << (bits - cut))
    size = reader.below(_SYMBOLS) + 1
    if lowest + size > 1 << (bits - cut):
        raise ValueError(f"symbols beyond {bits} bits")
    symbols = reader.symbols(kept, reader.table(size)).astype(dtype)
    return (symbols + dtype.type(lowest)) << dtype.type(cut) | bitfields.unpack(rest, kept, cut, dtype)


def _choose_cut(values: np.ndarray) -> tuple[int, np.ndarray, int]:
    """Return the number of lowest bits stored as they are, the counts of the symbols above it, and the first symbol."""
    first, last = int(values.min()), int(values.max())
    cut = max((last - first).bit_length() - _SYMBOLS.bit_length() + 1, 0)
    while (last >> cut) - (first >> cut) >= _SYMBOLS:
        cut += 1
    lowest = first >> cut
    counts = np.bincount(_symbols(values, cut, lowest))
    best = (np.inf, cut, counts, lowest)
    while True:
        bits = len(values) * cut + coded_bits(counts, levels_of(counts))
        best = min(best, (bits, cut, counts, lowest), key=lambda choice: choice[0])
        if len(counts) == 1 or cut == 8 * values.dtype.itemsize - 1:
            return best[1:]
        counts = np.append(np.zeros(lowest % 2, counts.dtype), counts)
        counts = np.append(counts, np.zeros(len(counts) % 2, counts.dtype)).reshape(-1, 2).sum(axis=1)
        cut, lowest = cut + 1, lowest // 2


def _symbols(values: np.ndarray, cut: int, lowest: int) -> np.ndarray:
    kind = values.dtype.type
    return ((values >> kind(cut)) - kind(lowest)).astype(np.int32)
