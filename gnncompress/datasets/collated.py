"""Many graphs in one block of memory: a tensor for each field, cut where a graph ends.

A ``Data`` object takes 2 kB and some microseconds, however small its graph is. Of a hundred thousand graphs the
objects would be larger than what is in them, and every check and transform a loop over them. Here a check is one
operation on a field, and an object is made when somebody asks for a graph.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor
from torch_geometric.data import Data

# What a graph has in a field that only others have.
ABSENT = object()


@dataclass(frozen=True)
class Field:
    """One field of all graphs: their rows one after the other along ``dim``, and where each graph's begin.

    Shapes: ``bounds`` [G + 1]. ``bare`` says that each graph has a tensor without dimensions, [G] of them.
    """

    values: Tensor
    bounds: Tensor
    dim: int = 0
    bare: bool = False

    def counts(self) -> Tensor:
        """Return how many rows each graph has: [G]."""
        return self.bounds.diff()

    def of(self, graph: int) -> Tensor:
        """Return the rows of a graph; they share this field's memory."""
        if self.bare:
            return self.values[graph]
        first, last = int(self.bounds[graph]), int(self.bounds[graph + 1])
        return self.values.narrow(self.dim, first, last - first)


class Collated(Sequence[Data]):
    """Graphs as a sequence of ``Data``, each made when it is asked for, its tensors parts of those of all graphs.

    ``columns`` holds each field: a ``Field`` where all graphs have a tensor of one type and one shape, the number of
    rows apart; else what each graph has, ``ABSENT`` where one has nothing. ``nodes`` [G] is the number of nodes of
    each graph, -1 where it does not say. Nothing here is changed in place.
    """

    def __init__(self, columns: Mapping[str, Field | Sequence[Any]], nodes: Tensor) -> None:
        self.columns = dict(columns)
        self.nodes = nodes

    @classmethod
    def of(cls, graphs: Sequence[Data]) -> Collated:
        """Return ``graphs`` in one block; those that are in one already as they are."""
        if isinstance(graphs, Collated):
            return graphs
        fields = [graph.to_dict() for graph in graphs]
        names = dict.fromkeys(name for each in fields for name in each)
        columns = {name: column(name, [each.get(name, ABSENT) for each in fields]) for name in names}
        return cls(columns, torch.tensor([_nodes(graph) for graph in graphs]))

    def __len__(self) -> int:
        return self.nodes.numel()

    @overload
    def __getitem__(self, index: int) -> Data: ...

    @overload
    def __getitem__(self, index: slice) -> list[Data]: ...

    def __getitem__(self, index: int | slice) -> Data | list[Data]:
        numbers = range(len(self))[index]
        return self._graph(numbers) if isinstance(numbers, int) else [self._graph(number) for number in numbers]

    def __iter__(self) -> Iterator[Data]:
        return map(self._graph, range(len(self)))

    def _graph(self, number: int) -> Data:
        parts = {
            name: column.of(number) if isinstance(column, Field) else column[number]
            for name, column in self.columns.items()
        }
        return Data(**{name: part for name, part in parts.items() if part is not ABSENT})

    def version(self) -> tuple[int, ...]:
        """Return what changes when somebody writes into a field or a part of one: torch counts it for all alike."""
        return tuple(column.values._version for column in self.columns.values() if isinstance(column, Field))

    def replaced(self, name: str, column: Field | Sequence[Any]) -> Collated:
        """Return the same graphs with another field, the others shared."""
        return Collated({**self.columns, name: column}, self.nodes)


def bounds_of(counts: Tensor) -> Tensor:
    """Return where each graph's rows begin, and where the last ones end: [G + 1] from ``counts`` [G]."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def field_of(graphs: Sequence[Data], name: str) -> Field | None:
    """Return a field that all graphs of one block have in one form; nothing for others."""
    column = graphs.columns.get(name) if isinstance(graphs, Collated) else None
    return column if isinstance(column, Field) else None


def each(graphs: Sequence[Data], name: str) -> Sequence[Any]:
    """Return what each graph has in a field, ``ABSENT`` where it has nothing."""
    if not isinstance(graphs, Collated):
        return [graph.get(name, ABSENT) for graph in graphs]
    column = graphs.columns.get(name)
    if isinstance(column, Field):
        return [column.of(number) for number in range(len(graphs))]
    return [ABSENT] * len(graphs) if column is None else column


def together(graphs: Sequence[Data], name: str) -> Tensor:
    """Return all graphs' rows of a field that each has, one after the other."""
    if (field := field_of(graphs, name)) is not None:
        return field.values
    parts = each(graphs, name)
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts), _dim(name, parts[0]))


def chosen_rows(graphs: Sequence[Data], name: str, numbers: Sequence[int]) -> Tensor:
    """Return the rows of a field that the graphs with these ascending ``numbers`` have, one after the other."""
    if (field := field_of(graphs, name)) is None:
        return torch.cat([graphs[number][name] for number in numbers])
    chosen = torch.zeros(len(graphs), dtype=torch.bool)
    chosen[list(numbers)] = True
    return field.values[torch.repeat_interleave(chosen, field.counts())]


def counts_of(graphs: Sequence[Data], name: str) -> Tensor:
    """Return how many rows of a field that each has every graph has: [G]."""
    if (field := field_of(graphs, name)) is not None:
        return field.counts()
    return torch.tensor([part.size(_dim(name, part)) for part in each(graphs, name)])


def with_rows(graphs: Sequence[Data], name: str, values: Tensor, counts: Tensor) -> Sequence[Data]:
    """Return the graphs with other ``values`` in a field, ``counts`` [G] rows to each; those given stay as they are."""
    if isinstance(graphs, Collated):
        return graphs.replaced(name, Field(values, bounds_of(counts)))
    parts = values.split(counts.tolist())
    return [with_field(graph, name, part) for graph, part in zip(graphs, parts, strict=True)]


def with_field(graph: Data, name: str, value: Tensor) -> Data:
    """Return a graph with another value in a field; all else is shared with the one given, which stays as it is."""
    graph = copy.copy(graph)
    graph[name] = value
    return graph


def _nodes(graph: Data) -> int:
    """Return a graph's number of nodes, -1 where what it has is none or PyG cannot tell: a check has the words."""
    try:
        given = graph.num_nodes
        number = int(given)
    except (TypeError, ValueError, OverflowError, IndexError):
        return -1
    return number if number == given and -1 <= number < 2**63 else -1


def _dim(name: str, value: Tensor) -> int:
    """Return the dimension of a field's rows: as in PyG the last one of node numbers [2, E], the first of others."""
    return value.dim() - 1 if value.dim() and ("index" in name or name == "face") else 0


def column(name: str, values: list[Any]) -> Field | list[Any]:
    """Return what each graph has in a field as one ``Field``, or as it is where that cannot be."""
    first = values[0]
    # A class of its own may keep more than its numbers.
    if type(first) is not Tensor or first.layout != torch.strided or first.is_meta:
        return values
    dim = _dim(name, first)
    kind = (first.dtype, first.device, first.dim())
    rest = (*first.shape[:dim], *first.shape[dim + 1 :])
    for value in values:
        if type(value) is not Tensor or value.layout != torch.strided:
            return values
        if (value.dtype, value.device, value.dim()) != kind:
            return values
        if (*value.shape[:dim], *value.shape[dim + 1 :]) != rest:
            return values
    if not first.dim():
        return Field(torch.stack(values), torch.arange(len(values) + 1), bare=True)
    return Field(torch.cat(values, dim), bounds_of(torch.tensor([value.size(dim) for value in values])), dim)
