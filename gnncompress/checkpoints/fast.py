"""The codec ``fast``: gigabytes of weights in seconds, a few percent larger than ``small``.

Positions are one bit a word, or the gaps between the few words that are not zero; they, and every byte of the words
from the top, go through Zstandard's Huffman coder with next to no search for repetitions. What does not get smaller is
stored as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import zstandard

from gnncompress.checkpoints.varint import read_varint, write_varint

_RAW, _ZSTD = 0, 1
_BITS, _GAPS = 0, 1
# With fewer than one word in eight left, gaps take fewer bits and less time than the mask.
_SPARSE = 8
# Repetitions are looked for in so small a table that few are found: the Huffman coder then sees every byte.
_HUFFMAN = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST, window_log=17, hash_log=6, min_match=7, target_length=0
)
_SAMPLE = 1 << 14
_LONGEST = 255


def encode(words: np.ndarray) -> bytes:
    """Encode a row of unsigned words, ordered so that their top bytes have few values.

    Shapes: words [n] of a little-endian unsigned dtype.
    """
    mask = words != 0
    places = np.flatnonzero(mask)
    kind, content, values, segments = _BITS, b"", words, []
    if len(places) < len(words):
        values = words[places]
        kind = _GAPS if len(places) * _SPARSE < len(words) else _BITS
        content = _gaps(places) if kind == _GAPS else np.packbits(mask).tobytes()
        segments = [_pack(content)]
    width = words.dtype.itemsize
    planes = values.view(np.uint8).reshape(-1, width)
    segments += [_pack(np.ascontiguousarray(planes[:, byte]).tobytes()) for byte in reversed(range(width))]
    return bytes([kind]) + write_varint(len(places)) + write_varint(len(content)) + b"".join(segments)


def decode(stream: bytes, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Decode what ``encode`` made of a tensor of ``shape``.

    Raises:
        ValueError: if the stream is not one of that shape and dtype.
    """
    count = int(np.prod(shape, dtype=object))
    if not stream:
        raise ValueError("the stream is cut short")
    kind = stream[0]
    kept, position = read_varint(stream, 1)
    size, position = read_varint(stream, position)
    if kept > count or size > 2 * count:
        raise ValueError(f"{kept} of {count} words")
    places = None
    if kept < count:
        content, position = _unpack(stream, position, size if kind == _GAPS else -(-count // 8))
        places = _places(content, count) if kind == _GAPS else _ones(content, count)
        if len(places) != kept:
            raise ValueError(f"the mask has {len(places)} words instead of {kept}")
    values = np.zeros(kept, dtype)
    for byte in reversed(range(dtype.itemsize)):
        plane, position = _unpack(stream, position, kept)
        values |= np.frombuffer(plane, np.uint8).astype(dtype) << dtype.type(8 * byte)
    if position != len(stream):
        raise ValueError(f"{len(stream) - position} bytes too many")
    if places is None:
        return values
    words = np.zeros(count, dtype)
    words[places] = values
    return words


def _gaps(places: np.ndarray) -> bytes:
    """Return the number of zeros before each place; 255 stands for 255 zeros that no place follows."""
    gaps = np.diff(places, prepend=-1) - 1
    if not len(gaps) or gaps.max() < _LONGEST:
        return gaps.astype(np.uint8).tobytes()
    ends = np.cumsum(gaps // _LONGEST + 1) - 1
    content = np.full(int(ends[-1]) + 1, _LONGEST, np.uint8)
    content[ends] = gaps % _LONGEST
    return content.tobytes()


def _places(content: bytes, count: int) -> np.ndarray:
    gaps = np.frombuffer(content, np.uint8)
    place = gaps != _LONGEST
    ends = np.cumsum(gaps + place.astype(np.int64))
    places: np.ndarray = ends[place] - 1
    if len(places) and places[-1] >= count:
        raise ValueError(f"a place beyond {count} words")
    return places


def _ones(content: bytes, count: int) -> np.ndarray:
    return np.flatnonzero(np.unpackbits(np.frombuffer(content, np.uint8), count=count))


def _pack(content: bytes) -> bytes:
    """Return one segment: its kind and length, then its body."""
    if _worth_trying(content):
        packed = zstandard.ZstdCompressor(compression_params=_HUFFMAN).compress(content)
        if len(packed) < len(content):
            return bytes([_ZSTD]) + write_varint(len(packed)) + packed
    return bytes([_RAW]) + write_varint(len(content)) + content


def _worth_trying(content: bytes) -> bool:
    """Say whether a sample of the bytes takes less than 7.9 bits a byte; short contents always do."""
    if len(content) <= _SAMPLE:
        return True
    sample = np.frombuffer(content, np.uint8)[:: len(content) // _SAMPLE]
    shares = np.bincount(sample) / len(sample)
    shares = shares[shares > 0]
    return bool(-(shares * np.log2(shares)).sum() < 7.9)


def _unpack(stream: bytes, position: int, size: int) -> tuple[bytes, int]:
    """Return the content of the segment at ``position``, which must have ``size`` bytes, and where it ends."""
    if position >= len(stream):
        raise ValueError("a segment is missing")
    kind = stream[position]
    length, start = read_varint(stream, position + 1)
    end = start + length
    body = stream[start:end]
    if len(body) != length:
        raise ValueError("a segment is cut short")
    if kind == _RAW and length == size:
        return body, end
    if kind == _ZSTD and zstandard.frame_content_size(body) == size:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size), end
    raise ValueError(f"a segment of kind {kind} and {length} bytes does not hold the {size} bytes expected")
