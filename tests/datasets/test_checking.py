from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from gnncompress.datasets import checking
from gnncompress.datasets.checking import check_graph, check_graphs, standard_types
from gnncompress.datasets.collated import Collated, together
from gnncompress.errors import DatasetError

NODES = 20
SOURCES = torch.arange(NODES)
EDGES = torch.stack([torch.cat([SOURCES, SOURCES.roll(1)]), torch.cat([SOURCES.roll(1), SOURCES])])


def ring(**fields: Any) -> Data:
    return Data(**{"x": torch.ones(NODES, 3), "edge_index": EDGES, "y": SOURCES % 2, **fields})


def moved(place: int) -> torch.Tensor:
    edges = EDGES.clone()
    edges[0, 0] = place
    return edges


MASK = r"which torch takes for a mask; make it of int64 from the start"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"edge_index": None}, r"needs edge_index, integers \[2, E\]; it has none"),
    ({"edge_index": EDGES.tolist()}, "has edge_index of type list; make it a torch tensor"),
    ({"edge_index": EDGES.to(torch.uint8)}, rf"edge_index, integers \[2, E\]; it has torch.uint8 \[2, 40\], {MASK}"),
    ({"edge_index": EDGES.bool()}, rf"edge_index, integers \[2, E\]; it has torch.bool \[2, 40\], {MASK}"),
    ({"edge_index": torch.ones(NODES, NODES) > 0}, rf"it has torch.bool \[20, 20\], {MASK}"),
    ({"edge_index": EDGES.float()}, r"it has torch.float32 \[2, 40\]; use edge_index.long\(\)"),
    ({"edge_index": EDGES.to(torch.uint16)}, r"it has torch.uint16 \[2, 40\]; use edge_index.long\(\)"),
    ({"edge_index": EDGES.to(torch.complex64)}, r"edge_index that is complex \(complex64\)"),
    ({"edge_index": EDGES.to_sparse()}, r"edge_index that is sparse; use edge_index.to_dense\(\)"),
    ({"edge_index": EDGES.t()}, r"it has torch.int64 \[40, 2\]; use edge_index.t\(\)"),
    ({"edge_index": EDGES[0]}, r"it has torch.int64 \[40\]; give sources and targets"),
    ({"edge_index": EDGES[None]}, r"it has torch.int64 \[1, 2, 40\]; give sources and targets"),
    ({"edge_index": moved(NODES)}, "has 20 nodes and an edge to node 20 or from node 0; .* mend edge_index"),
    ({"edge_index": moved(-1)}, "has 20 nodes and an edge to node 19 or from node -1; nodes are 0 to 19"),
    ({"edge_index": moved(2**62)}, "has 20 nodes and an edge to node 4611686018427387904"),
    ({"edge_index": moved(-128).to(torch.int8)}, "has 20 nodes and an edge to node 19 or from node -128"),
    ({"x": torch.ones(NODES, 3).to_sparse()}, r"has features x that are sparse; use x.to_dense\(\)"),
    ({"x": torch.ones(NODES, 3, dtype=torch.complex64)}, r"has features x that are complex \(complex64\)"),
    ({"x": torch.ones(NODES, 3, device="meta")}, "has features x that are on the meta device, without values"),
    ({"x": torch.ones(NODES, 0)}, "has features x without a column"),
    ({"x": torch.tensor(1.0)}, r"has features x of shape \[\]"),
    ({"num_nodes": "many"}, "has num_nodes 'many'; make it a whole number"),
    ({"num_nodes": -1}, "has num_nodes -1; make it a whole number"),
    ({"num_nodes": 20.5}, "has num_nodes 20.5; make it a whole number"),
    ({"num_nodes": float("inf")}, "has num_nodes inf; make it a whole number"),
    ({"y": (SOURCES % 2).to_sparse()}, r"has y that is sparse; use y.to_dense\(\)"),
    ({"y": (SOURCES % 2).to(torch.complex64)}, "has y that is complex"),
    ({"train_mask": (SOURCES < 5).to_sparse()}, r"has train_mask that is sparse; use train_mask.to_dense\(\)"),
    ({"edge_weight": torch.ones(5)}, r"has edge_weight \[5\]; needed is \[40\], give one for each edge"),
    ({"edge_weight": torch.ones(40, 1)}, r"has edge_weight \[40, 1\]; needed is \[40\], use edge_weight.view\(-1\)"),
    ({"edge_weight": torch.ones(40, 2)}, r"has edge_weight \[40, 2\]; needed is \[40\], give one for each edge"),
    ({"edge_weight": torch.full((40,), torch.nan)}, "has edge_weight with values that are NaN or infinite"),
    (
        {"edge_weight": torch.full((40,), 1e300, dtype=torch.float64)},
        "edge_weight with values that are NaN or infinite",
    ),
    ({"edge_weight": torch.ones(40, dtype=torch.uint16)}, r"has edge_weight of uint16; use edge_weight.float\(\)"),
    ({"edge_attr": torch.ones(5, 2)}, r"has edge_attr \[5, 2\]; needed is \[40, D\], give a row for each edge"),
    ({"edge_attr": torch.tensor(1.0)}, r"has edge_attr \[\]; needed is \[40, D\]"),
    ({"edge_attr": torch.full((40, 2), torch.inf)}, "has edge_attr with values that are NaN or infinite"),
    ({"batch": torch.zeros(NODES)}, r"has batch float32 \[20\]; needed is int64 \[20\], the graph of each node"),
    ({"batch": SOURCES[:5]}, r"has batch int64 \[5\]; needed is int64 \[20\]"),
    ({"batch": SOURCES - 1}, "has batch with graph numbers -1 to 18 for 20 nodes; number the graphs 0, 1, ..."),
    ({"batch": SOURCES * 0 + 2**30}, "has batch with graph numbers 1,073,741,824 to 1,073,741,824 for 20 nodes"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_what_cannot_be_computed_with_is_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=f"^here {message}|^here .*{message}") as caught:
        check_graph("here", ring(**fields))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"edge_index": torch.empty(2, 0, dtype=torch.long)},
        {"edge_index": EDGES.int()},
        {"x": None, "num_nodes": NODES},
        {"num_nodes": torch.tensor(NODES)},
        {"edge_weight": torch.ones(40, dtype=torch.long)},
        {"edge_attr": torch.ones(40)},
        {"edge_attr": torch.ones(40, 3, dtype=torch.long)},
        {"batch": SOURCES // 10},
    ],
)
def test_what_can_is_not(fields: dict[str, Any]) -> None:
    check_graph("here", ring(**fields))
    check_graphs(str, Collated.of([ring(**fields), ring(), ring(**fields)]))
    check_graphs(str, Collated.of([ring(**fields), ring(**fields)]))


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
@pytest.mark.parametrize("alike", [True, False])
def test_of_many_the_first_is_refused_in_the_same_words(fields: dict[str, Any], message: str, alike: bool) -> None:
    wrong = [ring(**fields), ring(**fields)]
    graphs = wrong if alike else [ring(), *wrong]
    first = len(graphs) - len(wrong)
    with pytest.raises(DatasetError, match=message) as single:
        check_graph(f"graph {first}", graphs[first])
    with pytest.raises(DatasetError) as many:
        check_graphs(lambda number: f"graph {number}", Collated.of(graphs))
    assert str(many.value) == str(single.value)


