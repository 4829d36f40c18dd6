"""Graph classification sets of the TU Dortmund collection, read from their raw text files.

PyG's reader trusts the files: a last graph without edges, an edge between two graphs or a file cut short gives
wrong graphs or a traceback. This one checks every count and index, and names the line.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gnncompress.datasets import locations
from gnncompress.datasets.limits import MOST_CATEGORIES, MOST_GRAPHS, too_wide
from gnncompress.datasets.loaded import Loaded
from gnncompress.datasets.tables import table
from gnncompress.datasets.tudataset_files import NAMES, find
from gnncompress.errors import DatasetError

__all__ = ["NAMES", "fingerprint", "load"]

LARGEST_DEGREE = 128


def fingerprint(source: str, data_root: Path | None = None) -> str:
    """Return a SHA-256 over the names and contents of the raw files that ``load(source)`` reads.

    Raises:
        DatasetError: if the files are nowhere and cannot be downloaded, or are no classification set.
    """
    return locations.fingerprint(find(source, data_root).values())


def load(source: str, data_root: Path | None = None) -> Loaded:
    """Load the set ``source`` as graphs in one block; ``NAME:labels`` leaves its node attributes out.

    Shapes of each graph: x [n, F] float32, attributes before one-hot node labels; edge_index [2, e], sorted,
    without loops and duplicates; y [1] long in 0..C-1, in the order of the labels in the file. Where the files hold
    neither attributes nor labels, x is the one-hot degree, and all degrees of 128 and more share the last column.

    Memory: the features, at most 2.5 GiB, and beside them 192 MB and nine times the files at most. What
    is refused is refused before its features and graphs take any.

    Raises:
        DatasetError: if the files are nowhere and cannot be downloaded, one is damaged or contradicts another, the
            set is one for regression, or it has more than 2^20 graphs, 10,000 one-hot columns or 2.5 GiB of features.

    Source: Morris et al., TUDataset, 2020; equal to ``torch_geometric.datasets.TUDataset`` with node attributes.
    """
    import torch

    from gnncompress.datasets.collated import Collated, Field

    files = find(source, data_root)
    graph_of = _graph_of(files["graph_indicator"])
    classes = table(files["graph_labels"], whole=True, columns=1)[:, 0]
    _same_count(files["graph_labels"], len(classes), "graphs", int(graph_of[-1]) + 1)
    nodes, graphs = len(graph_of), len(classes)
    edges = _edges(files["A"], graph_of)
    x, notes = _features(files, nodes, edges)

    first_node = np.searchsorted(graph_of, np.arange(graphs + 1))
    first_edge = np.searchsorted(graph_of[edges[0]], np.arange(graphs + 1))
    edges -= first_node[graph_of[edges[0]]]
    y = torch.from_numpy(np.unique(classes, return_inverse=True)[1].astype(np.int64))
    loaded = Collated(
        {
            "x": Field(torch.from_numpy(x), torch.from_numpy(first_node)),
            "edge_index": Field(torch.from_numpy(edges), torch.from_numpy(first_edge), dim=1),
            "y": Field(y, torch.arange(graphs + 1)),
        },
        torch.from_numpy(np.diff(first_node)),
    )
    if bare := int((np.diff(first_edge) == 0).sum()):
        notes.append(f"{bare:,} of {graphs:,} graphs have no edges")
    return Loaded(loaded, tuple(notes))


def _graph_of(path: Path) -> np.ndarray:
    """Return every node's graph [N], from 0; the nodes of a graph must follow each other."""
    indicator = table(path, whole=True, columns=1)[:, 0]
    step = np.diff(indicator, prepend=0)
    wrong = (step != 0) & (step != 1)
    wrong[0] = indicator[0] != 1
    if wrong.any():
        line = int(wrong.argmax())
        before = f"follows graph {indicator[line - 1]}" if line else "comes first"
        raise DatasetError(
            f"{path}: line {line + 1}: graph {indicator[line]} {before}; graphs must be numbered from 1 without gaps, "
            "all nodes of a graph together"
        )
    if indicator[-1] > MOST_GRAPHS:
        raise DatasetError(f"{path}: {indicator[-1]:,} graphs, at most {MOST_GRAPHS:,} are read; leave some out")
    return indicator - 1


