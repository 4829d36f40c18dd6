"""What a model may ask of its data before it sees it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import TargetIndegree

from gnncompress.datasets.checking import FLOATS, INTEGERS, name_of
from gnncompress.datasets.collated import Collated, counts_of, field_of, together, with_field, with_rows
from gnncompress.datasets.limits import MOST_CATEGORIES, too_wide
from gnncompress.errors import TaskError

SPARSE_BELOW = 0.1


def sparse_features(data: Data) -> Data:
    """Store ``data.x`` as CSR when fewer than a tenth of its values are non-zero.

    Cora's features are 1.3% dense: a step of SplineCNN is then several times faster with equal results.
    """
    if data.x.count_nonzero() >= SPARSE_BELOW * data.x.numel():
        return data
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return with_field(data, "x", data.x.to_sparse_csr())


def unit_rows(data: Data) -> Data:
    """Divide each node's features by the sum of their absolute values; a row of zeros stays one."""
    return with_field(data, "x", data.x / data.x.abs().sum(1, keepdim=True).clamp(min=1e-12))


def target_indegree(data: Data) -> Data:
    """Set ``data.edge_attr`` [E, 1] to the in-degree of each edge's target, divided by the largest one.

    Source: pseudo-coordinates of Fey et al., SplineCNN, CVPR 2018, for graphs without positions.
    """
    if data.num_edges == 0:  # no largest in-degree to divide by
        return with_field(data, "edge_attr", data.x.new_zeros(0, 1))
    data = copy.copy(data)
    data.edge_attr = None  # which PyG would put beside the new one
    return TargetIndegree()(data)


def edge_order(data: Data) -> Data:
    """Number the undirected edges in random order, always the same one: ``data.edge_order`` [E].

    Both directions of an edge have its number, so that taking numbers modulo K parts the edges into K equal subgraphs.
    """
    low, high = data.edge_index.min(0).values, data.edge_index.max(0).values
    _, pair = torch.unique(low * data.num_nodes + high, return_inverse=True)
    count = int(pair.max()) + 1 if pair.numel() else 0
    order = torch.from_numpy(np.random.Generator(np.random.PCG64(0)).permutation(count))
    return with_field(data, "edge_order", order[pair])


# What a model asks for by name; sparse features are for one large graph, not for batches of small ones.
TRANSFORMS = {
    "sparse_features": sparse_features,
    "unit_rows": unit_rows,
    "target_indegree": target_indegree,
    "edge_order": edge_order,
}
ONE_GRAPH_ONLY = {"sparse_features"}


def encode_features(graphs: Sequence[Data], encoding: str) -> Sequence[Data]:
    """Return the graphs with float32 features.

    Integer features are categories, such as an atom's number: with ``encoding`` auto or one-hot each column becomes
    one column a category, with raw or standard they are used as numbers. The categories are those of PyG's
    ``from_smiles`` for molecules and the values that occur for others. Features that are floats stay as they are.

    Memory: the features, at most 2.5 GiB, and twice what they are made of.

    Raises:
        TaskError: if a graph has no features, not a row a node, other widths than the first, another kind of numbers,
            or values that float32 does not hold; if one-hot is asked for floats; or if there are too many categories.
    """
    for number in _doubtful(graphs):
        _check(graphs[number], number if len(graphs) > 1 else None, graphs[0].x)
    x = together(graphs, "x")
    dtype = graphs[0].x.dtype
    floats = dtype not in INTEGERS
    if floats and encoding == "one-hot":
        raise TaskError("--features one-hot: the features are real numbers, not categories; use --features raw")
    if floats or encoding in ("raw", "standard"):
        return with_rows(graphs, "x", x.detach().float(), counts_of(graphs, "x"))
    columns = _molecule_columns(graphs[0], x) or [column.unique() for column in x.unbind(1)]
    width = sum(values.numel() for values in columns)
    if width > MOST_CATEGORIES:
        raise TaskError(
            f"the integer features have {width:,} different values; if they are numbers, not categories, "
            "use --features raw or standard"
        )
    if refusal := too_wide(x.size(0), width):
        raise TaskError(f"the integer features as categories: {refusal}; use --features raw or standard")
    return with_rows(graphs, "x", _one_hot(x, columns), counts_of(graphs, "x"))


def standardized(graphs: Sequence[Data], rows: Tensor) -> Sequence[Data]:
    """Return the graphs with each feature column less its mean and divided by its deviation over ``rows`` [n, F].

    ``rows`` are those of the training items, so that nothing of the others enters. A constant column is only centred.
    """
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    # Rounding gives a constant column a deviation, too; dividing by it would blow the column up.
    deviation = torch.where((rows != rows[0]).any(0), deviation, torch.ones_like(deviation))
    return with_rows(graphs, "x", (together(graphs, "x") - mean) / deviation, counts_of(graphs, "x"))


def _doubtful(graphs: Sequence[Data]) -> Iterable[int]:
    """Return the numbers of the graphs whose features are to be checked one by one: none where all are right."""
    x = field_of(graphs, "x")
    right = (
        isinstance(graphs, Collated)
        and x is not None
        and x.values.dim() == 2
        and torch.equal(x.counts(), graphs.nodes)
        and x.values.dtype in (*FLOATS, *INTEGERS, torch.bool)
        and not (x.values.is_floating_point() and not bool(torch.isfinite(x.values.float()).all()))
    )
    return () if right else range(len(graphs))


def _check(graph: Data, number: int | None, first: Tensor | None) -> None:
    where = "the graph" if number is None else f"graph {number}"
    x = graph.x
    if x is None or first is None:
        raise TaskError(
            f"{where} has no node features x; set them when loading, e.g. one-hot degrees "
            "(torch_geometric.transforms.OneHotDegree)"
        )
    width = first.size(1) if first.dim() == 2 else 1  # graph 0 is refused below
    if x.dim() != 2 or x.size(0) != graph.num_nodes or x.size(1) != width:
        advice = "make them a column with x.view(-1, 1)" if x.dim() == 1 else "mend them when loading"
        raise TaskError(
            f"{where} has features of shape {list(x.shape)}; needed are [{graph.num_nodes}, {width}]; {advice}"
        )
    if x.dtype not in (*FLOATS, *INTEGERS, torch.bool):
        raise TaskError(f"{where} has features x of {name_of(x.dtype)}; use x.float()")
    if (x.dtype in INTEGERS) != (first.dtype in INTEGERS):
        raise TaskError(
            f"{where} has features x of {name_of(x.dtype)}, graph 0 of {name_of(first.dtype)}; make all of one type"
        )
    if x.is_floating_point() and not bool(torch.isfinite(x.float()).all()):
        raise TaskError(f"{where} has features that are NaN or infinite as float32; clean x when loading")


def _molecule_columns(first: Data, x: Tensor) -> list[Tensor] | None:
    """Return the categories of each column that PyG has for molecules; none where these graphs are no such."""
    if "smiles" not in first:
        return None
    from torch_geometric.utils.smiles import x_map

    if first.x.size(1) != len(x_map):
        return None
    sizes = torch.tensor([len(values) for values in x_map.values()])
    known = bool(((x >= 0) & (x < sizes)).all())
    return [torch.arange(int(size)) for size in sizes] if known else None


def _one_hot(x: Tensor, columns: Sequence[Tensor]) -> Tensor:
    hot = torch.zeros(x.size(0), sum(values.numel() for values in columns))
    first = 0
    for values, column in zip(columns, x.unbind(1), strict=True):
        place = first + torch.searchsorted(values, column.contiguous())
        hot.scatter_(1, place.unsqueeze(1), 1)
        first += values.numel()
    return hot
