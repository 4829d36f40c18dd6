"""Where a tensor is not zero, coded by how dense its rows and columns are.

Every index along some of the tensor's axes belongs to a class, by the share of its words that are not zero. A word's
context is the tuple of its classes, and the bits of one context are coded with that context's own share of ones. With
no classed axis this is one share for the tensor: H(p) bits a word. Dead inputs and dead units (whole rows of zeros)
have a class of their own and cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from gnncompress.checkpoints.entropy import Reader, Writer, coded_bits, levels_of

# Classes are rounded log odds, times one of these.
_SCALES = (0.5, 1.0, 2.0)
_CLASSES = 64
# An axis gets classes only if each of its indices has at least so many words.
_WORDS_A_CLASS = 8


@dataclass(frozen=True)
class _Classes:
    """The classes along one axis: ``of`` gives each index's."""

    axis: int
    of: np.ndarray

    @property
    def count(self) -> int:
        return int(self.of.max()) + 1

    @property
    def bits(self) -> float:
        """What it takes to write them down."""
        counts = np.bincount(self.of)
        return coded_bits(counts, levels_of(counts)) + 8


def write_mask(writer: Writer, mask: np.ndarray) -> None:
    """Write a mask of any shape, which the reader knows; not all of its bits are alike."""
    chosen = _choose(mask)
    for axis in range(mask.ndim):
        writer.below(int(any(classes.axis == axis for classes in chosen)), 2)
    for classes in chosen:
        levels = levels_of(np.bincount(classes.of))
        writer.below(classes.count - 1, _CLASSES)
        writer.table(levels)
        writer.symbols(classes.of, levels)
    for bits in _by_context(mask.reshape(-1), *_contexts(mask.shape, chosen)):
        ones = int(np.count_nonzero(bits))
        writer.below(ones, len(bits) + 1)
        writer.bits(bits, ones)


def read_mask(reader: Reader, shape: Sequence[int]) -> np.ndarray:
    """Return the mask that ``write_mask`` wrote: [*shape] of bool, flattened.

    Raises:
        ValueError: if what is read is no such mask.
    """
    axes = [axis for axis in range(len(shape)) if reader.below(2)]
    chosen = []
    for axis in axes:
        levels = reader.table(reader.below(_CLASSES) + 1)
        chosen.append(_Classes(axis, reader.symbols(shape[axis], levels)))
    order, sizes = _contexts(shape, chosen)
    parts = []
    for size in sizes:
        ones = reader.below(size + 1)
        parts.append(reader.bits(size, ones))
    if order is None:
        return parts[0]
    mask = np.empty(len(order), bool)
    mask[order] = np.concatenate(parts)
    return mask


def _choose(mask: np.ndarray) -> list[_Classes]:
    """Return the classes that make the mask shortest: of no axis, one or two."""
    total = mask.size
    axes = [axis for axis, size in enumerate(mask.shape) if size > 1 and total >= _WORDS_A_CLASS * size]
    ones = int(np.count_nonzero(mask))
    best: tuple[float, list[_Classes]] = (float(_context_bits(np.array([ones]), np.array([total]))), [])
    single: dict[int, tuple[float, _Classes]] = {}
    for axis in axes:
        counts = mask.sum(axis=tuple(other for other in range(mask.ndim) if other != axis), dtype=np.int64)
        each = total // len(counts)
        for scale in _SCALES:
            classes = _Classes(axis, _odds_classes(counts, each, scale))
            inside = np.bincount(classes.of, weights=counts)
            cost = classes.bits + float(_context_bits(inside, each * np.bincount(classes.of)))
            if axis not in single or cost < single[axis][0]:
                single[axis] = (cost, classes)
    for cost, classes in single.values():
        best = min(best, (cost, [classes]), key=lambda choice: choice[0])
    if best[1]:
        for one, other in combinations(sorted(single), 2):
            pair = [single[one][1], single[other][1]]
            best = min(best, (_pair_bits(mask, pair), pair), key=lambda choice: choice[0])
    return best[1]


def _odds_classes(counts: np.ndarray, each: int, scale: float) -> np.ndarray:
    odds = np.rint(scale * np.log((counts + 0.5) / (each - counts + 0.5)))
    odds[counts == 0] = -np.inf
    classes = np.unique(odds, return_inverse=True)[1].reshape(-1)
    return np.minimum(classes, _CLASSES - 1)


def _pair_bits(mask: np.ndarray, pair: Sequence[_Classes]) -> float:
    one, other = pair
    rest = tuple(axis for axis in range(mask.ndim) if axis not in (one.axis, other.axis))
    table = mask.sum(axis=rest, dtype=np.int64) if rest else mask
    context = (one.of[:, None] * other.count + other.of[None, :]).reshape(-1)
    ones = np.bincount(context, weights=table.reshape(-1))
    sizes = np.bincount(context) * (mask.size // table.size)
    return one.bits + other.bits + float(_context_bits(ones, sizes))


def _context_bits(ones: np.ndarray, sizes: np.ndarray) -> np.floating:
    """Return the bits of contexts of ``sizes`` words with so many ``ones``, and of these numbers themselves."""
    ones, sizes = ones[sizes > 0], sizes[sizes > 0]
    zeros = sizes - ones
    with np.errstate(divide="ignore", invalid="ignore"):
        words = np.where(ones > 0, ones * np.log2(sizes / ones), 0) + np.where(
            zeros > 0, zeros * np.log2(sizes / zeros), 0
        )
    return (words + np.ceil(np.log2(sizes + 1))).sum()


def _contexts(shape: Sequence[int], chosen: Sequence[_Classes]) -> tuple[np.ndarray | None, list[int]]:
    """Return the words' places sorted by context, None for the order in which they stand, and each context's size."""
    total = int(np.prod(shape, dtype=np.int64))
    if not chosen:
        return None, [total]
    context = np.zeros([1] * len(shape), np.uint16)
    for classes in chosen:
        along = classes.of.reshape([-1 if axis == classes.axis else 1 for axis in range(len(shape))])
        context = context * np.uint16(classes.count) + along.astype(np.uint16)
    flat = np.broadcast_to(context, shape).reshape(-1)
    sizes = np.bincount(flat)
    return np.argsort(flat, kind="stable"), sizes[sizes > 0].tolist()


def _by_context(mask: np.ndarray, order: np.ndarray | None, sizes: Sequence[int]) -> list[np.ndarray]:
    return np.split(mask if order is None else mask[order], np.cumsum(sizes)[:-1])
