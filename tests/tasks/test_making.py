from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.utils import from_smiles

from gnncompress.datasets import load_dataset
from gnncompress.datasets.collated import Collated
from gnncompress.datasets.transforms import TRANSFORMS, edge_order, encode_features, standardized, unit_rows
from gnncompress.errors import DatasetError, TaskError, UsageError
from gnncompress.measurements import GRAPHS, LINKS, MULTILABEL, NODES
from gnncompress.models import build_model, find_model
from gnncompress.tasks.graph_classification import GraphClassification
from gnncompress.tasks.making import make_task
from gnncompress.tasks.node_classification import NodeClassification
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.splits import SplitSpec
from gnncompress.tasks.training import train

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
        (
            *(NODES, lambda: [ring(20, x=torch.ones(20))], RANDOM),
            r"features of shape \[20\]; needed are \[20, 1\]; make them a column with x.view\(-1, 1\)",
        ),
        (NODES, lambda: [ring(20, x=torch.ones(20, 3, 2))], RANDOM, r"shape \[20, 3, 2\]; needed are \[20, 1\]; mend"),
        (NODES, lambda: [ring(20, num_nodes=2**40)], RANDOM, r"\[20, 20\]; needed are \[1099511627776, 20\]"),
        (NODES, lambda: [ring(20, x=torch.ones(20, 2, dtype=torch.uint16))], RANDOM, r"x of uint16; use x.float\(\)"),
        (NODES, lambda: [ring(20, x=torch.full((20, 2), 1e300, dtype=torch.float64))], RANDOM, "infinite as float32"),
        (
            *(GRAPHS, lambda: [*many(), ring(4, y=torch.tensor([0]), x=torch.ones(4, 4, dtype=torch.long))], RANDOM),
            "graph 40 has features x of int64, graph 0 of float32; make all of one type",
        ),
        (NODES, lambda: [ring(20, y=torch.arange(19) % 2)], RANDOM, r"labels y have shape \[19\]; .* needs \[20\]"),
        (NODES, lambda: [ring(20, y=torch.tensor(1))], RANDOM, r"labels y have shape \[\]; .* needs \[20\]"),
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
            "graph 40 has no labels y",
        ),
        (MULTILABEL, lambda: many(y=None), RANDOM, "graph 0 has no labels y"),
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
    assert set(batch.x[:, 0].tolist()) <= {6.0, 7.0, 8.0}
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


@pytest.mark.parametrize("kind", ["random", "hgpsl"])
@pytest.mark.parametrize("task", [GRAPHS, MULTILABEL])
def test_too_few_graphs_to_hold_any_back_are_refused(task: str, kind: str) -> None:
    graphs = many(6) if task == GRAPHS else [ring(4, y=torch.tensor([[float(index % 2)]])) for index in range(6)]
    with pytest.raises(TaskError, match="6"):
        make_task(task, graphs, SplitSpec(kind, 0, 0.1, 0.1))


def test_too_few_nodes_to_hold_any_back_are_refused() -> None:
    with pytest.raises(TaskError, match="6"):
        make_task(NODES, [ring(6)], SplitSpec("random", 0, 0.1, 0.1))


@pytest.mark.parametrize(
    ("task", "graphs", "kind"),
    [(NODES, lambda: [ring(20)], "scaffold"), (GRAPHS, many, "public"), (LINKS, lambda: [ring(60)], "public")],
)
def test_kinds_of_split_that_the_task_does_not_have_are_not_random(
    task: str, graphs: Callable[[], list[Data]], kind: str
) -> None:
    with pytest.raises((TaskError, UsageError), match=kind):
        make_task(task, graphs(), SplitSpec(kind, 0, 0.2, 0.2))


def test_a_message_about_fields_does_not_blame_the_split() -> None:
    graphs = [*many(edge_attr=torch.ones(8, 2)), *many()]
    with pytest.raises(TaskError, match=r"^graph 40 has no edge_attr"):
        make_task(GRAPHS, graphs, RANDOM)


def test_masks_of_another_length_are_refused() -> None:
    masks = {f"{part}_mask": torch.arange(20) % 3 == number for number, part in enumerate(("train", "val", "test"))}
    for wrong in ({"val_mask": masks["val_mask"][:19]}, {name: mask[:19] for name, mask in masks.items()}):
        with pytest.raises(TaskError, match="mask"):
            make_task(NODES, [ring(20, **{**masks, **wrong})], SplitSpec("public", 0))


