"""Enclosing subgraphs against a slow search over sets, their labels by hand, and what the cache may forget."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.models import enclosing
from gnncompress.models.enclosing import (
    Enclosure,
    EnclosureCache,
    Neighbourhoods,
    double_radius_labels,
    enclosing_subgraph,
    largest_label,
)

FAR = 10**6


def slow_distances(links: set[tuple[int, int]], nodes: range, start: int) -> dict[int, int]:
    """Relax every link until nothing changes."""
    distance = {node: 0 if node == start else FAR for node in nodes}
    for _ in nodes:
        for first, second in links:
            for a, b in ((first, second), (second, first)):
                distance[b] = min(distance[b], distance[a] + 1)
    return distance


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], tuple[int, int]]:
    nodes = draw(st.integers(2, 9))
    node = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=20))
    pair = draw(st.tuples(node, node).filter(lambda pair: pair[0] != pair[1]))
    return nodes, edges, pair


def extract(
    nodes: int, edges: list[tuple[int, int]], pair: tuple[int, int], hops: int = 2, most: int = 100
) -> Enclosure:
    edge_index = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return enclosing_subgraph(Neighbourhoods(edge_index, nodes), pair, hops, most)


@given(graph=graphs(), hops=st.integers(1, 3), most=st.integers(2, 9))
def test_against_a_slow_search(graph: tuple[int, list[tuple[int, int]], tuple[int, int]], hops: int, most: int) -> None:
    nodes, edges, pair = graph
    links = {(min(e), max(e)) for e in edges if e[0] != e[1]} - {(min(pair), max(pair))}
    reach = [slow_distances(links, range(nodes), end) for end in pair]
    near = sorted(
        (*sorted(min(d[node], hops + 1) for d in reach), node)
        for node in range(nodes)
        if node not in pair and min(d[node] for d in reach) <= hops
    )
    want = [*pair, *(node for *_, node in near[: most - 2])]
    found = extract(nodes, edges, pair, hops, most)
    assert found.nodes.tolist() == want
    inside = {(a, b) for a, b in links if a in want and b in want}
    assert sorted(zip(*found.nodes[found.edges].tolist(), strict=True)) == sorted(inside | {(b, a) for a, b in inside})

    for local, node in enumerate(want[2:], start=2):
        d = []
        for end, other in (pair, pair[::-1]):
            kept = {link for link in inside if other not in link}
            d.append(slow_distances(kept, range(nodes), end)[node])
        half, odd = divmod(sum(d), 2)
        label = 0 if max(d) >= FAR else min(1 + min(d) + half * (half + odd - 1), largest_label(hops))
        assert found.labels[local] == label
    assert found.labels[:2].tolist() == [1, 1]


@given(graph=graphs())
def test_direction_and_repetition_of_edges_do_not_matter(
    graph: tuple[int, list[tuple[int, int]], tuple[int, int]],
) -> None:
    nodes, edges, pair = graph
    one = extract(nodes, edges, pair)
    two = extract(nodes, [*((b, a) for a, b in edges), *edges], pair)
    assert all(np.array_equal(getattr(one, part), getattr(two, part)) for part in ("nodes", "edges", "labels"))


@given(graph=graphs())
def test_the_reverse_pair_has_the_same_subgraph(
    graph: tuple[int, list[tuple[int, int]], tuple[int, int]],
) -> None:
    nodes, edges, pair = graph
    one, two = extract(nodes, edges, pair, most=5), extract(nodes, edges, pair[::-1], most=5)
    assert two.nodes.tolist() == [*one.nodes[[1, 0]], *one.nodes[2:]]
    assert two.labels.tolist() == one.labels.tolist()


def test_labels_by_hand() -> None:
    # 2 touches both ends (1, 1); 3 hangs on 2 (2, 2); 4 touches 0 and 3 (1, 3); 5 hangs on 1 only, never seen from 0.
    links = [(0, 2), (1, 2), (2, 3), (0, 4), (3, 4), (1, 5)]
    edges = np.array([*links, *((b, a) for a, b in links)]).T
    assert double_radius_labels(edges, 6, largest=99).tolist() == [1, 1, 2, 5, 4, 0]
    assert double_radius_labels(edges, 6, largest=4).tolist() == [1, 1, 2, 4, 4, 0]


def test_a_hub_is_cut_to_its_common_neighbours_first() -> None:
    edges = [*((0, node) for node in range(2, 500)), (1, 300), (1, 400)]
    assert extract(500, edges, (0, 1), most=6).nodes.tolist() == [0, 1, 300, 400, 2, 3]


def test_the_target_link_does_not_decide_who_is_cut() -> None:
    # Over the link 0-1, node 2 would be as near to both ends as 3 and 4 are.
    edges = [(1, 2), (1, 4), (3, 4), (0, 3)]
    for known in (edges, [*edges, (0, 1)]):
        assert extract(5, known, (0, 1), most=4).nodes.tolist() == [0, 1, 3, 4]


def test_no_edges_at_all() -> None:
    found = extract(4, [], (3, 1))
    assert found.nodes.tolist() == [3, 1]
    assert found.edges.shape == (2, 0)


def test_a_node_is_no_pair() -> None:
    with pytest.raises(ValueError, match="needs two different nodes, not 3 twice"):
        extract(4, [], (3, 3))


@pytest.fixture
def extractions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The pairs that were extracted, not looked up."""
    pairs: list[tuple[int, int]] = []

    def counted(graph: Neighbourhoods, pair: tuple[int, int], hops: int, most: int) -> Enclosure:
        pairs.append(pair)
        return enclosing_subgraph(graph, pair, hops, most)

    monkeypatch.setattr(enclosing, "enclosing_subgraph", counted)
    return pairs


