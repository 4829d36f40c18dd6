from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import Data

from gnncompress.datasets.collated import ABSENT, Collated, chosen_rows, counts_of, each, field_of, together, with_rows


def graph(nodes: int, edges: int, generator: torch.Generator, **fields: Any) -> Data:
    made = Data(
        x=torch.randn(nodes, 3, generator=generator),
        edge_index=torch.randint(0, nodes, (2, edges), generator=generator),
        edge_attr=torch.randint(0, 5, (edges, 2), generator=generator),
        y=torch.randint(0, 5, (1,), generator=generator),
        whole=torch.tensor(float(nodes)),
        root_index=torch.tensor([0, nodes - 1]),
        smiles="C" * nodes,
    )
    for name, value in fields.items():
        made[name] = value
    return made


def graphs(*sizes: tuple[int, int]) -> list[Data]:
    generator = torch.Generator().manual_seed(0)
    return [graph(*size, generator) for size in sizes]


def same(one: Data, other: Data) -> None:
    assert set(one.keys()) == set(other.keys())
    assert (one.num_nodes, one.num_edges) == (other.num_nodes, other.num_edges)
    for name, value in one.to_dict().items():
        if isinstance(value, Tensor):
            assert (value.dtype, value.shape) == (other[name].dtype, other[name].shape), name
            assert torch.equal(value, other[name]), name
        else:
            assert value == other[name], name


@settings(max_examples=20)
@given(sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 9)), min_size=1, max_size=6))
def test_graphs_come_back_as_they_were(sizes: list[tuple[int, int]]) -> None:
    given_graphs = graphs(*sizes)
    block = Collated.of(given_graphs)
    assert len(block) == len(given_graphs)
    assert block.nodes.tolist() == [size[0] for size in sizes]
    assert counts_of(block, "edge_index").tolist() == [size[1] for size in sizes]
    for one, other in zip(block, given_graphs, strict=True):
        same(one, other)


def test_it_is_a_sequence() -> None:
    given_graphs = graphs((2, 3), (4, 0), (1, 1))
    block = Collated.of(given_graphs)
    same(block[-1], given_graphs[2])
    assert [one.num_nodes for one in block[1:]] == [4, 1]
    with pytest.raises(IndexError):
        block[3]
    assert Collated.of(block) is block


def test_what_only_some_have_and_other_forms_are_kept_as_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    given_graphs = [
        graph(2, 1, generator, extra=torch.ones(1), mixed=torch.ones(2), num_nodes=2),
        graph(3, 1, generator, mixed=torch.ones(3, dtype=torch.long), tags=["a"]),
        graph(3, 1, generator, mixed=torch.ones(3, 2), num_nodes=torch.tensor(3)),
    ]
    block = Collated.of(given_graphs)
    for one, other in zip(block, given_graphs, strict=True):
        same(one, other)
    assert field_of(block, "extra") is field_of(block, "mixed") is None
    assert each(block, "extra")[1:] == each(given_graphs, "extra")[1:] == [ABSENT, ABSENT]
    assert each(block, "nothing") == each(given_graphs, "nothing") == [ABSENT] * 3


def test_a_tensor_of_another_class_keeps_it() -> None:
    edges = EdgeIndex(torch.tensor([[0, 1], [1, 0]]), sparse_size=(2, 2))
    block = Collated.of([Data(x=torch.ones(2, 1), edge_index=edges)] * 2)
    assert isinstance(block[1].edge_index, EdgeIndex)
    assert counts_of(block, "edge_index").tolist() == [2, 2]
    assert together(block, "edge_index").shape == (2, 4)


def test_parts_share_the_blocks_memory() -> None:
    block = Collated.of(graphs((2, 3), (4, 2)))
    assert block[1].x.data_ptr() == together(block, "x")[2:].data_ptr()


def test_what_is_replaced_is_another_block() -> None:
    block = Collated.of(graphs((2, 3), (4, 2)))
    before = together(block, "x")
    other = with_rows(block, "x", torch.zeros(6, 1), torch.tensor([2, 4]))
    assert isinstance(other, Collated)
    assert other[1].x.tolist() == [[0.0]] * 4
    assert together(block, "x") is before
    assert together(other, "edge_index") is together(block, "edge_index")


def test_lists_are_answered_alike() -> None:
    given_graphs = graphs((2, 3), (4, 0), (1, 1))
    block = Collated.of(given_graphs)
    for name in ("x", "edge_index", "edge_attr", "y"):
        assert torch.equal(together(block, name), together(given_graphs, name))
        assert torch.equal(counts_of(block, name), counts_of(given_graphs, name))
    assert torch.equal(chosen_rows(block, "x", (0, 2)), chosen_rows(given_graphs, "x", (0, 2)))
    values, counts = torch.zeros(7, 2), torch.tensor([2, 4, 1])
    for one, other in zip(
        with_rows(block, "x", values, counts), with_rows(given_graphs, "x", values, counts), strict=True
    ):
        same(one, other)
    assert given_graphs[0].x.size(1) == 3
