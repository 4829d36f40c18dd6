from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from gnncompress.datasets import DATASETS, digits, load_dataset
from gnncompress.datasets.digits import NEIGHBOURS, load, load_grid


def test_statistics_are_the_declared_ones() -> None:
    data = load_dataset("digits").graphs
    statistics = DATASETS["digits"].statistics
    assert (data.num_nodes, data.num_edges) == (statistics["nodes"], statistics["edges"])
    assert data.is_undirected()
    assert not data.has_self_loops()
    assert float(data.x.min()) == 0
    assert float(data.x.max()) == 1


def test_edges_are_those_of_a_slow_search() -> None:
    data = load().graphs
    images = load_digits().data.astype(int)
    expected = set()
    for node in range(0, 1797, 97):
        distance = ((images - images[node]) ** 2).sum(1)
        distance[node] = np.iinfo(int).max
        expected |= {(int(other), node) for other in sorted(range(1797), key=lambda o: (distance[o], o))[:NEIGHBOURS]}
    edges = set(map(tuple, data.edge_index.t().tolist()))
    assert expected <= edges
    assert {(b, a) for a, b in edges} == edges


@pytest.mark.parametrize("file", [digits.FILE, "datasets/data/elsewhere.csv.gz"])
def test_images_are_those_of_scikit_learn(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "FILE", file)
    images, labels = digits._images()
    expected_images, expected_labels = load_digits(return_X_y=True)
    assert images.dtype == expected_images.dtype
    assert labels.dtype == expected_labels.dtype
    assert np.array_equal(images, expected_images)
    assert np.array_equal(labels, expected_labels)


def test_data_are_read_without_importing_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sklearn.datasets", "sklearn.metrics"):
        monkeypatch.setitem(sys.modules, module, None)  # an import fails
    assert load().graphs.num_nodes == 1797
    assert len(load_grid().as_list()) == 1797


def test_graph_is_the_same_every_time() -> None:
    assert (load().graphs.edge_index == load().graphs.edge_index).all()


def test_grid_joins_pixels_that_touch() -> None:
    graphs = load_dataset("digits-grid").as_list()
    images = load_digits()
    assert len(graphs) == 1797
    assert graphs[3].y.tolist() == [images.target[3]]
    assert graphs[3].is_undirected()
    edges = set(map(tuple, graphs[3].edge_index.t().tolist()))
    expected = {
        (8 * r + c, 8 * (r + dr) + c + dc)
        for r in range(8)
        for c in range(8)
        for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))
        if 0 <= r + dr < 8 and 0 <= c + dc < 8
    }
    assert edges == expected
    pixel = 8 * 2 + 5
    assert np.allclose(graphs[3].x[pixel], [images.images[3][2, 5] / 16, 2 / 7, 5 / 7])
    assert load_grid().graphs[0].x.shape == (64, 3)
