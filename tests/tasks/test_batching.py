from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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
