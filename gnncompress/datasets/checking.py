"""A graph that somebody else made, checked field by field before anything is computed with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnncompress.datasets.collated import ABSENT, Collated, Field, column, each, field_of, with_field
from gnncompress.errors import DatasetError

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Not uint8: an index of bytes is a mask in torch.
NODE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8)
INTEGERS = (*NODE_NUMBERS, torch.uint8)
# What the tasks and models read of a graph.
_MASKS = ("train_mask", "val_mask", "test_mask", "labelled_mask")
# Graphs whose edges are compared at once: what is needed beside them is small.
AT_ONCE = 2**13
_TENSORS = ("x", "edge_index", "edge_attr", "edge_weight", "y", "batch", *_MASKS)


def check_graph(which: str, graph: Data) -> None:
    """Insist on a graph that can be computed with; ``which`` names it.

    Shapes: edge_index [2, E], node numbers from 0; edge_weight [E] and edge_attr [E, ...], finite; batch [N], graph
    numbers from 0 and below N. Every tensor is dense and real. That x is [N, F] is for ``encode_features`` to say,
    what y and masks are is for the task.

    Raises:
        DatasetError: naming the graph and the field, what it is, what it should be and what to do.
    """
    for name in _TENSORS:
        if (value := graph.get(name)) is not None:
            _check_tensor(which, name, value)
    _check_node_numbers(which, graph.edge_index)
    _check_features(which, graph.x)
    nodes = _nodes(which, graph)
    for check in (_check_edges, _check_weights, _check_attributes, _check_batch):
        check(which, graph, nodes)


def check_graphs(name: Callable[[int], str], graphs: Sequence[Data]) -> None:
    """Insist on graphs that can be computed with; ``name`` names one by its number.

    Raises:
        DatasetError: as ``check_graph`` of the first that cannot.
    """
    for number in _doubtful(graphs):
        check_graph(name(number), graphs[number])


def standard_types(graphs: Sequence[Data]) -> Sequence[Data]:
    """Return graphs that were checked with int64 node numbers, and float32 for weights and other floats of edges."""
    if not isinstance(graphs, Collated):
        return [_standard(graph) for graph in graphs]
    for name in _RETYPED:
        if (field := field_of(graphs, name)) is not None:
            graphs = graphs.replaced(name, replace(field, values=_retyped(name, field.values)))
        elif name in graphs.columns:
            parts = [part if part is ABSENT else _retyped(name, part) for part in each(graphs, name)]
            graphs = graphs.replaced(name, column(name, parts))
    return graphs


_RETYPED = ("edge_index", "edge_weight", "edge_attr")


def _standard(graph: Data) -> Data:
    for name in _RETYPED:
        value = graph.get(name)
        if value is not None and (changed := _retyped(name, value)) is not value:
            graph = with_field(graph, name, changed)
    return graph


def _retyped(name: str, value: Tensor) -> Tensor:
    if name == "edge_index":
        return value.long()
    return value.float() if name == "edge_weight" or value.is_floating_point() else value


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a type of numbers, such as int64."""
    return str(dtype).removeprefix("torch.")


def _doubtful(graphs: Sequence[Data]) -> Iterable[int]:
    """Return the numbers of the graphs to look at one by one: none where all are known to be right."""
    everything = range(len(graphs))
    return () if isinstance(graphs, Collated) and _sound(graphs) else everything


def _sound(graphs: Collated) -> bool:
    """Say whether every graph would pass ``check_graph``, by one operation on a field; no may be wrong."""
    found = {name: field_of(graphs, name) for name in _TENSORS if name in graphs.columns}
    fields = {name: field for name, field in found.items() if field is not None and not field.values.is_complex()}
    if len(fields) < len(found) or "batch" in fields or int(graphs.nodes.min()) < 0:
        return False
    edges, x = fields.get("edge_index"), fields.get("x")
    if edges is None or edges.values.dtype not in NODE_NUMBERS or edges.values.dim() != 2 or edges.values.size(0) != 2:
        return False
    if x is not None and (x.bare or (x.values.dim() == 2 and not x.values.size(1))):
        return False
    counts = edges.counts()
    if not _between_nodes(edges, graphs.nodes):
        return False
    return all(_fits(name, fields[name], counts) for name in ("edge_weight", "edge_attr") if name in fields)


def _between_nodes(edges: Field, nodes: Tensor) -> bool:
    """Say whether every edge joins nodes that its graph has, of which each has ``nodes`` [G]."""
    for numbers in torch.arange(nodes.numel()).split(AT_ONCE):
        first, end = int(edges.bounds[numbers[0]]), int(edges.bounds[numbers[-1] + 1])
        joined, counts = edges.values[:, first:end], edges.counts()[numbers]
        most = torch.repeat_interleave(nodes[numbers], counts)
        if not bool(((joined >= 0) & (joined < most)).all()):
            return False
    return True


