from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.tasks.links import link_split, sample_non_edges, undirected_pairs


def columns(pairs: np.ndarray) -> list[tuple[int, int]]:
    return [(int(i), int(j)) for i, j in pairs.T]


def test_pairs_by_hand() -> None:
    edges = np.array([[3, 1, 0, 2, 2, 0], [1, 3, 1, 2, 0, 1]])
    assert columns(undirected_pairs(edges)) == [(0, 1), (0, 2), (1, 3)]


@given(seed=st.integers(0, 1000), nodes=st.integers(8, 40))
def test_every_edge_is_on_one_side_and_no_negative_is_an_edge(seed: int, nodes: int) -> None:
    edges = np.random.default_rng(seed).integers(0, nodes, size=(2, 3 * nodes))
    pairs = columns(undirected_pairs(edges))
    held = max(len(pairs) // 8, 1)
    if 2 * held > nodes * (nodes - 1) // 2 - len(pairs):
        return
    split = link_split(nodes, edges, held, held, seed)
    parts = [columns(part) for part in (split.train, split.validation, split.test)]
    assert sorted(pair for part in parts for pair in part) == pairs
    assert [len(part) for part in parts] == [len(pairs) - 2 * held, held, held]
    negatives = columns(split.validation_negatives) + columns(split.test_negatives)
    assert len(negatives) == len(set(negatives)) == 2 * held
    assert not set(negatives) & set(pairs)
    assert all(i < j for i, j in negatives)
    again = link_split(nodes, edges, held, held, seed)
    assert columns(again.train) == parts[0]
    assert columns(again.test_negatives) == columns(split.test_negatives)


def test_seed_makes_the_split() -> None:
    edges = np.array([np.arange(30), np.roll(np.arange(30), 1)])
    assert columns(link_split(30, edges, 3, 3, 0).test) != columns(link_split(30, edges, 3, 3, 1).test)


def test_sampling_finds_the_last_non_edge() -> None:
    everything = np.array([(i, j) for i in range(6) for j in range(i + 1, 6)]).T
    left = columns(sample_non_edges(6, everything[:, 1:], 1, np.random.default_rng(0)))
    assert left == [(0, 1)]
    with pytest.raises(ValueError, match="2 pairs without an edge are wanted, the graph has 1"):
        sample_non_edges(6, everything[:, 1:], 2, np.random.default_rng(0))


def test_sampling_is_uniform() -> None:
    pairs = np.array([[0], [1]])
    generator = np.random.default_rng(0)
    drawn = [columns(sample_non_edges(5, pairs, 1, generator))[0] for _ in range(4500)]
    shares = [drawn.count((i, j)) / 4500 for i in range(5) for j in range(i + 1, 5) if (i, j) != (0, 1)]
    assert len(shares) == 9
    assert all(abs(share - 1 / 9) < 0.025 for share in shares)


def test_a_graph_without_edges_has_non_edges() -> None:
    assert len(columns(sample_non_edges(5, np.empty((2, 0), dtype=np.int64), 10, np.random.default_rng(0)))) == 10