@pytest.mark.parametrize("name", ["train_mask", "val_mask", "test_mask", "labelled_mask"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mask: mask.long(), r"is int64 \[20\]; needed is bool \[20\]; use {}.bool\(\)"),
        (lambda mask: mask.to(torch.uint8), r"is uint8 \[20\]; needed is bool \[20\]; use {}.bool\(\)"),
        (lambda mask: mask * 0.5, r"is float32 \[20\]; needed is bool \[20\]; use {}.bool\(\)"),
        (lambda mask: mask.nonzero().flatten(), r"is int64 \[\d+\]; needed is bool \[20\]; say of each node"),
        (lambda mask: mask[:-1], r"is bool \[19\]; needed is bool \[20\]; say of each node"),
        (lambda mask: mask.repeat(2), r"is bool \[40\]; needed is bool \[20\]"),
        (lambda mask: mask[0], r"is bool \[\]; needed is bool \[20\]"),
        (lambda mask: mask[:, None][:, :0], r"is bool \[20, 0\]; needed is bool \[20\]"),
        (lambda mask: mask[:, None, None], r"is bool \[20, 1, 1\]; needed is bool \[20\]"),
    ],
)
def test_masks_of_another_type_or_shape_are_named(
    name: str, change: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    split = SplitSpec("public", 0)
    masks = {f"{part}_mask": torch.arange(20) % 3 == number for number, part in enumerate(("train", "val", "test"))}
    if name == "labelled_mask":
        masks, split = {name: torch.arange(20) < 18}, RANDOM
    make_task(NODES, [ring(20, **masks)], split)
    with pytest.raises(TaskError, match=f"^{name} {message.format(name)}") as caught:
        make_task(NODES, [ring(20, **{**masks, name: change(masks[name])})], split)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", [NODES, LINKS])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"edge_index": torch.ones(2, 5, dtype=torch.uint8)}, r"^the graph needs edge_index, .* takes for a mask"),
        ({"batch": torch.zeros(60, dtype=torch.long) + 2**30}, "^the graph has batch with graph numbers 1,073,741,824"),
        ({"edge_weight": torch.ones(120, 1)}, r"^the graph has edge_weight \[120, 1\]"),
    ],
)
def test_every_graph_is_checked_also_one_that_was_not_loaded_here(
    task: str, fields: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        make_task(task, [ring(60, **fields)], RANDOM)
    with pytest.raises(DatasetError, match=r"^graph 40 needs edge_index"):
        make_task(GRAPHS, [*many(), ring(4, edge_index=torch.ones(2, 5))], RANDOM)


def test_numbers_of_other_types_are_converted_with_a_line() -> None:
    edges = ring(20).edge_index
    for dtype in (torch.int32, torch.int16, torch.int8):
        task = make_task(NODES, [ring(20, edge_index=edges.to(dtype))], RANDOM)
        assert isinstance(task, NodeClassification)
        assert torch.equal(task.data.edge_index, edges)
        assert task.notes == (f"edge_index is {str(dtype)[6:]}; its node numbers are taken as int64",)
    note = (
        "x is int64, taken as categories: 2 columns became 5 of zeros and ones; if these are numbers, use --features "
        "raw or standard"
    )
    x = torch.stack([torch.arange(20) % 3, torch.arange(20) % 2 * 2**40], dim=1)
    assert make_task(NODES, [ring(20, x=x)], RANDOM).notes == (note,)
    assert make_task(NODES, [ring(20, x=x)], RANDOM, encoding="raw").notes == ()
    assert make_task(GRAPHS, molecules(), RANDOM, encoding="auto").notes[0].startswith("random split")
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        task = make_task(NODES, [ring(20, x=torch.eye(20, dtype=dtype))], RANDOM)
        assert isinstance(task, NodeClassification)
        assert torch.equal(task.data.x, torch.eye(20))
        assert task.notes == ()


def test_features_that_were_computed_can_be_trained_on_again() -> None:
    task = make_task(NODES, [ring(20, x=torch.eye(20) @ torch.ones(20, 2, requires_grad=True))], RANDOM)
    assert isinstance(task, NodeClassification)
    assert not task.data.x.requires_grad


def test_graphs_without_labels_are_told_so() -> None:
    with pytest.raises(TaskError, match=r"^graph 0 has (no|0) labels?\b(?!, graph 0)"):
        make_task(MULTILABEL, many(y=None), RANDOM)


def test_labels_of_several_columns_keep_missing_ones() -> None:
    graphs = [ring(4, y=torch.tensor([[float(index % 2), math.nan if index % 3 else 1.0]])) for index in range(60)]
    for index in range(0, 60, 6):
        graphs[index].y[0, 1] = 0
    task = make_task(MULTILABEL, graphs, RANDOM)
    assert task.outputs == 2
    (batch,) = task.batches(0)
    assert batch.y.shape == (36, 2)
    assert batch.y[:, 1].isnan().any()


def test_public_split_of_shared_test_mask() -> None:
    # As WikiCS: several training and validation masks, one test mask.
    base = torch.arange(30) % 3
    several = {
        "train_mask": torch.stack([base == 0, base == 1], dim=1),
        "val_mask": torch.stack([base == 1, base == 0], dim=1),
        "test_mask": base == 2,
    }
    tasks = [make_task(NODES, [ring(30, **several)], SplitSpec("public", seed)) for seed in range(3)]
    assert all(isinstance(task, NodeClassification) for task in tasks)
    first, second, third = (task.train_nodes.tolist() for task in tasks)  # type: ignore[attr-defined]
    assert first == third == (base == 0).nonzero().flatten().tolist()
    assert second == (base == 1).nonzero().flatten().tolist()
    assert all(task.test_nodes.tolist() == list(range(2, 30, 3)) for task in tasks)  # type: ignore[attr-defined]


def test_copies_of_a_molecule_stay_together() -> None:
    graphs = many(60)
    for index, each in enumerate(graphs):
        each.canonical, each.y = f"molecule {index // 4}", torch.tensor([index % 2])
        each.x = torch.full((4, 1), float(index // 4))
    task = make_task(GRAPHS, graphs, RANDOM)
    assert isinstance(task, GraphClassification)
    assert task.notes == ("random split: 45 graphs are copies of a molecule and stay on its side",)
    sides = [set((part // 4).tolist()) for part in (task._train, task._validation, task._test)]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 15
    assert [len(part) for part in (task._train, task._validation, task._test)] == [36, 12, 12]


def test_scaffold_split_by_the_molecules_scaffolds() -> None:
    graphs = molecules()
    task = make_task(GRAPHS, graphs, SplitSpec("scaffold", 0, 0.2, 0.2))
    assert isinstance(task, GraphClassification)
    sides = [
        {graphs[index].scaffold for index in part.tolist()} for part in (task._train, task._validation, task._test)
    ]
    assert sides[0] == {""}, "the most common scaffold trains"
    assert sides[1] | sides[2] == {"c1ccccc1", "C1CCCCC1"}
    assert not sides[1] & sides[2]
    again = make_task(GRAPHS, molecules(), SplitSpec("scaffold", 5, 0.2, 0.2))
    assert isinstance(again, GraphClassification)
    assert torch.equal(again._test, task._test)


def encoded_one_by_one(graphs: Sequence[Data], encoding: str) -> list[Data]:
    """Return copies with float features, graph by graph: what ``encode_features`` does, slowly."""
    made = [each.clone() for each in graphs]
    if graphs[0].x.is_floating_point() or encoding in ("raw", "standard"):
        for each in made:
            each.x = each.x.float()
        return made
    columns = graphs[0].x.size(1)
    values = [sorted({int(row[c]) for each in graphs for row in each.x}) for c in range(columns)]
    for each in made:
        coded = [[float(row[c] == value) for c in range(columns) for value in values[c]] for row in each.x]
        each.x = torch.tensor(coded).view(each.num_nodes, -1)
    return made


def task_one_by_one(graphs: Sequence[Data], made: GraphClassification, encoding: str, names: Sequence[str]) -> None:
    """Insist on batches equal to those PyG makes of graphs that were prepared one by one."""
    prepared = encoded_one_by_one(graphs, encoding)
    if encoding == "standard":
        rows = torch.cat([prepared[number].x for number in made._train.tolist()])
        mean, deviation = rows.mean(0), rows.std(0, correction=0)
        deviation[(rows == rows[0]).all(0)] = 1
        for each in prepared:
            each.x = (each.x - mean) / deviation
    for name in names:
        prepared = [TRANSFORMS[name](each) for each in prepared]
    for numbers, batches in ((made._validation, made._fixed["validation"]), (made._test, made._fixed["test"])):
        theirs = Batch.from_data_list([prepared[number] for number in numbers.tolist()])
        (ours,) = batches
        for key in ("x", "edge_index", "edge_attr", "edge_weight", "edge_order", "pos", "y", "batch", "ptr"):
            assert (key in ours) == (key in theirs), key
            if key in ours:
                expected = theirs[key].float() if key == "edge_weight" else theirs[key]
                assert torch.equal(ours[key].view_as(expected), expected), key


def random_graphs(kind: torch.dtype, labels: str) -> list[Data]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(90):
        nodes, edges = (int(torch.randint(low, 12, (), generator=generator)) for low in (1, 0))
        numbers = torch.randint(-2, 3, (nodes, 2), generator=generator)
        floats = torch.randn(nodes, 2, generator=generator, dtype=torch.float64)
        made.append(
            Data(
                x=(floats if kind.is_floating_point else numbers).to(kind),
                edge_index=torch.randint(0, nodes, (2, edges), generator=generator).int(),
                edge_weight=torch.rand(edges, generator=generator, dtype=torch.float64),
                pos=torch.randn(nodes, 3, generator=generator),
                y=torch.tensor(number % 3) if labels == "bare" else torch.tensor([[number % 3]]),
                name=str(number),
            )
        )
    return made


@pytest.mark.parametrize("encoding", ["auto", "raw", "standard"])
@pytest.mark.parametrize("kind", [torch.int16, torch.float64])
@pytest.mark.parametrize("names", [(), ("unit_rows", "target_indegree", "sparse_features", "edge_order")])
def test_batches_are_those_of_graphs_prepared_one_by_one(
    encoding: str, kind: torch.dtype, names: tuple[str, ...]
) -> None:
    for graphs in (random_graphs(kind, "bare"), random_graphs(kind, "matrix")):
        made = make_task(GRAPHS, graphs, RANDOM, encoding, names)
        assert isinstance(made, GraphClassification)
        task_one_by_one(graphs, made, encoding, [name for name in names if name != "sparse_features"])


@pytest.mark.parametrize("encoding", ["auto", "standard"])
def test_batches_of_real_graphs_are_those_of_graphs_prepared_one_by_one(encoding: str, data_root: Path) -> None:
    graphs = load_dataset("proteins", data_root).as_list()
    made = make_task(GRAPHS, graphs, SplitSpec("stratified-kfold", 3), encoding)
    assert isinstance(made, GraphClassification)
    task_one_by_one(graphs, made, encoding, ())


def test_no_object_is_made_for_each_of_many_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = Collated.of([ring(4, y=torch.tensor([[float(number % 2), 1.0 - number % 2]])) for number in range(300)])
    made: list[int] = []

    def graph(self: Collated, number: int) -> Data:
        made.append(number)
        return of_block(self, number)

    of_block = Collated._graph
    monkeypatch.setattr(Collated, "_graph", graph)
    make_task(MULTILABEL, graphs, RANDOM, "standard")
    assert len(made) < 30, "2 kB and 100 microseconds each"


def test_data_given_stay_as_they_were() -> None:
    graphs = molecules()
    before = [(graph.x.clone(), graph.y.clone()) for graph in graphs]
    make_task(GRAPHS, graphs, RANDOM, encoding="standard", transforms=("unit_rows", "target_indegree"))
    for each, (x, y) in zip(graphs, before, strict=True):
        assert torch.equal(each.x, x)
        assert torch.equal(each.y, y)
        assert each.edge_attr.size(1) == 3


@pytest.mark.parametrize("task", [NODES, LINKS, GRAPHS, MULTILABEL])
def test_tasks_only_read_their_data(task: str) -> None:
    one = task in (NODES, LINKS)
    graphs: Any = load_dataset("digits" if one else "digits-grid").as_list()
    if task == MULTILABEL:
        labels = torch.arange(len(graphs)).remainder(2).view(-1, 1).expand(-1, 2)
        graphs = [Data(**{**graph.to_dict(), "y": y.float()}) for graph, y in zip(graphs[:60], labels, strict=False)]
    given = list(graphs)
    state = [(value, value._version, value.clone()) for graph in given[:40] for value in graph.to_dict().values()]
    made = make_task(task, graphs, SplitSpec("random", 0, 0.2, 0.2), "standard", ("unit_rows", "target_indegree"))
    model = build_model("gcn", made.features, made.outputs, find_model("gcn").arguments(task))
    train(model, made, Recipe(epochs=1, learning_rate=0.01, weight_decay=0.0, patience=1), seed=0, phase="train")
    made.evaluate(model)
    made.predictions(model)
    made.inference(model)()
    made.example(model)
    for value, version, before in state:
        assert value._version == version
        assert torch.equal(value, before)


def test_truth_values_as_features() -> None:
    task = make_task(NODES, [ring(20, x=torch.arange(40).view(20, 2) % 3 == 0)], RANDOM)
    assert isinstance(task, NodeClassification)
    assert task.data.x.is_floating_point()


def test_molecules_are_coded_by_pygs_categories() -> None:
    from torch_geometric.utils.smiles import x_map

    (methane, water) = (from_smiles(smiles) for smiles in ("C", "O"))
    coded = encode_features([methane, water], "one-hot")
    sizes = [len(values) for values in x_map.values()]
    for one, got in ((methane, coded[0]), (water, coded[1])):
        parts = got.x.split(sizes, dim=1)
        assert [part.argmax(1).tolist() for part in parts] == one.x.t().tolist()
        assert got.x.sum() == 9
    assert coded[0].x.size(1) == sum(sizes)


@given(seed=st.integers(0, 200), columns=st.integers(1, 4))
def test_one_hot_by_a_slow_version(seed: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    graphs = [Data(x=torch.randint(-3, 4, (nodes, columns), generator=generator) * 5) for nodes in (3, 1, 5)]
    values = [sorted({int(row[c]) for each in graphs for row in each.x}) for c in range(columns)]
    for each, coded in zip(graphs, encode_features(graphs, "auto"), strict=True):
        expected = [[float(row[c] == value) for c in range(columns) for value in values[c]] for row in each.x]
        assert coded.x.tolist() == expected


@pytest.mark.parametrize(("constant", "rows"), [(0.0, 100), (1.0, 1797), (0.1, 100), (0.7, 7), (10000.1, 890)])
def test_a_constant_column_is_only_centred(constant: float, rows: int) -> None:
    x = torch.full((rows, 1), constant)
    (got,) = standardized([Data(x=torch.cat([x, x + 1]))], x)
    # Rounding may leave a deviation of 1e-8: what it divided, such as another value in a test item, would explode.
    torch.testing.assert_close(got.x[:rows], torch.zeros(rows, 1), atol=1e-2, rtol=0)
    torch.testing.assert_close(got.x[rows:], torch.ones(rows, 1), atol=1e-2, rtol=0)


def test_unit_rows_by_hand() -> None:
    x = torch.tensor([[1.0, 3.0], [0.0, 0.0], [2.0, 0.0]])
    data = Data(x=x.clone())
    assert unit_rows(data).x.tolist() == [[0.25, 0.75], [0, 0], [1, 0]]
    assert torch.equal(data.x, x)


def test_unit_rows_of_negative_features_stay_small() -> None:
    # Standardized features have rows that sum to less than nothing, or to nothing.
    x = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [3.0, -1.0], [-3.0, 1.0]])
    assert unit_rows(Data(x=x)).x.abs().max() < 10


@given(seed=st.integers(0, 200), nodes=st.integers(1, 12), edges=st.integers(0, 30))
def test_edge_order_numbers_undirected_edges(seed: int, nodes: int, edges: int) -> None:
    once = torch.randint(0, nodes, (2, edges), generator=torch.Generator().manual_seed(seed))
    data = Data(x=torch.ones(nodes, 1), edge_index=torch.cat([once, once.flip(0)], dim=1))
    order = edge_order(data).edge_order.tolist()
    assert "edge_order" not in data
    assert order == edge_order(data).edge_order.tolist()
    numbers: dict[tuple[int, int], set[int]] = {}
    for (i, j), number in zip(data.edge_index.t().tolist(), order, strict=True):
        numbers.setdefault((min(i, j), max(i, j)), set()).add(number)
    assert all(len(found) == 1 for found in numbers.values())
    assert sorted(number for found in numbers.values() for number in found) == list(range(len(numbers)))
