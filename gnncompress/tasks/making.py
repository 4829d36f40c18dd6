"""From graphs and a split's description to a task: everything is checked here, before any training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch_geometric.data import Data

from gnncompress.datasets.checking import INTEGERS, NODE_NUMBERS, check_graphs, name_of, standard_types
from gnncompress.datasets.collated import Collated, chosen_rows, counts_of, each, field_of, with_field, with_rows
from gnncompress.datasets.transforms import ONE_GRAPH_ONLY, TRANSFORMS, encode_features, standardized
from gnncompress.errors import TaskError, UsageError
from gnncompress.measurements import GRAPHS, LINKS, MULTILABEL, NODES
from gnncompress.registry import unknown
from gnncompress.tasks.base import Task
from gnncompress.tasks.graph_classification import GraphClassification, MultilabelGraphClassification
from gnncompress.tasks.labels import class_numbers
from gnncompress.tasks.link_prediction import LinkPrediction
from gnncompress.tasks.links import link_split, undirected_pairs
from gnncompress.tasks.node_classification import NodeClassification
from gnncompress.tasks.splits import (
    SPLITS,
    Split,
    SplitSpec,
    count,
    grouped_split,
    hgpsl_split,
    random_split,
    scaffold_split,
    stratified_kfold,
)
from gnncompress.tasks.training_graph import notes_of, training_graph

Transforms = Sequence[str]


def make_task(
    name: str,
    graphs: Sequence[Data],
    split: SplitSpec,
    encoding: str = "auto",
    transforms: Transforms = (),
    device: str = "cpu",
) -> Task:
    """Return the task ``name`` on ``graphs``, split as asked, its data as ``transforms`` (by name) make it.

    Raises:
        UsageError: if no task has that name.
        DatasetError: if a graph cannot be computed with (``datasets.checking.check_graph``).
        TaskError: if the graphs are not of the task's kind, or lack what it or the split needs.
    """
    if name not in _MAKERS:
        raise UsageError(unknown("task", name, _MAKERS))
    one = name in (NODES, LINKS)
    if one and len(graphs) != 1:
        raise TaskError(f"{name} needs one graph, this data set has {len(graphs):,}; use --task {GRAPHS}")
    if not one and len(graphs) == 1:
        raise TaskError(f"{name} needs many graphs, this data set is one; use --task {NODES} or {LINKS}")
    if split.kind not in SPLITS[name]:
        raise TaskError(_unfit(name, graphs, split.kind))
    if not one:
        graphs = Collated.of(graphs)
    check_graphs(lambda number: "the graph" if one else f"graph {number}", graphs)
    encoded = encode_features(standard_types(graphs), encoding)
    try:
        task = _MAKERS[name](encoded, split, encoding == "standard", transforms, device)
    except ValueError as error:
        raise TaskError(str(error)) from error
    task.notes = (*_conversions(graphs[0], encoded[0], encoding), *_notes(encoded), *task.notes)
    return task


def _unfit(name: str, graphs: Sequence[Data], kind: str) -> str:
    """Say why a task cannot be split in a way."""
    if name == MULTILABEL and kind == "stratified-kfold":
        return "stratified-kfold needs one class a graph; use --split random or scaffold"
    return f"--split {kind}: {name} has {', '.join(SPLITS[name])}"


@contextmanager
def _splitting(split: SplitSpec) -> Iterator[None]:
    """Say of what a split refuses that it is the split that does."""
    try:
        yield
    except ValueError as error:
        raise TaskError(f"{split.kind} split: {error}") from error


def _whole(parts: Split, items: int, what: str) -> Split:
    """Insist on a split that holds something back on both sides."""
    if not parts.validation or not parts.test:
        raise TaskError(f"{items} {what}s are too few to hold back a part for validation and one for test")
    return parts


def _nodes(graphs: Sequence[Data], split: SplitSpec, standard: bool, transforms: Transforms, device: str) -> Task:
    nodes = int(graphs[0].num_nodes)
    data = with_field(graphs[0], "y", class_numbers(graphs[0].y, nodes, "node"))
    with _splitting(split):
        parts = _public(data, split.seed) if split.kind == "public" else _drawn(data, split)
    parts = _whole(parts, nodes, "node")
    if standard:
        (data,) = standardized([data], data.x[list(parts.train)])
    return NodeClassification(_transformed(data, transforms), parts, device)


def _drawn(data: Data, split: SplitSpec) -> Split:
    """Draw from the nodes that have a label: all of them, unless the data's ``labelled_mask`` [N] leaves some out."""
    nodes = (
        _mask(data, "labelled_mask").nonzero().flatten() if "labelled_mask" in data else torch.arange(data.num_nodes)
    )
    items = nodes.numel()
    if split.kind == "stratified-kfold":
        parts = stratified_kfold(data.y[nodes].numpy(), split.seed)
    else:
        parts = random_split(items, count(items, split.validation), count(items, split.test), split.seed)
    return Split(*(tuple(nodes[list(part)].tolist()) for part in (parts.train, parts.validation, parts.test)))


