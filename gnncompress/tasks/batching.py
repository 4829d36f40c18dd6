"""Batches of small graphs cut from one block of memory.

Collating a list of graphs costs Python time for each; training on a thousand small graphs would spend more time
there than in the model. Here all graphs lie in one block and a batch is one gather a field.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

_GRAPH = "graph"
_NODE = "node"
_EDGE = "edge"


class GraphBlock:
    """Graphs as one block from which ``batch`` cuts any selection, equal to ``Batch.from_data_list`` of it.

    Tensors with a row a node, an edge or a graph are kept. Other fields are left out: text, several rows a graph, and
    numbers of nodes other than ``edge_index``.

    Raises:
        ValueError: if the graphs do not all have the same fields, or a field's rows differ in shape.
    """

    def __init__(self, graphs: Sequence[Data], device: str = "cpu") -> None:
        self.size = len(graphs)
        self._levels = _levels(graphs)
        self._nodes = _Ragged(torch.tensor([graph.num_nodes for graph in graphs]), device)
        self._edges = _Ragged(torch.tensor([graph.num_edges for graph in graphs]), device)
        self._edge_index = torch.cat([graph.edge_index for graph in graphs], dim=1).to(device)
        self._fields = {
            key: torch.cat([_rows(graph[key], level) for graph in graphs]).to(device)
            for key, level in self._levels.items()
        }

    def batch(self, indices: Tensor) -> Batch:
        """Return the graphs at ``indices`` [B] as one disconnected graph, with ``batch``, ``ptr`` and their fields."""
        nodes, owner, ptr = self._nodes.gather(indices)
        edges, edge_owner, _ = self._edges.gather(indices)
        rows = {_NODE: nodes, _EDGE: edges, _GRAPH: indices}
        fields = {key: self._fields[key][rows[level]] for key, level in self._levels.items()}
        edge_index = self._edge_index[:, edges] + ptr[edge_owner]
        data = Batch(edge_index=edge_index, batch=owner, ptr=ptr, num_nodes=int(ptr[-1]), **fields)
        data._num_graphs = indices.numel()
        return data


def portions(order: Tensor, size: int) -> list[Tensor]:
    """Cut ``order`` into parts of ``size``, 0 for one of all; a single item left over joins the part before it.

    Batch normalization cannot train on one graph: it has no variance.
    """
    parts = list(order.split(size or order.numel()))
    if size > 1 and len(parts) > 1 and parts[-1].numel() == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


class _Ragged:
    """Rows of many items one after the other, gathered item by item."""

    def __init__(self, counts: Tensor, device: str) -> None:
        self._counts = counts.to(device)
        self._starts = (counts.cumsum(0) - counts).to(device)

    def gather(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of the items at ``indices``, the position of each row's item, and the items' bounds."""
        counts = self._counts[indices]
        ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        owner = torch.repeat_interleave(counts)
        rows = torch.arange(owner.numel(), device=counts.device) + (self._starts[indices] - ptr[:-1])[owner]
        return rows, owner, ptr


def _levels(graphs: Sequence[Data]) -> dict[str, str]:
    """Say for every field that is kept whether it has a row a node, an edge or a graph."""
    keys = [_tensors(graph) for graph in graphs]
    for number, found in enumerate(keys):
        for one, other, key in ((number, 0, keys[0] - found), (0, number, found - keys[0])):
            if key:
                raise ValueError(f"graph {one} has no {min(key)}, which graph {other} has")
    levels = {key: _level(graphs, key) for key in sorted(keys[0])}
    return {key: level for key, level in levels.items() if level}


def _tensors(graph: Data) -> set[str]:
    """Return the names of a graph's tensors; numbers of nodes (``..._index``, ``face``) would have to be moved."""
    tensors = {key for key, value in graph.to_dict().items() if isinstance(value, Tensor)}
    return {key for key in tensors if "index" not in key and key not in ("face", "batch", "ptr")}


def _level(graphs: Sequence[Data], key: str) -> str:
    """Return node, edge or graph, or nothing for a field that has another number of rows."""
    values = [graph[key] for graph in graphs]
    if key == "y":
        level = _GRAPH
    elif all(value.dim() and value.size(0) == graph.num_nodes for value, graph in zip(values, graphs, strict=True)):
        level = _NODE
    elif all(value.dim() and value.size(0) == graph.num_edges for value, graph in zip(values, graphs, strict=True)):
        level = _EDGE
    else:
        level = _GRAPH
    rows = [_rows(value, level) for value in values]
    if level == _GRAPH and any(row.size(0) != 1 for row in rows):
        return ""
    shapes = {tuple(row.shape[1:]) for row in rows}
    if len(shapes) > 1:
        raise ValueError(
            f"{key} has rows of different shapes: {' and '.join(str(list(s)) for s in sorted(shapes)[:2])}"
        )
    return level


def _rows(value: Tensor, level: str) -> Tensor:
    """Return a graph's field with its rows first; what a graph has one of is one row, as in PyG a single number."""
    if level != _GRAPH or value.dim() > 1:
        return value
    return value.reshape(1) if value.numel() == 1 else value.reshape(1, -1)
