"""One tensor's bits to bytes and back, lossless.

A tensor is a row of words as wide as its dtype. A word is zero when all its bits are, so -0.0 is not zero and
comes back as it was. The stream of a tensor is a sequence of segments:

1. the mask: one bit a word, 1 where the word is not zero;
2. for the words that are not zero, one segment for each of their bytes, most significant first.

Floating words are first rotated left by one bit. That moves the sign to the bottom and the exponent into the top
byte, where trained weights have few different values and compress well; the mantissa bytes are close to random
and are stored as they are. A segment is raw, one repeated byte, or a Zstandard frame, whichever is smallest, so a
tensor of zeros or of one value costs a few bytes.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import zstandard

_SEGMENT = struct.Struct("<BQ")
_RAW, _CONSTANT, _ZSTD = 0, 1, 2
_SMALL = 1 << 20
_STRONG, _QUICK = 19, 3


def encode(words: np.ndarray, rotate: bool) -> bytes:
    """Encode a row of unsigned words; ``rotate`` says that they are the bits of floating values.

    Shapes: words [n] of a little-endian unsigned dtype of 1, 2, 4 or 8 bytes.
    """
    nonzero = words != 0
    values = words[nonzero]
    if rotate:
        values = _rotate(values, 1)
    width = words.dtype.itemsize
    planes = values.view(np.uint8).reshape(-1, width)[:, ::-1]
    segments = [np.packbits(nonzero).tobytes()]
    if words.size and nonzero.all():
        segments = [b"\xff" * len(segments[0])]  # the padding bits too, so that the mask is one repeated byte
    segments += [planes[:, byte].tobytes() for byte in range(width)]
    return b"".join(_pack(segment) for segment in segments)


def decode(stream: bytes, count: int, dtype: np.dtype, rotate: bool) -> np.ndarray:
    """Decode what ``encode`` made of ``count`` words.

    Raises:
        ValueError: if the stream is not one of ``count`` words of that dtype.
    """
    mask, position = _unpack(stream, 0, (count + 7) // 8)
    nonzero = np.unpackbits(np.frombuffer(mask, np.uint8), count=count).astype(bool)
    kept = int(np.count_nonzero(nonzero))
    planes = np.empty((kept, dtype.itemsize), np.uint8)
    for byte in reversed(range(dtype.itemsize)):
        plane, position = _unpack(stream, position, kept)
        planes[:, byte] = np.frombuffer(plane, np.uint8)
    if position != len(stream):
        raise ValueError(f"{len(stream) - position} bytes too many")
    values = planes.reshape(-1).view(dtype)
    words = np.zeros(count, dtype)
    words[nonzero] = _rotate(values, -1) if rotate else values
    return words


def checksum(words: np.ndarray) -> int:
    """Return the CRC-32 of the words' bytes."""
    return zlib.crc32(words.tobytes())


def _rotate(values: np.ndarray, left: int) -> np.ndarray:
    """Rotate every word by ``left`` bits, to the right when negative."""
    bits = values.dtype.itemsize * 8
    one, other = (values.dtype.type(shift) for shift in (left % bits, -left % bits))
    return (values << one) | (values >> other)


def _pack(content: bytes) -> bytes:
    """Return one segment: its kind and length, then its body."""
    if content and content.count(content[:1]) == len(content):
        return _SEGMENT.pack(_CONSTANT, 1) + content[:1]
    small = len(content) <= _SMALL
    packed = zstandard.ZstdCompressor(level=_STRONG if small else _QUICK).compress(content)
    if len(packed) < len(content):
        return _SEGMENT.pack(_ZSTD, len(packed)) + packed
    return _SEGMENT.pack(_RAW, len(content)) + content


def _unpack(stream: bytes, position: int, size: int) -> tuple[bytes, int]:
    """Return the content of the segment at ``position``, which must have ``size`` bytes, and where it ends."""
    if position + _SEGMENT.size > len(stream):
        raise ValueError("a segment is missing")
    kind, length = _SEGMENT.unpack_from(stream, position)
    start = position + _SEGMENT.size
    end = start + length
    if end > len(stream):
        raise ValueError("a segment is cut short")
    body = stream[start:end]
    if kind == _CONSTANT and length == 1:
        return body * size, end
    if kind == _RAW and length == size:
        return body, end
    if kind == _ZSTD and zstandard.frame_content_size(body) == size:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size), end
    raise ValueError(f"a segment of kind {kind} and {length} bytes does not hold the {size} bytes expected")
