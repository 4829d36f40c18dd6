"""Edges sorted by target, what is wrong with them told, and how long what was worked out of them is kept."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from gnncompress.errors import ExecutionError
from gnncompress.runtime.aggregation import Edges
from gnncompress.runtime.graphs import MOST_NEIGHBOURS, Memory, Neighbours, check_degrees, neighbours
from gnncompress.runtime.model import ProgramModel
from gnncompress.runtime.program import Program
from tests.runtime.helpers import ROWS, SEEDS, random_graph


@settings(max_examples=25, deadline=None)
@given(nodes=ROWS, seed=SEEDS)
def test_edges_come_by_target_in_the_order_they_were_given(nodes: int, seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes)
    found = neighbours(torch.from_numpy(graph.edges), nodes)
    assert len(found) == nodes
    np.testing.assert_array_equal(found.starts, graph.starts)
    np.testing.assert_array_equal(found.sources, graph.sources)
    np.testing.assert_array_equal(found.order, graph.order)
    assert (found.starts.dtype, found.sources.dtype) == (np.int64, np.int32)


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.uint8])
def test_edges_may_be_of_any_whole_numbers(kind: torch.dtype) -> None:
    edges = torch.tensor([[2, 0, 1, 1], [1, 1, 0, 2]])
    found = neighbours(edges.to(kind), 3)
    assert found.starts.tolist() == [0, 1, 3, 4]
    assert found.sources.tolist() == [1, 2, 0, 1]
    assert found.order.tolist() == [2, 0, 1, 3]


def test_edges_may_be_a_view() -> None:
    edges = torch.tensor([[2, 1], [0, 1], [1, 0], [1, 2]])
    found, wanted = neighbours(edges.t(), 3), neighbours(edges.t().contiguous(), 3)
    assert found.starts.tolist() == wanted.starts.tolist()
    assert found.sources.tolist() == wanted.sources.tolist()


def test_a_graph_may_be_empty_and_nodes_may_have_no_edges() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    empty = neighbours(none, 0)
    assert (len(empty), empty.starts.tolist(), empty.sources.tolist(), empty.order.tolist()) == (0, [0], [], [])
    assert neighbours(none, 3).starts.tolist() == [0, 0, 0, 0]
    assert neighbours(torch.tensor([[3], [1]]), 4).starts.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("bad", [-1, 4, 2**33])
@pytest.mark.parametrize("row", [0, 1])
def test_a_node_that_does_not_exist_is_named(bad: int, row: int) -> None:
    edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    edges[row, 1] = bad
    with pytest.raises(ExecutionError, match=f"^edge_index has node {bad}, but the features have 4 rows, 0 to 3$"):
        neighbours(edges, 4)


def test_edges_of_a_graph_without_nodes_are_refused() -> None:
    with pytest.raises(ExecutionError, match="edge_index has node 0, but the features have 0 rows"):
        neighbours(torch.zeros(2, 1, dtype=torch.long), 0)


@pytest.mark.parametrize(
    ("edges", "shown"),
    [
        (torch.zeros(2, 3), "torch.float32 [2, 3]"),
        (torch.zeros(2, 3, dtype=torch.float64), "torch.float32 [2, 3]"),
        (torch.zeros(3, 2, dtype=torch.long), "torch.int64 [3, 2]"),
        (torch.zeros(6, dtype=torch.long), "torch.int64 [6]"),
        (torch.zeros(2, 3, 1, dtype=torch.long), "torch.int64 [2, 3, 1]"),
        (torch.zeros((), dtype=torch.long), "torch.int64 []"),
        (torch.eye(2, dtype=torch.long).to_sparse(), "torch.int64 sparse_coo [2, 2]"),
        (torch.zeros(2, 3, dtype=torch.bool), "torch.bool [2, 3]"),
        ([[0], [1]], "a list"),
    ],
)
def test_what_are_no_edges_is_told(edges: object, shown: str) -> None:
    wanted = f"around: edge_index must be whole numbers [2, edges], not {shown}"
    program = Program((Edges("around", "edge_index", "x"),), ("x", "edge_index"), "around")
    with pytest.raises(ExecutionError, match=f"^{re.escape(wanted)}$"):
        ProgramModel(program)(torch.zeros(3, 1), edges)


def test_sums_of_the_most_neighbours_fit() -> None:
    whole = np.iinfo(np.int32)
    assert whole.min <= -256 * MOST_NEIGHBOURS
    assert 256 * MOST_NEIGHBOURS <= whole.max < 256 * (MOST_NEIGHBOURS + 1)
    assert MOST_NEIGHBOURS == 8_388_607, "what ProgramModel says"


def test_nodes_with_more_neighbours_are_refused() -> None:
    check_degrees(np.array([0, 3, 3 + MOST_NEIGHBOURS]))
    check_degrees(np.array([0]))
    for starts, told in (
        ([0, 20_000_000], "node 0 has 20,000,000 neighbours"),
        ([0, 5, 5, 6 + MOST_NEIGHBOURS, 7 + MOST_NEIGHBOURS], "node 2 has 8,388,608 neighbours"),
    ):
        with pytest.raises(ExecutionError, match=f"^{told}: sums of more than 8,388,607 codes may not fit into 32"):
            check_degrees(np.array(starts))


def test_what_was_worked_out_is_kept_while_the_tensor_is_the_same() -> None:
    memory, edges = Memory(), torch.tensor([[0, 1], [1, 0]])
    assert memory.get("edges", (edges,)) is None
    value = neighbours(edges, 2)
    assert memory.keep("edges", (edges,), value) is value
    assert memory.get("edges", (edges,)) is value
    assert memory.get("others", (edges,)) is None
    assert memory.get("edges", (edges.clone(),)) is None, "another tensor of the same content"
    assert memory.get("edges", (edges,)) is value
    edges[0, 0] = 1
    assert memory.get("edges", (edges,)) is None, "changed in place"


def test_what_is_kept_last_counts() -> None:
    memory, first, second = Memory(), torch.zeros(2), torch.zeros(2)
    memory.keep("edges", (first,), 1)
    memory.keep("edges", (second,), 2)
    assert memory.get("edges", (first,)) is None
    assert memory.get("edges", (second,)) == 2


def test_a_tensor_that_is_gone_is_not_mistaken_for_one_in_its_place() -> None:
    memory = Memory()
    memory.keep("edges", (torch.zeros(2, 3),), 1)
    for _ in range(20):
        assert memory.get("edges", (torch.zeros(2, 3),)) is None


def test_tensors_that_are_not_given_count() -> None:
    memory, edges, weights = Memory(), torch.zeros(2), torch.zeros(1)
    memory.keep("plain", (edges, None), 1)
    memory.keep("weighted", (edges, weights), 2)
    assert memory.get("plain", (edges, None)) == 1
    assert memory.get("weighted", (edges, weights)) == 2
    assert memory.get("weighted", (edges, None)) is None
    memory.keep("nothing", (None,), 3)
    assert memory.get("nothing", (None,)) == 3


def test_a_tensor_where_there_was_none_is_another() -> None:
    memory, edges = Memory(), torch.zeros(2)
    memory.keep("edges", (edges, None), 1)
    assert memory.get("edges", (edges, torch.zeros(1))) is None


def test_the_oldest_is_dropped() -> None:
    memory, edges = Memory(most=3), torch.zeros(2)
    for number in range(3):
        memory.keep(number, (edges,), f"value {number}")
    memory.keep(0, (edges,), "kept again")
    memory.keep(3, (edges,), "value 3")
    assert [memory.get(number, (edges,)) for number in range(4)] == ["kept again", None, "value 2", "value 3"]


def test_tensors_of_inference_mode_are_not_kept() -> None:
    memory, usual = Memory(), torch.zeros(2)
    with torch.inference_mode():
        edges = torch.zeros(2)
        assert memory.keep("edges", (edges,), 1) == 1
        assert memory.get("edges", (edges,)) is None
        assert memory.keep("edges", (usual, edges), 1) == 1
        assert memory.get("edges", (usual, edges)) is None
        memory.keep("usual", (usual,), 2)
    assert memory.get("edges", (edges,)) is None
    assert memory.get("usual", (usual,)) == 2
    assert memory.get("usual", (edges,)) is None


def test_neighbours_count_nodes() -> None:
    assert len(Neighbours(np.zeros(6, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))) == 5
