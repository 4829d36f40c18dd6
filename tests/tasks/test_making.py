from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import from_smiles

from gnncompress.errors import TaskError, UsageError
from gnncompress.measurements import GRAPHS, LINKS, MULTILABEL, NODES
from gnncompress.tasks.graph_classification import GraphClassification
from gnncompress.tasks.making import make_task
from gnncompress.tasks.node_classification import NodeClassification
from gnncompress.tasks.splits import SplitSpec

RANDOM = SplitSpec("random", 0, 0.2, 0.2)


def ring(nodes: int, **fields: object) -> Data:
    source = torch.arange(nodes)
    edges = torch.stack([torch.cat([source, source.roll(1)]), torch.cat([source.roll(1), source])])
    return Data(**{"x": torch.eye(nodes), "edge_index": edges, "y": source % 2, **fields})


def many(count: int = 40, **fields: object) -> list[Data]:
    return [ring(4, **{"y": torch.tensor([index % 2]), **fields}) for index in range(count)]


def molecules() -> list[Data]:
    made = []
    for index, smiles in enumerate(["CCO", "c1ccccc1", "CCN", "C1CCCCC1", "CCO"] * 8):
        molecule = from_smiles(smiles)
        molecule.y = torch.tensor([[float(index % 2)]])
        molecule.canonical, molecule.scaffold = smiles, smiles if "1" in smiles else ""
        made.append(molecule)
    return made