@pytest.mark.parametrize("place", range(11))
def test_one_edge_astray_among_many_graphs_is_found(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "AT_ONCE", 4)
    edges = torch.tensor([[0, 1], [1, 0]])
    graphs = [Data(x=torch.ones(2, 1), edge_index=edges) for _ in range(11)]
    check_graphs(str, Collated.of(graphs))
    graphs[place] = Data(x=torch.ones(2, 1), edge_index=edges + 1)
    with pytest.raises(DatasetError, match=f"^{place} has 2 nodes and an edge to node 2"):
        check_graphs(str, Collated.of(graphs))


def test_graphs_that_are_right_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("one by one")

    monkeypatch.setattr(checking, "check_graph", fail)
    full = ring(edge_weight=torch.ones(40), edge_attr=torch.ones(40, 2), train_mask=SOURCES < 5)
    check_graphs(str, Collated.of([full, full, full]))


def test_types_become_those_that_models_compute_with() -> None:
    given = ring(edge_index=EDGES.int(), edge_weight=torch.arange(40), edge_attr=torch.rand(40, 2, dtype=torch.float64))
    (made,) = standard_types([given])
    assert made.edge_index.dtype == torch.int64
    assert torch.equal(made.edge_index, EDGES)
    assert made.edge_weight.dtype == made.edge_attr.dtype == torch.float32
    assert made.edge_weight.tolist() == list(range(40))
    assert given.edge_index.dtype == torch.int32, "the data given stay as they were"
    assert given.edge_attr.dtype == torch.float64
    kinds = torch.ones(40, 3, dtype=torch.long)
    assert standard_types([ring(edge_attr=kinds)])[0].edge_attr is kinds, "categories of edges"
    same = ring()
    assert standard_types([same])[0] is same
    block = standard_types(Collated.of([given, given]))
    assert isinstance(block, Collated)
    for each in block:
        assert (each.edge_index.dtype, each.edge_weight.dtype) == (torch.int64, torch.float32)
        assert torch.equal(each.edge_attr, made.edge_attr)


def test_types_that_differ_between_graphs_become_one() -> None:
    given = [ring(edge_index=EDGES.int(), edge_weight=torch.ones(40, dtype=torch.float64)), ring()]
    block = standard_types(Collated.of(given))
    assert torch.equal(together(block, "edge_index"), torch.cat([EDGES, EDGES], dim=1))
    assert block[0].edge_weight.dtype == torch.float32
    assert "edge_weight" not in block[1]
