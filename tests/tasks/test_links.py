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


def test_a_small_split_never_changes() -> None:
    split = link_split(12, np.array([np.arange(12), np.roll(np.arange(12), 1)]), 2, 3, 0)
    assert columns(split.validation) == [(1, 2), (8, 9)]
    assert columns(split.test) == [(3, 4), (4, 5), (6, 7)]
    assert columns(split.validation_negatives) == [(2, 6), (6, 11)]
    assert columns(split.test_negatives) == [(0, 3), (1, 9), (2, 5)]


@given(seed=st.integers(0, 200))
def test_directions_copies_and_self_loops_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    once = undirected_pairs(rng.integers(0, 20, size=(2, 40)))
    loops = np.tile(rng.integers(0, 20, size=5), (2, 1))
    messy = np.concatenate([once, once[::-1], once[:, :7], loops], axis=1)
    messy = messy[:, rng.permutation(messy.shape[1])]
    assert columns(undirected_pairs(messy)) == columns(once)
    one, other = link_split(20, once, 3, 4, 7), link_split(20, messy, 3, 4, 7)
    for part in ("train", "validation", "test", "validation_negatives", "test_negatives"):
        assert columns(getattr(one, part)) == columns(getattr(other, part))


def test_all_non_edges_are_found_once() -> None:
    pairs = np.array([[0, 2, 1], [1, 5, 4]])
    every = {(i, j) for i in range(8) for j in range(i + 1, 8)}
    found = columns(sample_non_edges(8, pairs, 25, np.random.default_rng(3)))
    assert len(found) == 25
    assert set(found) == every - set(columns(pairs))


def test_sampling_several_is_uniform() -> None:
    # Drawn without putting back, each of the 9 non-edges is in 4 of 9 samples of 4.
    generator = np.random.default_rng(1)
    pairs = np.array([[0], [1]])
    drawn = [pair for _ in range(3000) for pair in columns(sample_non_edges(5, pairs, 4, generator))]
    shares = [drawn.count(pair) / 3000 for pair in set(drawn)]
    assert len(shares) == 9
    assert all(abs(share - 4 / 9) < 0.04 for share in shares)


def test_too_few_links_or_non_edges_are_refused() -> None:
    everything = np.array([(i, j) for i in range(6) for j in range(i + 1, 6)]).T
    with pytest.raises(ValueError, match="4 pairs without an edge are wanted, the graph has 0"):
        link_split(6, everything, 2, 2, 0)
    with pytest.raises(ValueError, match="8 validation and 7 test items leave none of 15 to train on"):
        link_split(6, everything, 8, 7, 0)
