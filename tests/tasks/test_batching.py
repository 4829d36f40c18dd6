from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch, Data

from gnncompress.tasks.batching import GraphBlock


def random_graph(nodes: int, edges: int, generator: torch.Generator) -> Data:
    return Data(
        x=torch.randn(nodes, 3, generator=generator),
        edge_index=torch.randint(0, nodes, (2, edges), generator=generator),
        edge_attr=torch.randn(edges, 2, generator=generator),
        pos=torch.randn(nodes, 2, generator=generator),
        y=torch.randint(0, 5, (1,), generator=generator),
        smiles="C" * nodes,
    )


@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 9)), min_size=1, max_size=8),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_batches_are_those_of_pyg(sizes: list[tuple[int, int]], seed: int, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    graphs = [random_graph(*size, generator) for size in sizes]
    chosen = data.draw(st.lists(st.integers(0, len(graphs) - 1), min_size=1, max_size=6))
    ours = GraphBlock(graphs).batch(torch.tensor(chosen))
    theirs = Batch.from_data_list([graphs[index] for index in chosen])
    for key in ("x", "edge_index", "edge_attr", "pos", "y", "batch", "ptr"):
        assert ours[key].dtype == theirs[key].dtype, key
        assert torch.equal(ours[key], theirs[key]), key
    assert (ours.num_graphs, ours.num_nodes) == (theirs.num_graphs, theirs.num_nodes)
    for index, graph in zip(chosen, GraphBlock(graphs).graphs(torch.tensor(chosen)), strict=True):
        assert graph.num_nodes == graphs[index].num_nodes
        assert sorted(graph.keys()) == ["edge_attr", "edge_index", "num_nodes", "pos", "x", "y"]
        for key in ("x", "edge_index", "edge_attr", "pos", "y"):
            assert graph[key].dtype == graphs[index][key].dtype
            assert torch.equal(graph[key], graphs[index][key]), key


def test_labels_stay_a_row_a_graph_whatever_the_sizes() -> None:
    # As many labels as nodes and edges in every graph: only the name says what they belong to.
    graphs = [
        Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 2, dtype=torch.long), y=torch.ones(1, 2)) for _ in "ab"
    ]
    assert GraphBlock(graphs).batch(torch.tensor([1, 0])).y.shape == (2, 2)


def test_different_fields_are_refused() -> None:
    whole = random_graph(3, 2, torch.Generator())
    part = Data(x=whole.x, edge_index=whole.edge_index, y=whole.y)
    with pytest.raises(ValueError, match="graph 1 has no"):
        GraphBlock([whole, part])


@pytest.mark.parametrize("y", [torch.tensor(3), torch.tensor([3]), torch.tensor([[1.0, 0.0, 1.0]])])
def test_labels_of_any_form_are_batched_as_in_pyg(y: Tensor) -> None:
    graphs = [Data(x=torch.ones(n, 1), edge_index=torch.zeros(2, n, dtype=torch.long), y=y + n) for n in (1, 3, 2)]
    ours = GraphBlock(graphs).batch(torch.tensor([2, 0]))
    assert torch.equal(ours.y, Batch.from_data_list([graphs[2], graphs[0]]).y)


def test_graphs_without_edges_and_edges_attributes_of_one_number() -> None:
    none = Data(x=torch.ones(2, 1), edge_index=torch.empty(2, 0, dtype=torch.long), edge_weight=torch.empty(0))
    two = Data(x=torch.ones(3, 1), edge_index=torch.tensor([[0, 1], [2, 0]]), edge_weight=torch.tensor([0.5, 2.0]))
    graphs = [none, two, none, two]
    for chosen in ([0, 2], [1, 0, 3], [3, 3]):
        ours = GraphBlock(graphs).batch(torch.tensor(chosen))
        theirs = Batch.from_data_list([graphs[index] for index in chosen])
        assert torch.equal(ours.edge_index, theirs.edge_index)
        assert torch.equal(ours.edge_weight, theirs.edge_weight)


def test_a_graphs_own_row_is_kept_and_text_left_out() -> None:
    graphs = [random_graph(n, n, torch.Generator()) for n in (2, 5)]
    for number, each in enumerate(graphs):
        each.whole = torch.full((1, 4), float(number))
    batch = GraphBlock(graphs).batch(torch.tensor([1, 0, 1]))
    assert batch.whole.tolist() == [[1] * 4, [0] * 4, [1] * 4]
    assert "smiles" not in batch


def test_fields_that_only_later_graphs_have_are_refused() -> None:
    whole = random_graph(3, 2, torch.Generator())
    part = Data(x=whole.x, edge_index=whole.edge_index, y=whole.y)
    with pytest.raises(ValueError, match=r"graph 0 has no|graph 1 has"):
        GraphBlock([part, whole])


def test_fields_of_several_rows_a_graph_never_lend_a_row_to_another() -> None:
    graphs = [random_graph(n, n, torch.Generator()) for n in (4, 5, 6)]
    for number, each in enumerate(graphs):
        each.corners = torch.full((2, 3), float(number))  # neither a row a node, nor an edge, nor a graph
    batch = GraphBlock(graphs).batch(torch.tensor([2]))
    assert "corners" not in batch or torch.equal(batch.corners, graphs[2].corners)


def test_fields_of_changing_length_are_left_out_or_refused() -> None:
    graphs = [random_graph(n, n, torch.Generator()) for n in (4, 5, 6)]
    for number, each in enumerate(graphs):
        each.tags = torch.arange(number + 1)
    try:
        batch = GraphBlock(graphs).batch(torch.tensor([2]))
    except ValueError:
        return
    assert "tags" not in batch


def test_fields_of_different_widths_are_refused() -> None:
    graphs = [random_graph(n, n, torch.Generator()) for n in (4, 5)]
    graphs[1].edge_attr = torch.ones(5, 3)
    with pytest.raises(ValueError, match="edge_attr"):
        GraphBlock(graphs)


def test_node_numbers_in_fields_are_left_out_or_moved() -> None:
    # PyG adds the nodes before a graph to every field with "index" in its name.
    graphs = [random_graph(n, n + 1, torch.Generator()) for n in (4, 5)]
    for each in graphs:
        each.root_index = torch.tensor([1])
    batch = GraphBlock(graphs).batch(torch.tensor([1, 0]))
    assert "root_index" not in batch or batch.root_index.flatten().tolist() == [1, 6]
