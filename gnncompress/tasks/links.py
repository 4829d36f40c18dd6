"""Splitting a graph's edges for link prediction, and sampling the pairs that are no edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnncompress.tasks.splits import random_split


@dataclass(frozen=True)
class LinkSplit:
    """Pairs of nodes [2, n], each undirected edge once, source below target; held-back parts have equal negatives."""

    train: NDArray
    validation: NDArray
    test: NDArray
    validation_negatives: NDArray
    test_negatives: NDArray


def undirected_pairs(edges: NDArray) -> NDArray:
    """Return the distinct pairs {i, j} of ``edges`` [2, E] with i < j, sorted; self loops are no links."""
    pairs = np.sort(edges, axis=0)
    return np.unique(pairs[:, pairs[0] < pairs[1]], axis=1)


def link_split(nodes: int, edges: NDArray, validation: int, test: int, seed: int) -> LinkSplit:
    """Hold back ``validation`` and ``test`` undirected edges at random, each part with as many non-edges.

    A non-edge is a pair that is an edge in no part of the graph; none is drawn twice.

    Raises:
        ValueError: if nothing would be left to train on, or the graph has too few non-edges.
    """
    pairs = undirected_pairs(edges)
    split = random_split(pairs.shape[1], validation, test, seed)
    negatives = sample_non_edges(nodes, pairs, validation + test, np.random.Generator(np.random.PCG64([seed, 1])))
    return LinkSplit(
        train=pairs[:, list(split.train)],
        validation=pairs[:, list(split.validation)],
        test=pairs[:, list(split.test)],
        validation_negatives=negatives[:, :validation],
        test_negatives=negatives[:, validation:],
    )


def sample_non_edges(nodes: int, pairs: NDArray, amount: int, generator: np.random.Generator) -> NDArray:
    """Draw ``amount`` distinct pairs i < j that are not among ``pairs`` (i < j), uniformly: [2, amount].

    Raises:
        ValueError: if there are not so many.
    """
    possible = nodes * (nodes - 1) // 2 - pairs.shape[1]
    if amount > possible:
        raise ValueError(f"{amount} pairs without an edge are wanted, the graph has {possible}")
    taken = np.sort(pairs[0].astype(np.int64) * nodes + pairs[1])
    found = np.empty(0, dtype=np.int64)
    while found.size < amount:
        drawn = generator.integers(0, nodes, size=(2, 2 * amount + 16))
        low, high = drawn.min(0), drawn.max(0)
        keys = (low * nodes + high)[low != high]
        place = np.searchsorted(taken, keys)
        free = keys if not taken.size else keys[taken[np.minimum(place, taken.size - 1)] != keys]
        both = np.concatenate([found, free])
        found = both[np.sort(np.unique(both, return_index=True)[1])]
    return np.stack([found[:amount] // nodes, found[:amount] % nodes])
