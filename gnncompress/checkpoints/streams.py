"""One tensor's bits to bytes and back, lossless, by whichever codec makes the fewest bytes.

A stream is one byte that names its kind, then what that kind stores:

RAW: the words themselves; CONSTANT: one word that all of them are, or nothing if they are zero; SMALL and FAST: what
the modules of those names describe, of the words in an order in which values of like size are neighbours; ZSTD: a
Zstandard frame of the words, which finds repetitions such as equal rows. A word counts as zero when all its bits are,
so -0.0 is not zero and comes back as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import zstandard

from gnncompress.checkpoints import fast, small
from gnncompress.checkpoints.dtypes import Layout, ordered, restored

Codec = Literal["small", "fast"]
RAW, CONSTANT, SMALL, FAST, ZSTD = range(5)

# Zstandard looks for repetitions: briefly, and where that beats the codec thoroughly, in tensors up to a size.
_BRIEFLY, _THOROUGHLY = 3, 19
_THOROUGH_BYTES = 4 << 20


def encode(words: np.ndarray, shape: Sequence[int], layout: Layout, codec: Codec) -> bytes:
    """Return the stream of a tensor.

    Shapes: words [n] of the layout's dtype, n = the product of ``shape``, the tensor's with its words a value.
    """
    if not words.size or (words == words[0]).all():
        return bytes([CONSTANT]) + (words[:1].tobytes() if words.any() else b"")
    row = ordered(words, layout)
    if codec == "fast":
        candidates = [bytes([FAST]) + fast.encode(row)]
    else:
        candidates = [bytes([SMALL]) + small.encode(row, shape)]
        brief = zstandard.ZstdCompressor(level=_BRIEFLY).compress(words.data)
        if len(brief) < len(candidates[0]):
            level = _THOROUGHLY if words.nbytes <= _THOROUGH_BYTES else _BRIEFLY
            candidates.append(bytes([ZSTD]) + zstandard.ZstdCompressor(level=level).compress(words.data))
    shortest = min(candidates, key=len)
    return shortest if len(shortest) <= words.nbytes else bytes([RAW]) + words.tobytes()


def decode(stream: bytes, shape: Sequence[int], layout: Layout) -> np.ndarray:
    """Return the words of the tensor of ``shape`` whose stream this is.

    Raises:
        ValueError: if the stream is not one of that shape and layout.
    """
    count = int(np.prod(shape, dtype=object))
    kind, body = stream[:1], stream[1:]
    if kind == bytes([RAW]) and len(body) == count * layout.word:
        return np.frombuffer(body, layout.dtype).copy()
    if kind == bytes([CONSTANT]) and len(body) in (0, layout.word):
        return np.full(count, np.frombuffer(body, layout.dtype)[0] if body else 0, layout.dtype)
    if kind == bytes([SMALL]):
        return restored(small.decode(body, shape, layout.dtype), layout)
    if kind == bytes([FAST]):
        return restored(fast.decode(body, shape, layout.dtype), layout)
    if kind == bytes([ZSTD]) and zstandard.frame_content_size(body) == count * layout.word:
        content = zstandard.ZstdDecompressor().decompress(body, max_output_size=count * layout.word)
        return np.frombuffer(content, layout.dtype).copy()
    raise ValueError(f"a stream of kind {kind.hex() or 'none'} and {len(body)} bytes")
