"""The codec ``small``: as few bits as the frequencies of positions, exponents and top mantissa bits allow.

Words that are zero are told apart by a mask. Of the others, bits that none of them has are left out: bfloat16 values
in float32 have sixteen. What remains is coded in one of two ways, whichever is shorter:

- cut: the top part of a word is a symbol, coded by how often it occurs in the tensor, and its lowest bits are stored as
  they are. Floating words have their sign rotated to the bottom first, so that the top part is the exponent and as many
  mantissa bits as pay: the cut is where table, symbols and rest together are shortest;
- palette: where there are few different words, as in quantized weights, they are listed in rising order and each word
  is the number of its entry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gnncompress.checkpoints import bitfields
from gnncompress.checkpoints.entropy import Reader, Writer, coded_bits, levels_of
from gnncompress.checkpoints.masks import read_mask, write_mask
from gnncompress.checkpoints.varint import read_varint, write_varint

_SYMBOLS = 1 << 12
_SAMPLE = 1 << 12
_CUT, _PALETTE = 0, 1


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
    rest = _write_values(writer, words if kept == len(words) else words[mask]) if kept else b""
    coded = writer.bytes()
    return write_varint(len(coded) // 4) + coded + rest


def decode(stream: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Decode what ``encode`` made of a tensor of ``shape``.

    Raises:
        ValueError: if the stream is not one of that shape and dtype.
    """
    count = int(np.prod(shape, dtype=object))
    length, start = read_varint(stream, 0)
    end = start + 4 * length
    if end > len(stream):
        raise ValueError("the coded part is cut short")
    reader = Reader(stream[start:end])
    kept = reader.below(count + 1)
    mask = read_mask(reader, shape) if 0 < kept < count else None
    if mask is not None and np.count_nonzero(mask) != kept:
        raise ValueError("the mask has another number of ones")
    values = _read_values(reader, stream[end:], kept, dtype)
    if mask is None:
        return values if kept else np.zeros(count, dtype)
    words = np.zeros(count, dtype)
    if dtype.itemsize == 1:  # places of eight bytes each would be many times the tensor
        words[mask] = values
    else:
        words[np.flatnonzero(mask)] = values
    return words


def _write_values(writer: Writer, values: np.ndarray) -> bytes:
    """Write words that are not zero; return the bytes of what is stored as it is."""
    bits = 8 * values.dtype.itemsize
    low, high = _dead_bits(values)
    writer.below(low, bits + 1)
    writer.below(high - low, bits + 1 - low)
    values = _squeezed(values, low, high)
    cost, cut, counts, lowest = _choose_cut(values)
    entries = _palette(values)
    if entries is not None:
        number = np.searchsorted(entries, values)
        used = np.bincount(number)
        listed = len(entries) * bits
        if coded_bits(used, levels_of(used)) + listed < cost:
            writer.below(_PALETTE, 2)
            writer.below(len(entries) - 1, _SYMBOLS)
            _write_table(writer, used, number)
            return bitfields.pack(entries, bits)
    writer.below(_CUT, 2)
    writer.below(cut, bits)
    writer.below(lowest, 1 << (bits - cut))
    writer.below(len(counts) - 1, _SYMBOLS)
    _write_table(writer, counts, _symbols(values, cut, lowest))
    return bitfields.pack(values, cut)


def _write_table(writer: Writer, counts: np.ndarray, symbols: np.ndarray) -> None:
    levels = levels_of(counts)
    writer.table(levels)
    writer.symbols(symbols, levels)


def _read_values(reader: Reader, rest: bytes, kept: int, dtype: np.dtype) -> np.ndarray:
    if not kept:
        if rest:
            raise ValueError(f"{len(rest)} bytes too many")
        return np.zeros(0, dtype)
    bits = 8 * dtype.itemsize
    low = reader.below(bits + 1)
    high = low + reader.below(bits + 1 - low)
    if reader.below(2) == _PALETTE:
        size = reader.below(_SYMBOLS) + 1
        number = reader.symbols(kept, reader.table(size), np.uint16)
        values = bitfields.unpack(rest, size, bits, dtype)[number]
    else:
        cut = reader.below(bits)
        lowest = reader.below(1 << (bits - cut))
        size = reader.below(_SYMBOLS) + 1
        if lowest + size > 1 << (bits - cut):
            raise ValueError(f"symbols beyond {bits} bits")
        values = reader.symbols(kept, reader.table(size), dtype if dtype.itemsize > 1 else np.uint16)
        values += values.dtype.type(lowest)
        values = values.astype(dtype, copy=False)
        values <<= dtype.type(cut)
        values |= bitfields.unpack(rest, kept, cut, dtype)
    return _spread(values, low, high)


def _choose_cut(values: np.ndarray) -> tuple[float, int, np.ndarray, int]:
    """Return the bits of the shortest cut, where it is, the counts of the symbols above it, and the first symbol."""
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
            return best
        counts = np.append(np.zeros(lowest % 2, counts.dtype), counts)
        counts = np.append(counts, np.zeros(len(counts) % 2, counts.dtype)).reshape(-1, 2).sum(axis=1)
        cut, lowest = cut + 1, lowest // 2


def _symbols(values: np.ndarray, cut: int, lowest: int) -> np.ndarray:
    kind = values.dtype.type
    return ((values >> kind(cut)) - kind(lowest)).astype(np.uint16)


def _palette(values: np.ndarray) -> np.ndarray | None:
    """Return the different words in rising order, None if they are many, as a sample says before they are sorted."""
    sample = np.unique(values[:: max(len(values) // _SAMPLE, 1)])
    if len(values) > 2 * _SAMPLE and len(sample) > _SAMPLE // 2:
        return None
    entries = np.unique(values)
    return entries if len(entries) <= _SYMBOLS else None


def _dead_bits(values: np.ndarray) -> tuple[int, int]:
    """Return the longest run of bits, from low to below high, that are zero in every word."""
    present = int(np.bitwise_or.reduce(values))
    runs, start = [(0, 0)], 0
    for place in range(8 * values.dtype.itemsize + 1):
        if place == 8 * values.dtype.itemsize or present >> place & 1:
            runs.append((start, place))
            start = place + 1
    return max(runs, key=lambda run: run[1] - run[0])


def _squeezed(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return the words without the bits from low to below high."""
    if high == low or high >= 8 * values.dtype.itemsize:
        return values
    kind = values.dtype.type
    return (values >> kind(high)) << kind(low) | values & kind((1 << low) - 1)


def _spread(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Put zeros between the bits below low and the others."""
    if high == low or high >= 8 * values.dtype.itemsize:
        return values
    kind = values.dtype.type
    return (values >> kind(low)) << kind(high) | values & kind((1 << low) - 1)
