"""One tensor's bits to bytes and back, lossless, by whichever codec makes the fewest bytes.

A stream is one byte that names its kind, then what that kind stores:

RAW: the words themselves; CONSTANT: one word that all of them are, or nothing if they are zero; SMALL and FAST: what
the modules of those names describe, of the words in an order in which values of like size are neighbours. A word
counts as zero when all its bits are, so -0.0 is not zero and comes back as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from gnncompress.checkpoints import fast, small
from gnncompress.checkpoints.dtypes import Layout, ordered, restored

Codec = Literal["small", "fast"]
RAW, CONSTANT, SMALL, FAST = range(4)


def encode(words: np.ndarray, shape: Sequence[int], layout: Layout, codec: Codec) -> bytes:
    """Return the stream of a tensor.

    Shapes: words [n] of the layout's dtype, n = the product of ``shape``, the tensor's with its words a value.
    """
    if not words.size or (words == words[0]).all():
        return bytes([CONSTANT]) + (words[:1].tobytes() if words.any() else b"")
    if layout.kind == "float" and codec == "fast":
        candidates = [bytes([FAST]) + fast.encode(ordered(words, layout), shape)]
    else:
        candidates = [bytes([SMALL]) + small.encode(ordered(words, layout), shape)]
        if layout.kind != "float":  # indices are sorted or repeat themselves, which no frequency tells
            candidates.append(bytes([FAST]) + fast.encode(ordered(words, layout), shape))
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
    raise ValueError(f"a stream of kind {kind.hex() or 'none'} and {len(body)} bytes")
