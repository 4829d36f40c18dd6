"""Batches of small graphs cut from one block of memory.

Collating a list of graphs costs Python time for each; training on a thousand small graphs would spend more time
there than in the model. Here all graphs lie in one block and a batch is one gather a field.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnncompress.datasets.collated import Collated, counts_of, each, field_of, together

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
        block = Collated.of(graphs)
        kept = _kept(block)
        nodes, edges = block.nodes, counts_of(block, "edge_index")
        self.size = len(block)
        self._nodes, self._edges = _Ragged(nodes, device), _Ragged(edges, device)
        self._edge_index = together(block, "edge_index").to(device)
        self._levels: dict[str, str] = {}
        self._fields: dict[str, Tensor] = {}
        for key in kept:
            level, rows = _leveled(block, key, nodes, edges)
            if level:
                self._levels[key], self._fields[key] = level, rows.to(device)

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

    def graphs(self, indices: Tensor) -> list[Data]:
        """Return the graphs at ``indices`` [B], each with the fields that are kept."""
        return [self._one(index) for index in indices.split(1)]

    def _one(self, index: Tensor) -> Data:
        whole = self.batch(index)
        fields = {key: whole[key] for key in self._levels}
        return Data(edge_index=whole.edge_index, num_nodes=whole.num_nodes, **fields)


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


def _kept(graphs: Collated) -> list[str]:
    """Return the names of the tensors that all graphs have; of numbers of nodes none, which would have to be moved.

    Raises:
        ValueError: if some graphs have one and others have not.
    """
    names = sorted(key for key in graphs.columns if "index" not in key and key not in ("face", "batch", "ptr"))
    loose = {key: each(graphs, key) for key in names if field_of(graphs, key) is None}
    loose = {key: parts for key, parts in loose.items() if any(isinstance(part, Tensor) for part in parts)}
    for number in range(len(graphs) if loose else 0):
        for key, parts in loose.items():
            ours, first = isinstance(parts[number], Tensor), isinstance(parts[0], Tensor)
            if ours != first:
                lacking, having = (number, 0) if first else (0, number)
                raise ValueError(f"graph {lacking} has no {key}, which graph {having} has")
    return [key for key in names if key in loose or field_of(graphs, key) is not None]


def _leveled(graphs: Collated, key: str, nodes: Tensor, edges: Tensor) -> tuple[str, Tensor]:
    """Say whether a field has a row a node, an edge or a graph, nothing for another number, and return all its rows.

    Raises:
        ValueError: if the rows differ in shape.
    """
    level = _level(graphs, key, nodes, edges)
    field = field_of(graphs, key)
    if field is not None and (level != _GRAPH or bool((field.counts() == 1).all())):
        return level, field.values
    rows = [_rows(value, level) for value in each(graphs, key)]
    if level == _GRAPH and any(row.size(0) != 1 for row in rows):
        return "", rows[0]
    shapes = {tuple(row.shape[1:]) for row in rows}
    if len(shapes) > 1:
        raise ValueError(
            f"{key} has rows of different shapes: {' and '.join(str(list(s)) for s in sorted(shapes)[:2])}"
        )
    return level, torch.cat(rows)


def _level(graphs: Collated, key: str, nodes: Tensor, edges: Tensor) -> str:
    """Return what a field has its rows for, if for anything."""
    field = field_of(graphs, key)
    single = field.bare if field is not None else any(not value.dim() for value in each(graphs, key))
    if key == "y" or single:
        return _GRAPH
    counts = counts_of(graphs, key)
    return next((level for level, rows in ((_NODE, nodes), (_EDGE, edges)) if torch.equal(counts, rows)), _GRAPH)


def _rows(value: Tensor, level: str) -> Tensor:
    """Return a graph's field with its rows first; what a graph has one of is one row, as in PyG a single number."""
    if level != _GRAPH or value.dim() > 1:
        return value
    return value.reshape(1) if value.numel() == 1 else value.reshape(1, -1)
