"""The graph that a model for links may see: the training edges, with what the data say of each."""

from __future__ import annotations

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce

from gnncompress.tasks.calling import ANSWERS


def training_graph(data: Data, pairs: NDArray) -> Data:
    """Return ``data`` with the edges between ``pairs`` [2, n] as its only ones, in both directions, sorted by source.

    Edges keep their fields (``edge_weight``, ``edge_attr``, ``edge_type``, ...). An edge that has none back gets one
    with the same fields. Parallel edges with fields are edges of their own, others count once. Fields of nodes but
    ``x`` are left out: they may have been computed from the edges that are held back.
    """
    nodes = int(data.num_nodes)
    source, target = data.edge_index
    trains = torch.isin(_keys(data.edge_index.sort(0).values, nodes), _keys(torch.from_numpy(pairs), nodes))
    forward = trains.nonzero().flatten()
    single = _single(data)
    backward = (trains & single).nonzero().flatten()
    index = torch.stack(
        [torch.cat([source[forward], target[backward]]), torch.cat([target[forward], source[backward]])]
    )
    fields = edge_fields(data)
    if not fields:
        return Data(x=data.x, edge_index=coalesce(index, num_nodes=nodes), num_nodes=nodes)
    order = torch.argsort(_keys(index, nodes), stable=True)
    rows = torch.cat([forward, backward])[order]
    kept = {name: data[name][rows] for name in fields}
    return Data(x=data.x, edge_index=index[:, order], num_nodes=nodes, **kept)


def edge_fields(data: Data) -> list[str]:
    """Return the names of the fields with a row for each edge that a model may see."""
    return sorted(
        name
        for name, value in data.to_dict().items()
        if "edge" in name
        and "index" not in name
        and name not in ANSWERS
        and isinstance(value, Tensor)
        and value.dim()
        and value.size(0) == data.num_edges
    )


def notes_of(data: Data) -> list[str]:
    """Say in what the training graph differs from the graph of ``data``, but for the edges held back."""
    single, loops = int(_single(data).sum()), int((data.edge_index[0] == data.edge_index[1]).sum())
    known = {"x", "edge_index", "edge_label_index", "num_nodes", *ANSWERS, *edge_fields(data)}
    others = sorted(
        name
        for name, value in data.to_dict().items()
        if isinstance(value, Tensor) and name not in known and not name.endswith("_mask")
    )
    notes = {
        f"{single:,} of {data.num_edges:,} edges have none back: links are predicted without direction, and messages "
        "pass both ways": single,
        f"{loops:,} of {data.num_edges:,} edges are self loops, which are no links, and are left out": loops,
        f"not given to the model, which may not see the edges held back: {', '.join(others)}": others,
    }
    return [note for note, holds in notes.items() if holds]


def _single(data: Data) -> Tensor:
    """Say of each edge [E] whether the graph has none from its target to its source."""
    nodes = int(data.num_nodes)
    return ~torch.isin(_keys(data.edge_index.flip(0), nodes), _keys(data.edge_index, nodes))


def _keys(edges: Tensor, nodes: int) -> Tensor:
    """Return a number [E] for each pair of nodes in ``edges`` [2, E]."""
    return edges[0].long() * nodes + edges[1]