def _fits(name: str, field: Field, edges: Tensor) -> bool:
    """Say whether a field has finite numbers for each edge, of which each graph has ``edges`` [G]."""
    values = field.values
    return (
        not field.bare
        and (name == "edge_attr" or values.dim() == 1)
        and torch.equal(field.counts(), edges)
        and values.dtype in (*FLOATS, *INTEGERS, torch.bool)
        and not (values.is_floating_point() and not bool(torch.isfinite(values.float()).all()))
    )


def _check_tensor(which: str, name: str, value: object) -> None:
    has = f"{which} has {'features x that are' if name == 'x' else f'{name} that is'}"
    if not isinstance(value, Tensor):
        raise DatasetError(f"{which} has {name} of type {type(value).__name__}; make it a torch tensor")
    if value.layout != torch.strided:
        raise DatasetError(f"{has} sparse; use {name}.to_dense()")
    if value.is_meta:
        raise DatasetError(f"{has} on the meta device, without values; load it on the CPU")
    if value.is_complex():
        raise DatasetError(f"{has} complex ({name_of(value.dtype)}); use real numbers, e.g. {name}.real")


def _check_node_numbers(which: str, edges: Tensor | None) -> None:
    needed = f"{which} needs edge_index, integers [2, E]"
    if edges is None:
        raise DatasetError(f"{needed}; it has none")
    found = f"it has {edges.dtype} {list(edges.shape)}"
    if edges.dtype in (torch.bool, torch.uint8):
        raise DatasetError(f"{needed}; {found}, which torch takes for a mask; make it of int64 from the start")
    if edges.dtype not in NODE_NUMBERS:
        raise DatasetError(f"{needed}; {found}; use edge_index.long()")
    if edges.dim() != 2 or edges.size(0) != 2:
        turned = edges.dim() == 2 and edges.size(1) == 2
        raise DatasetError(f"{needed}; {found}; " + ("use edge_index.t()" if turned else "give sources and targets"))


def _check_features(which: str, x: Tensor | None) -> None:
    if x is None:
        return
    if not x.dim():
        raise DatasetError(f"{which} has features x of shape []; needed are [nodes, columns]")
    if x.dim() == 2 and not x.size(1):
        raise DatasetError(
            f"{which} has features x without a column; set them, e.g. to one-hot degrees "
            "(torch_geometric.transforms.OneHotDegree)"
        )


def _nodes(which: str, graph: Data) -> int:
    given = graph.get("num_nodes", graph.num_nodes)
    try:
        nodes = int(given)
    except (TypeError, ValueError, OverflowError):
        nodes = -1
    if nodes < 0 or nodes != given:
        raise DatasetError(f"{which} has num_nodes {given!r:.40}; make it a whole number, or leave it out")
    return nodes


def _check_edges(which: str, graph: Data, nodes: int) -> None:
    edges = graph.edge_index
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < nodes:
        raise DatasetError(
            f"{which} has {nodes} nodes and an edge to node {int(edges.max())} "
            f"or from node {int(edges.min())}; nodes are 0 to {nodes - 1}; mend edge_index"
        )


def _check_weights(which: str, graph: Data, nodes: int) -> None:
    weights = graph.get("edge_weight")
    if weights is None:
        return
    edges = graph.edge_index.size(1)
    if weights.shape != (edges,):
        advice = "use edge_weight.view(-1)" if weights.shape == (edges, 1) else "give one for each edge"
        raise DatasetError(f"{which} has edge_weight {list(weights.shape)}; needed is [{edges}], {advice}")
    _check_numbers(which, "edge_weight", weights)


def _check_attributes(which: str, graph: Data, nodes: int) -> None:
    attributes = graph.get("edge_attr")
    if attributes is None:
        return
    edges = graph.edge_index.size(1)
    if not attributes.dim() or attributes.size(0) != edges:
        raise DatasetError(
            f"{which} has edge_attr {list(attributes.shape)}; needed is [{edges}, D], give a row for each edge"
        )
    _check_numbers(which, "edge_attr", attributes)


def _check_numbers(which: str, name: str, value: Tensor) -> None:
    if value.dtype not in (*FLOATS, *INTEGERS, torch.bool):
        raise DatasetError(f"{which} has {name} of {name_of(value.dtype)}; use {name}.float()")
    if value.is_floating_point() and not bool(torch.isfinite(value.float()).all()):
        raise DatasetError(f"{which} has {name} with values that are NaN or infinite as float32; clean it when loading")


def _check_batch(which: str, graph: Data, nodes: int) -> None:
    batch = graph.get("batch")
    if batch is None:
        return
    if batch.dtype not in NODE_NUMBERS or batch.shape != (nodes,):
        found = f"{name_of(batch.dtype)} {list(batch.shape)}"
        raise DatasetError(f"{which} has batch {found}; needed is int64 [{nodes}], the graph of each node")
    if nodes and not 0 <= int(batch.min()) <= int(batch.max()) < nodes:
        raise DatasetError(
            f"{which} has batch with graph numbers {int(batch.min()):,} to {int(batch.max()):,} for {nodes:,} nodes; "
            "number the graphs 0, 1, ... without gaps, e.g. with batch.unique(return_inverse=True)[1]"
        )