@pytest.mark.parametrize(
    ("task", "graphs", "split", "message"),
    [
        (
            NODES,
            many,
            RANDOM,
            "node-classification needs one graph, this data set has 40; use --task graph-classification",
        ),
        (LINKS, many, RANDOM, "link-prediction needs one graph, this data set has 40"),
        (GRAPHS, lambda: [ring(20)], RANDOM, "graph-classification needs many graphs, this data set is one"),
        (NODES, lambda: [ring(20)], SplitSpec("public", 0), "this data set has no public split"),
        (NODES, lambda: [ring(20, x=None)], RANDOM, "the graph has no node features x; set them when loading"),
        (NODES, lambda: [ring(20, x=torch.ones(20))], RANDOM, r"features of shape \[20\]; needed are \[20, 1\]"),
        (NODES, lambda: [ring(20, x=torch.full((20, 2), math.nan))], RANDOM, "features that are NaN or infinite"),
        (NODES, lambda: [ring(20)], SplitSpec("random", 0, 12, 8), "12 validation and 8 test items leave none of 20"),
        (GRAPHS, lambda: [*many(), ring(5, y=torch.tensor([0]))], RANDOM, r"graph 40 has features of shape \[5, 5\]"),
        (GRAPHS, lambda: many(y=None), RANDOM, "graph 0 has no label y"),
        (GRAPHS, lambda: many(y=torch.ones(1, 3)), RANDOM, "3 labels; .* use --task multilabel-graph-classification"),
        (GRAPHS, lambda: many(y=torch.tensor([0.3])), RANDOM, "labels y are real numbers"),
        (GRAPHS, many, SplitSpec("scaffold", 0), "the scaffold split is for molecules"),
        (MULTILABEL, lambda: many(y=torch.tensor([[0.0, 2.0]])), RANDOM, "graph 0 has labels other than 0, 1"),
        (
            MULTILABEL,
            lambda: [*many(y=torch.ones(1, 2)), *many(y=None)],
            RANDOM,
            "graph 40 has 0 labels, graph 0 has 2",
        ),
        (MULTILABEL, lambda: many(y=None), RANDOM, "graph 0 has 0 labels"),
        (MULTILABEL, lambda: many(y=torch.ones(1, 2)), SplitSpec("stratified-kfold", 0), "needs one class a graph"),
    ],
)
def test_what_cannot_be_is_refused(task: str, graphs: Callable[[], list[Data]], split: SplitSpec, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        make_task(task, graphs(), split)


def test_unknown_task() -> None:
    with pytest.raises(UsageError, match=r"unknown task 'graph-clasification'; did you mean graph-classification"):
        make_task("graph-clasification", many(), RANDOM)


def test_public_split_takes_the_masks() -> None:
    masks = {f"{part}_mask": torch.arange(20) % 3 == number for number, part in enumerate(("train", "val", "test"))}
    task = make_task(NODES, [ring(20, **masks)], SplitSpec("public", 0))
    assert isinstance(task, NodeClassification)
    assert task.validation_nodes.tolist() == list(range(1, 20, 3))
    # Several public splits side by side: the seed says which.
    several = {name: torch.stack([mask, mask.roll(1)], dim=1) for name, mask in masks.items()}
    second = make_task(NODES, [ring(20, **several)], SplitSpec("public", 3))
    assert isinstance(second, NodeClassification)
    assert second.validation_nodes.tolist() == (masks["val_mask"].roll(1)).nonzero().flatten().tolist()
    with pytest.raises(TaskError, match="the public split has a node on two sides"):
        make_task(NODES, [ring(20, **{**masks, "val_mask": masks["train_mask"]})], SplitSpec("public", 0))
    with pytest.raises(TaskError, match="the public split has an empty side"):
        make_task(NODES, [ring(20, **{**masks, "val_mask": torch.zeros(20, dtype=torch.bool)})], SplitSpec("public", 0))


def test_molecules_labels_encodings_and_copies() -> None:
    task = make_task(GRAPHS, molecules(), RANDOM)
    assert isinstance(task, GraphClassification)
    assert task.outputs == 2
    assert task.labels.tolist() == [index % 2 for index in range(40)]
    # One column a category of PyG's nine atom features.
    assert task.features == 119 + 9 + 11 + 12 + 9 + 5 + 8 + 2 + 2
    (batch,) = task.batches(0)
    assert (batch.x.sum(1) == 9).all()
    assert task.notes == ("random split: 36 graphs are copies of a molecule and stay on its side",)
    raw = make_task(GRAPHS, molecules(), RANDOM, encoding="raw")
    assert raw.features == 9
    (batch,) = raw.batches(0)
    assert batch.x.dtype == torch.float32
    assert {6.0} < set(batch.x[:, 0].tolist()) <= {6.0, 7.0, 8.0}
    scaffold = make_task(GRAPHS, molecules(), SplitSpec("scaffold", 0))
    assert scaffold.notes == ()


def test_other_integers_are_coded_by_what_occurs() -> None:
    graphs = many(x=torch.tensor([[3, 0], [7, 0], [3, 1], [9, 0]]))
    task = make_task(GRAPHS, graphs, RANDOM)
    assert task.features == 3 + 2
    (batch,) = task.batches(0)
    assert batch.x[:4].tolist() == [[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1], [0, 0, 1, 1, 0]]
    with pytest.raises(TaskError, match="--features one-hot: the features are real numbers"):
        make_task(GRAPHS, many(), RANDOM, encoding="one-hot")


def test_standardized_by_the_training_items_only() -> None:
    graphs = many(100)
    for number, graph in enumerate(graphs):
        graph.x = torch.tensor([[float(number), 5.0]] * 4)
    task = make_task(GRAPHS, graphs, RANDOM, encoding="standard")
    (batch,) = task.batches(0)
    torch.testing.assert_close(batch.x.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(batch.x.std(0, correction=0), torch.tensor([1.0, 0.0]))


def test_notes_on_isolated_nodes_and_empty_graphs() -> None:
    lonely = ring(20, edge_index=torch.tensor([[0, 1], [1, 0]]))
    assert make_task(NODES, [lonely], RANDOM).notes == ("18 of 20 nodes have no edges",)
    bare = ring(4, y=torch.tensor([0]), edge_index=torch.empty(2, 0, dtype=torch.long))
    assert make_task(GRAPHS, [*many(), bare], RANDOM).notes == ("1 of 41 graphs have no edges",)
    assert make_task(NODES, [ring(20)], RANDOM).notes == ()
