from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from gnncompress.datasets import DATASETS, load_dataset
from gnncompress.datasets.digits import NEIGHBOURS, load


def test_statistics_are_the_declared_ones() -> None:
    data = load_dataset("digits")
    assert (data.num_nodes, data.num_edges) == (DATASETS["digits"].nodes, DATASETS["digits"].edges)
    assert data.is_undirected()
    assert not data.has_self_loops()
    assert float(data.x.min()) == 0
    assert float(data.x.max()) == 1


def test_edges_are_those_of_a_slow_search() -> None:
    data = load()
    images = load_digits().data.astype(int)
    expected = set()
    for node in range(0, 1797, 97):
        distance = ((images - images[node]) ** 2).sum(1)
        distance[node] = np.iinfo(int).max
        expected |= {(int(other), node) for other in sorted(range(1797), key=lambda o: (distance[o], o))[:NEIGHBOURS]}
    edges = set(map(tuple, data.edge_index.t().tolist()))
    assert expected <= edges
    assert {(b, a) for a, b in edges} == edges


def test_graph_is_the_same_every_time() -> None:
    assert (load().edge_index == load().edge_index).all()