def _edges(path: Path, graph_of: np.ndarray) -> np.ndarray:
    """Return the edges [2, E] between nodes from 0, sorted, without loops and duplicates."""
    nodes = len(graph_of)
    ends = table(path, whole=True, columns=2)
    ends -= 1
    outside = ((ends < 0) | (ends >= nodes)).any(1)
    if outside.any():
        line = int(outside.argmax())
        raise DatasetError(f"{path}: line {line + 1}: an edge of {_ends(ends[line])}, but nodes are 1 to {nodes:,}")
    source, target = ends.T
    astray = graph_of[source] != graph_of[target]
    if astray.any():
        line = int(astray.argmax())
        raise DatasetError(
            f"{path}: line {line + 1}: an edge of {_ends(ends[line])}, which are in graphs "
            f"{graph_of[source[line]] + 1} and {graph_of[target[line]] + 1}"
        )
    kept = source != target
    pairs = source[kept] * nodes + target[kept]
    del ends, source, target, kept, astray, outside
    # Not np.unique, which hashes: of 6 million pairs a sort takes a second, that six more.
    pairs.sort()
    return np.stack(np.divmod(pairs[np.diff(pairs, prepend=-1) != 0], nodes))


def _ends(pair: np.ndarray) -> str:
    return f"nodes {pair[0] + 1} and {pair[1] + 1}"


def _features(files: dict[str, Path], nodes: int, edges: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return node features [N, F] float32, and what is to be said of them."""
    attributes = np.empty((nodes, 0), np.float32)
    if "node_attributes" in files:
        attributes = table(files["node_attributes"], whole=False)
        _same_count(files["node_attributes"], len(attributes), "nodes", nodes)
    if "node_labels" in files:
        labels = table(files["node_labels"], whole=True)
        _same_count(files["node_labels"], len(labels), "nodes", nodes)
        return _with_one_hot(attributes, labels, labels.min(0), files["node_labels"]), []
    if "node_attributes" in files:
        return attributes, []
    degree = np.bincount(edges[0], minlength=nodes)
    above = int((degree > LARGEST_DEGREE).sum())
    note = f"no node features in the files: one-hot degrees 0 to {min(int(degree.max()), LARGEST_DEGREE)} stand in"
    shared = f"; the {above:,} of {nodes:,} nodes with higher ones share the last column" if above else ""
    degree = np.minimum(degree, LARGEST_DEGREE)[:, None]
    return _with_one_hot(attributes, degree, np.zeros(1, np.int64), files["graph_indicator"]), [note + shared]


def _with_one_hot(attributes: np.ndarray, values: np.ndarray, low: np.ndarray, path: Path) -> np.ndarray:
    """Return attributes [N, A], then for each column of ``values`` [N, K] a column for each number from its ``low``."""
    nodes, first = attributes.shape
    # Python's integers: the difference of two of 64 bits may have 65.
    widths = [int(column.max()) - int(least) + 1 for column, least in zip(values.T, low, strict=True)]
    if sum(widths) > MOST_CATEGORIES:
        raise DatasetError(
            f"{path}: {nodes:,} nodes times {sum(widths):,} one-hot columns, at most {MOST_CATEGORIES:,} columns are "
            "made; number what they stand for 0, 1, ... without gaps"
        )
    if refusal := too_wide(nodes, first + sum(widths)):
        raise DatasetError(f"{path}: {refusal}")
    x = np.zeros((nodes, first + sum(widths)), dtype=np.float32)
    x[:, :first] = attributes
    for column, least, width in zip(values.T, low, widths, strict=True):
        x[np.arange(nodes), first + column - least] = 1
        first += width
    return x


def _same_count(path: Path, found: int, what: str, expected: int) -> None:
    if found != expected:
        raise DatasetError(f"{path}: {found:,} lines for the {expected:,} {what} of graph_indicator; restore the files")
