"""How small a tensor can get for a coder that takes its words as independent of each other: what to measure against."""

from __future__ import annotations

import numpy as np

from gnncompress.checkpoints.dtypes import Layout, ordered

# Exponent bits by the bytes of a floating word; bfloat16 has as many as float32, float8 is taken whole.
_EXPONENTS = {8: 11, 4: 8, 2: 8}


def entropy_limit(words: np.ndarray, layout: Layout) -> float:
    """Return the limit in bytes of a row of words: n H(p) bits of positions, and the words that are not zero.

    Of a floating word these are its sign and mantissa as they are and the entropy of its exponent (for float16 of its
    top byte); of an integer the entropy of the whole. H(p) = -p log2 p - (1 - p) log2(1 - p), p the share of words that
    are not zero.
    """
    kept = words[words != 0]
    positions = len(words) * _entropy(np.array([len(kept), len(words) - len(kept)]))
    if not len(kept):
        return 0.0
    bits = 8 * layout.word
    cut = bits - _EXPONENTS.get(layout.word, bits) if layout.kind == "float" else 0
    symbols = ordered(kept, layout) >> kept.dtype.type(cut)
    counts = np.unique(symbols, return_counts=True)[1]
    return float(positions + len(kept) * (cut + _entropy(counts))) / 8


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy of symbols with these counts, in bits a symbol."""
    shares = counts[counts > 0] / max(int(counts.sum()), 1)
    return float(-(shares * np.log2(shares)).sum())