def _links(graphs: Sequence[Data], split: SplitSpec, standard: bool, transforms: Transforms, device: str) -> Task:
    data = standardized(graphs, graphs[0].x)[0] if standard else graphs[0]
    edges = data.edge_index.numpy()
    links = undirected_pairs(edges).shape[1]
    if links == 0:
        raise TaskError("the graph has no edges; there are no links to predict")
    validation, test = count(links, split.validation), count(links, split.test)
    if not validation or not test:
        raise TaskError(f"{links} edges are too few to hold back {split.validation:g} and {split.test:g} of them")
    nodes = int(data.num_nodes)
    with _splitting(split):
        parts = link_split(nodes, edges, validation, test, split.seed)
    training = parts.train.shape[1]
    others = nodes * (nodes - 1) // 2 - training
    if training > others:
        raise TaskError(
            f"the graph is too dense: {training} pairs without an edge are wanted an epoch, it has {others}"
        )
    task = LinkPrediction(_transformed(training_graph(data, parts.train), transforms), parts, device)
    return _with_notes(task, notes_of(data))


def _graphs(graphs: Sequence[Data], split: SplitSpec, standard: bool, transforms: Transforms, device: str) -> Task:
    labels = class_numbers(_one_label(graphs), len(graphs), "graph")
    parts, notes = _split_graphs(graphs, split, labels)
    graphs = _labelled(_prepared(graphs, parts, standard, transforms), labels)
    return _with_notes(GraphClassification(graphs, parts, device), notes)


def _multilabel(graphs: Sequence[Data], split: SplitSpec, standard: bool, transforms: Transforms, device: str) -> Task:
    labels = _several_labels(graphs)
    parts, notes = _split_graphs(graphs, split, None)
    graphs = _labelled(_prepared(graphs, parts, standard, transforms), labels)
    return _with_notes(MultilabelGraphClassification(graphs, parts, device), notes)


_MAKERS: Mapping[str, Callable[[Sequence[Data], SplitSpec, bool, Transforms, str], Task]] = {
    NODES: _nodes,
    LINKS: _links,
    GRAPHS: _graphs,
    MULTILABEL: _multilabel,
}


def _one_label(graphs: Sequence[Data]) -> Tensor:
    """Return the label of each graph: [G]."""
    labels = _matrix(graphs)
    if labels is not None and labels.size(1) == 1:
        return labels.flatten()
    for number, graph in enumerate(graphs):
        if graph.y is None:
            raise TaskError(f"graph {number} has no label y; {GRAPHS} needs one class number a graph")
        if graph.y.numel() != 1:
            raise TaskError(
                f"graph {number} has {graph.y.numel()} labels; {GRAPHS} needs one a graph, use --task {MULTILABEL}"
            )
    return torch.stack([graph.y.flatten()[0] for graph in graphs])


def _several_labels(graphs: Sequence[Data]) -> Tensor:
    """Return the labels of each graph, 0, 1 or NaN: [G, T] float32."""
    labels = _matrix(graphs)
    if labels is not None and labels.size(1) and _binary(labels):
        return labels.float()
    width = 0 if graphs[0].y is None else graphs[0].y.numel()
    for number, graph in enumerate(graphs):
        y = graph.y
        if y is None or not y.numel():
            raise TaskError(f"graph {number} has no labels y; {MULTILABEL} needs the same number of each graph")
        if y.numel() != width:
            raise TaskError(f"graph {number} has {y.numel()} labels, graph 0 has {width}")
        if not _binary(y):
            raise TaskError(f"graph {number} has labels other than 0, 1 and missing; {MULTILABEL} takes no others")
    return torch.stack([graph.y.flatten().float() for graph in graphs])


def _binary(labels: Tensor) -> bool:
    known = labels[~labels.isnan()] if labels.is_floating_point() else labels
    return bool(((known == 0) | (known == 1)).all())


def _matrix(graphs: Sequence[Data]) -> Tensor | None:
    """Return the labels of graphs in one block as [G, T]; none where one has others than the first."""
    y = field_of(graphs, "y")
    if y is None or (counts := y.counts()).unique().numel() != 1:
        return None
    return y.values.reshape(counts.numel(), -1) if y.values.numel() else y.values.new_empty(counts.numel(), 0)


def _split_graphs(graphs: Sequence[Data], split: SplitSpec, labels: Tensor | None) -> tuple[Split, list[str]]:
    with _splitting(split):
        parts = _whole(_graph_parts(graphs, split, labels), len(graphs), "graph")
    return parts, _copies(graphs, split.kind, parts)


