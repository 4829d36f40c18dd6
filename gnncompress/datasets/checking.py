"""A graph that somebody else made, checked field by field before anything is computed with it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnncompress.errors import DatasetError

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Not uint8: an index of bytes is a mask in torch.
NODE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8)
INTEGERS = (*NODE_NUMBERS, torch.uint8)
# What the tasks and models read of a graph.
_MASKS = ("train_mask", "val_mask", "test_mask", "labelled_mask")
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


def standard_types(graph: Data) -> Data:
    """Return a graph that was checked with int64 node numbers, and float32 for weights and other floats of edges."""
    changed: dict[str, Tensor] = {}
    if graph.edge_index.dtype != torch.int64:
        changed["edge_index"] = graph.edge_index.long()
    for name in ("edge_weight", "edge_attr"):
        value = graph.get(name)
        if value is not None and value.dtype != torch.float32 and (name == "edge_weight" or value.is_floating_point()):
            changed[name] = value.float()
    if changed:
        graph = graph.clone()
        for name, value in changed.items():
            graph[name] = value
    return graph


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a type of numbers, such as int64."""
    return str(dtype).removeprefix("torch.")


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