RING = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]])
PAIRS = torch.tensor([[0, 1, 3], [2, 3, 1]])


def test_pairs_are_extracted_once(extractions: list[tuple[int, int]]) -> None:
    cache = EnclosureCache(2, 10)
    first = cache.get(RING, 5, PAIRS)
    again = cache.get(RING.clone(), 5, PAIRS.flip(0))
    assert extractions == [(0, 2), (1, 3)]
    assert all(one is two for one, two in zip(first, again, strict=True))


def test_a_changed_graph_is_not_taken_for_the_old_one(extractions: list[tuple[int, int]]) -> None:
    cache, edges = EnclosureCache(1, 10), RING.clone()
    cache.get(edges, 5, PAIRS)
    edges[1, 4] = 2
    changed = cache.get(edges, 5, PAIRS)
    fresh = EnclosureCache(1, 10).get(edges, 5, PAIRS)
    assert [found.nodes.tolist() for found in changed] == [found.nodes.tolist() for found in fresh]
    assert extractions == [(0, 2), (1, 3)] * 3
    cache.get(RING, 5, PAIRS)
    assert len(extractions) == 6


def test_the_cache_is_bounded(extractions: list[tuple[int, int]]) -> None:
    cache = EnclosureCache(1, 10, pairs=2, graphs=2)
    three = torch.tensor([[0, 1, 2], [2, 3, 4]])
    cache.get(RING, 5, three)
    assert len(cache) == 2
    cache.get(RING, 5, three[:, 1:])
    assert len(extractions) == 3
    cache.get(RING, 5, three[:, :1])
    assert len(extractions) == 4
    for nodes in (6, 7):
        cache.get(RING, nodes, three[:, :1])
    assert len(cache) == 2
    cache.get(RING, 5, three[:, :1])
    assert len(extractions) == 7


def test_copies_are_empty_and_work() -> None:
    cache = EnclosureCache(1, 10, pairs=7, graphs=3)
    cache.get(RING, 5, PAIRS)
    for copied in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert len(copied) == 0
        assert (copied.hops, copied.max_nodes, copied.pairs, copied.graphs) == (1, 10, 7, 3)
        assert len(copied.get(RING, 5, PAIRS)) == 3
    assert len(cache) == 2