def _graph_parts(graphs: Sequence[Data], split: SplitSpec, labels: Tensor | None) -> Split:
    items = len(graphs)
    validation, test = count(items, split.validation), count(items, split.test)
    if split.kind == "hgpsl":
        return hgpsl_split(items, split.seed)
    if split.kind == "stratified-kfold":
        assert labels is not None  # the task with several labels has no folds
        return stratified_kfold(labels.numpy(), split.seed)
    if split.kind == "scaffold":
        if "scaffold" not in graphs[0]:
            raise TaskError("the scaffold split is for molecules read from SMILES; use --split random")
        return scaffold_split(each(graphs, "scaffold"), validation, test)
    if "canonical" in graphs[0]:
        return grouped_split(each(graphs, "canonical"), validation, test, split.seed)
    return random_split(items, validation, test, split.seed)


def _copies(graphs: Sequence[Data], kind: str, parts: Split) -> list[str]:
    """Say what the split does with molecules that occur more than once."""
    if "canonical" not in graphs[0]:
        return []
    molecules = each(graphs, "canonical")
    again = len(molecules) - len(set(molecules))
    if kind == "random":
        return [f"random split: {again} graphs are copies of a molecule and stay on its side"] if again else []
    seen = {molecules[item] for item in (*parts.train, *parts.validation)}
    leaked = sum(molecules[item] in seen for item in parts.test)
    return [f"{kind} split: {leaked} of {len(parts.test)} test graphs have a copy on another side"] if leaked else []


def _public(data: Data, seed: int) -> Split:
    names = [f"{part}_mask" for part in ("train", "val", "test")]
    if any(data.get(name) is None for name in names):
        raise TaskError("this data set has no public split (train_mask, val_mask, test_mask); use --split random")
    masks = [_mask(data, name) for name in names]
    columns = [mask[:, seed % mask.size(1)] if mask.dim() == 2 else mask for mask in masks]
    if int(torch.stack(columns).sum(0).max()) > 1:
        raise TaskError("the public split has a node on two sides; mend train_mask, val_mask and test_mask")
    parts = [tuple(mask.nonzero().flatten().tolist()) for mask in columns]
    if not all(parts):
        raise TaskError("the public split has an empty side; mend train_mask, val_mask and test_mask")
    return Split(*parts)


def _mask(data: Data, name: str) -> Tensor:
    """Return a mask [N], or one of a split's [N, K]."""
    mask, nodes = data[name], int(data.num_nodes)
    several = mask.dim() == 2 and mask.size(1) > 0 and name != "labelled_mask"
    fits = mask.dim() > 0 and mask.size(0) == nodes and (mask.dim() == 1 or several)
    if not fits or mask.dtype != torch.bool:
        advice = f"use {name}.bool()" if fits else "say of each node whether it belongs"
        raise TaskError(f"{name} is {name_of(mask.dtype)} {list(mask.shape)}; needed is bool [{nodes}]; {advice}")
    return mask


def _prepared(graphs: Sequence[Data], split: Split, standard: bool, transforms: Transforms) -> Sequence[Data]:
    if standard:
        graphs = standardized(graphs, chosen_rows(graphs, "x", split.train))
    wanted = [name for name in transforms if name not in ONE_GRAPH_ONLY]
    return Collated.of([_transformed(graph, wanted) for graph in graphs]) if wanted else graphs


def _transformed(data: Data, transforms: Transforms) -> Data:
    for transform in transforms:
        data = TRANSFORMS[transform](data)
    return data


def _labelled(graphs: Sequence[Data], labels: Tensor) -> Sequence[Data]:
    """Return graphs with these labels, a row each: [G] or [G, T]."""
    return with_rows(graphs, "y", labels, torch.ones(len(labels), dtype=torch.long))


def _with_notes(task: Task, notes: Sequence[str]) -> Task:
    task.notes = tuple(notes)
    return task


def _conversions(given: Data, encoded: Data, encoding: str) -> list[str]:
    """Say what the data's types of numbers were taken for, where that was not asked for and may be meant otherwise."""
    notes = []
    if given.edge_index.dtype in NODE_NUMBERS[1:]:
        notes.append(f"edge_index is {name_of(given.edge_index.dtype)}; its node numbers are taken as int64")
    if encoding == "auto" and given.x.dtype in INTEGERS and "smiles" not in given:
        columns = f"{given.x.size(1):,} column{'s' * (given.x.size(1) > 1)}"
        notes.append(
            f"x is {name_of(given.x.dtype)}, taken as categories: {columns} became {encoded.x.size(1):,} of zeros and "
            "ones; if these are numbers, use --features raw or standard"
        )
    return notes


def _notes(graphs: Sequence[Data]) -> list[str]:
    if len(graphs) > 1:
        empty = int((counts_of(graphs, "edge_index") == 0).sum())
        return [f"{empty:,} of {len(graphs):,} graphs have no edges"] if empty else []
    nodes = int(graphs[0].num_nodes)
    touched = graphs[0].edge_index.unique().numel()
    return [f"{nodes - touched:,} of {nodes:,} nodes have no edges"] if touched < nodes else []
