from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data
from torch_geometric.datasets import TUDataset
from torch_geometric.utils import coalesce, remove_self_loops

from gnncompress.datasets import limits, locations, tudataset_files
from gnncompress.datasets.collated import Collated
from gnncompress.datasets.tudataset import LARGEST_DEGREE, NAMES, fingerprint, load
from gnncompress.errors import DatasetError

# Two graphs with edges, a third without; a loop and a duplicate; labels -1 and 1.
TINY = {
    "A": "1, 2\n2, 1\n1, 2\n3, 3\n4, 5\n5, 4\n5, 6\n6, 5\n",
    "graph_indicator": "1\n1\n1\n2\n2\n2\n3\n",
    "graph_labels": "1\n-1\n1\n",
    "node_labels": "4\n3\n3\n5\n3\n4\n3\n",
    "node_attributes": "0.5, 1\n1.5, 2\n2.5, 3\n3.5, 4\n4.5, 5\n5.5, 6\n6.5, 7\n",
}


def write(root: Path, name: str = "TINY", inside: str = "raw", **changes: str | None) -> Path:
    """Write the tiny set with some files changed, or left out where None."""
    folder = root / "TUDataset" / name / inside
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in {**TINY, **changes}.items():
        (folder / f"{name}_{part}.txt").unlink(missing_ok=True)
        if text is not None:
            (folder / f"{name}_{part}.txt").write_text(text)
    return root


def graphs(source: str, root: Path | None = None) -> list[Data]:
    found = load(source, root).graphs
    assert isinstance(found, Collated)
    return list(found)


def test_proteins_equals_pyg(data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(data_root / "TUDataset" / "PROTEINS" / "raw", tmp_path / "PROTEINS" / "raw")
    found, expected = graphs("proteins", data_root), TUDataset(str(tmp_path), "PROTEINS", use_node_attr=True)
    assert len(found) == len(expected) == 1113
    for one, other in zip(found, expected, strict=True):
        assert set(one.keys()) == set(other.keys()) == {"x", "edge_index", "y"}
        for key in one.keys():  # noqa: SIM118
            assert one[key].dtype == other[key].dtype
            assert torch.equal(one[key], other[key])
    assert sum(graph.num_nodes for graph in found) == 43471
    assert sum(graph.num_edges for graph in found) == 162088
    assert torch.cat([graph.y for graph in found]).bincount().tolist() == [663, 450]
    assert load("PROTEINS", data_root).notes == ()


def test_proteins_without_attributes_equals_pyg(data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(data_root / "TUDataset" / "PROTEINS" / "raw", tmp_path / "PROTEINS" / "raw")
    found, expected = graphs("PROTEINS:labels", data_root), TUDataset(str(tmp_path), "PROTEINS")
    assert all(torch.equal(one.x, other.x) for one, other in zip(found, expected, strict=True))
    assert found[0].num_features == 3
    assert fingerprint("PROTEINS:labels", data_root) != fingerprint("PROTEINS", data_root)


@pytest.mark.parametrize("inside", ["raw", "."])
def test_tiny_set_by_hand(tmp_path: Path, inside: str) -> None:
    loaded = load("tiny", write(tmp_path, inside=inside))
    first, second, third = loaded.graphs
    assert first.x.tolist() == [[0.5, 1, 0, 1, 0], [1.5, 2, 1, 0, 0], [2.5, 3, 1, 0, 0]]
    assert first.edge_index.tolist() == [[0, 1], [1, 0]]
    assert second.edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert third.edge_index.shape == (2, 0)
    assert third.x.tolist() == [[6.5, 7, 1, 0, 0]]
    assert [graph.y.tolist() for graph in loaded.graphs] == [[1], [0], [1]]
    assert first.edge_index.dtype == first.y.dtype == torch.long
    assert first.x.dtype == torch.float32
    assert loaded.notes == ("1 of 3 graphs have no edges",)


def test_labels_alone_and_attributes_alone(tmp_path: Path) -> None:
    write(tmp_path)
    assert graphs("TINY:labels", tmp_path)[0].x.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]
    write(tmp_path, node_labels=None)
    assert graphs("TINY", tmp_path)[0].x.tolist() == [[0.5, 1], [1.5, 2], [2.5, 3]]


def test_several_node_labels_are_one_hot_each(tmp_path: Path) -> None:
    write(tmp_path, node_attributes=None, node_labels="0, 7\n1, 8\n0, 7\n0, 7\n0, 7\n0, 7\n0, 7\n")
    assert graphs("TINY", tmp_path)[0].x.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]


def test_degrees_stand_in_for_features(tmp_path: Path) -> None:
    loaded = load("TINY", write(tmp_path, node_labels=None, node_attributes=None))
    assert [graph.x.argmax(1).tolist() for graph in loaded.graphs] == [[1, 1, 0], [1, 2, 1], [0]]
    assert loaded.graphs[2].x.shape == (1, 3)
    assert loaded.notes[0] == "no node features in the files: one-hot degrees 0 to 2 stand in"


def test_large_degrees_share_a_column(tmp_path: Path) -> None:
    star = "".join(f"1, {leaf}\n{leaf}, 1\n" for leaf in range(2, 202))
    write(tmp_path, A=star, graph_indicator="1\n" * 201, graph_labels="3\n", node_labels=None, node_attributes=None)
    loaded = load("TINY", tmp_path)
    assert loaded.graphs[0].x.shape == (201, LARGEST_DEGREE + 1)
    assert loaded.graphs[0].x[0].argmax() == LARGEST_DEGREE
    assert loaded.notes == (
        "no node features in the files: one-hot degrees 0 to 128 stand in; "
        "the 1 of 201 nodes with higher ones share the last column",
    )


def test_blanks_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path)
    plain = graphs("TINY", tmp_path)
    other = {part: text.replace(", ", " ,\t").replace("\n", " \r\n").rstrip() for part, text in TINY.items()}
    write(tmp_path, **other)
    for one, two in zip(plain, graphs("TINY", tmp_path), strict=True):
        assert all(torch.equal(one[key], two[key]) for key in ("x", "edge_index", "y"))


@pytest.mark.parametrize(
    ("part", "text", "message"),
    [
        ("A", "", r"TINY_A\.txt: empty"),
        ("graph_labels", " \n", r"TINY_graph_labels\.txt: empty"),
        ("A", "1, 2\n2 1\n", r"TINY_A\.txt: line 2: '2 1' found where 2 whole numbers should be"),
        ("A", "1, 2\n2, 1, 3\n", r"TINY_A\.txt: line 2: '2, 1, 3' found where 2 whole numbers"),
        ("A", "1, 2, 3\n", r"TINY_A\.txt: line 1: '1, 2, 3' found where 2 whole numbers"),
        ("A", "1, 2\n\n2, 1\n", r"TINY_A\.txt: line 2: '' found where 2 whole numbers"),
        ("A", "1, 2\n2, x\n", r"TINY_A\.txt: line 2: '2, x' found where 2 whole numbers"),
        ("A", "1, 2\n2, 1\n2", r"TINY_A\.txt: line 3: '2' found where 2 whole numbers"),
        ("A", "1, 2.5\n", r"TINY_A\.txt: line 1: '1, 2\.5' found"),
        ("A", "1, 2\n2, 99999999999999999999\n", r"TINY_A\.txt: line 2: '2, 9+' found"),
        ("A", "1, 2\n2, 8\n", r"TINY_A\.txt: line 2: an edge of nodes 2 and 8, but nodes are 1 to 7"),
        ("A", "1, 2\n0, 1\n", r"TINY_A\.txt: line 2: an edge of nodes 0 and 1, but nodes are 1 to 7"),
        ("A", "1, 2\n3, 4\n", r"TINY_A\.txt: line 2: an edge of nodes 3 and 4, which are in graphs 1 and 2"),
        ("graph_indicator", "1\n1\n1\n2\n2\n2\n4\n", r"indicator\.txt: line 7: graph 4 follows graph 2; .* gaps"),
        ("graph_indicator", "1\n1\n2\n2\n2\n1\n3\n", r"indicator\.txt: line 6: graph 1 follows graph 2"),
        ("graph_indicator", "0\n0\n0\n1\n1\n1\n2\n", r"indicator\.txt: line 1: graph 0 comes first"),
        ("graph_indicator", "2\n2\n", r"indicator\.txt: line 1: graph 2 comes first"),
        ("graph_labels", "1\n2\n", r"graph_labels\.txt: 2 lines for the 3 graphs of graph_indicator"),
        ("graph_labels", "1\n2\nyes\n", r"graph_labels\.txt: line 3: 'yes' found where 1 whole number should be"),
        ("graph_labels", "1, 2\n2, 1\n1, 1\n", r"graph_labels\.txt: line 1: '1, 2' found where 1 whole number should"),
        ("node_labels", "1\n2\n", r"node_labels\.txt: 2 lines for the 7 nodes of graph_indicator"),
        ("node_labels", "1\n" * 6 + "400000000\n", r"node_labels\.txt: 7 nodes times 400,000,000 one-hot columns"),
        (
            "node_labels",
            "-1\n" * 6 + "9999\n",
            r"node_labels\.txt: 7 nodes times 10,001 one-hot columns, at most 10,000",
        ),
        ("node_labels", "0, 0\n" * 6 + "5000, 5000\n", r"node_labels\.txt: 7 nodes times 10,002 one-hot columns"),
        ("node_attributes", "1.5\n" * 6, r"node_attributes\.txt: 6 lines for the 7 nodes"),
        ("node_attributes", "1.5, 1\n" * 6 + "1.5\n", r"attributes\.txt: line 7: '1\.5' found where 2 numbers should"),
        ("node_attributes", "1.5\n" * 6 + "nan\n", r"attributes\.txt: line 7: 'nan' found where 1 number should"),
        ("node_attributes", "1.5\n" * 6 + "1e39\n", r"attributes\.txt: line 7: '1e39' found"),
        ("graph_indicator", None, r"raw: TINY_graph_indicator\.txt missing"),
        ("A", None, r"raw: TINY_A\.txt missing"),
        ("graph_labels", None, r"raw: TINY_graph_labels\.txt missing"),
    ],
)
def test_damage_is_named(tmp_path: Path, part: str, text: str | None, message: str) -> None:
    write(tmp_path, **{part: text})
    with pytest.raises(DatasetError, match=message) as caught:
        load("TINY", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "file", "columns"),
    [
        ({}, "node_labels", 5),
        ({"node_attributes": None, "node_labels": "0, 7\n1, 8\n0, 7\n" + "0, 7\n" * 4}, "node_labels", 4),
        ({"node_labels": None, "node_attributes": None}, "graph_indicator", 3),
    ],
    ids=["attributes and labels", "columns of labels", "degrees"],
)
def test_the_limit_holds_for_all_features_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], file: str, columns: int
) -> None:
    write(tmp_path, **changes)
    monkeypatch.setattr(limits, "MOST_FEATURE_BYTES", 4 * 7 * columns)
    assert graphs("TINY", tmp_path)[0].num_features == columns
    monkeypatch.setattr(limits, "MOST_FEATURE_BYTES", 4 * 7 * columns - 1)
    with pytest.raises(DatasetError, match=rf"TINY_{file}\.txt: 7 nodes times {columns} columns are features of"):
        load("TINY", tmp_path)


def test_labels_at_both_ends_of_64_bits(tmp_path: Path) -> None:
    for end in (-(2**63), 2**63 - 1):
        near = end + 1 if end < 0 else end - 1
        write(tmp_path, node_attributes=None, node_labels=f"{end}\n{near}\n" + f"{end}\n" * 5)
        assert graphs("TINY", tmp_path)[0].x.argmax(1).tolist() == ([0, 1, 0] if end < 0 else [1, 0, 1])


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    write(tmp_path, node_labels=None)
    with pytest.raises(DatasetError, match=r"raw: TINY_node_labels\.txt missing"):
        load("TINY:labels", tmp_path)
    with pytest.raises(DatasetError, match="data set TINY:edges: after the colon only 'labels' is known"):
        load("TINY:edges", tmp_path)
    write(tmp_path, graph_labels=None, graph_attributes="0.5\n1.5\n2.5\n")
    with pytest.raises(DatasetError, match=r"raw: TINY has graph_attributes but no graph_labels: regression"):
        load("TINY", tmp_path)


def test_without_files_or_network_it_says_what_to_do(nowhere: Path) -> None:
    for call in (load, fingerprint):
        with pytest.raises(DatasetError) as caught:
            call("mutag", nowhere)
        message = str(caught.value)
        files = ("MUTAG_A.txt", "MUTAG_graph_indicator.txt", "MUTAG_graph_labels.txt", "MUTAG_node_labels.txt")
        for part in (*files, "no network", str(nowhere / "cache" / "TUDataset" / "MUTAG" / "raw"), "-d digits"):
            assert part in message
    assert not list((nowhere / "cache" / "TUDataset").iterdir())


def test_name_cannot_leave_the_cache(nowhere: Path) -> None:
    with pytest.raises(DatasetError, match="is no name of a data set"):
        load("../../elsewhere", nowhere)


def archive(members: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return content.getvalue()


def test_download_lands_in_the_cache_and_nowhere_else(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = []

    def online(url: str, folder: Path) -> Path:
        urls.append(url)
        members = {f"MUTAG/MUTAG_{part}.txt": text for part, text in TINY.items() if part != "node_labels"}
        evil = {"../../../evil.txt": "", "../../MUTAG_evil.txt": "", "..\\MUTAG_x.txt": "", "MUTAG/README.txt": ""}
        members["../../../../MUTAG_node_labels.txt"] = TINY["node_labels"]
        (folder / "MUTAG.zip").write_bytes(archive({**members, **evil}))
        return folder / "MUTAG.zip"

    monkeypatch.setattr(locations, "fetch", online)
    assert len(graphs("mutag")) == len(graphs("MUTAG")) == 3
    assert urls == [f"{TUDataset.url}/MUTAG.zip"]
    raw = nowhere / "cache" / "TUDataset" / "MUTAG" / "raw"
    expected = {f"MUTAG_{part}.txt" for part in (*TINY, "evil", "x")}
    assert {path.name for path in raw.iterdir()} == expected
    assert {path.name for path in nowhere.rglob("*.txt")} == expected, "nothing may be written elsewhere"


@pytest.mark.parametrize(
    "content",
    [b"<html>", archive({"MUTAG/README.txt": ""}), archive({"a": "b"})[:40]],
    ids=[
        "page",
        "other files",
        "half an archive",
    ],  # archives hold the time, and test names must be the same everywhere
)
def test_download_of_something_else_is_not_kept(nowhere: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    def portal(url: str, folder: Path) -> Path:
        (folder / "MUTAG.zip").write_bytes(content)
        return folder / "MUTAG.zip"

    monkeypatch.setattr(locations, "fetch", portal)
    with pytest.raises(DatasetError, match="data set mutag: no raw files and no download"):
        load("MUTAG")
    assert not list((nowhere / "cache" / "TUDataset").iterdir())


def test_an_archive_that_unpacks_to_too_much_is_not_kept(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive({f"MUTAG/MUTAG_{part}.txt": text for part, text in TINY.items()})

    def online(url: str, folder: Path) -> Path:
        (folder / "MUTAG.zip").write_bytes(content)
        return folder / "MUTAG.zip"

    monkeypatch.setattr(locations, "fetch", online)
    total = sum(map(len, TINY.values()))
    monkeypatch.setattr(tudataset_files, "MOST_UNPACKED", total - 1)
    with pytest.raises(DatasetError, match=rf"MUTAG.zip unpacks to {total} bytes, at most {total - 1} are taken"):
        load("MUTAG")
    assert not list((nowhere / "cache" / "TUDataset").iterdir())
    monkeypatch.setattr(tudataset_files, "MOST_UNPACKED", total)
    assert len(graphs("MUTAG")) == 3


def test_names_are_distinct_in_any_case() -> None:
    assert len({name.casefold() for name in NAMES}) == len(NAMES)


@st.composite
def sets(draw: st.DrawFn) -> list[tuple[int, list[tuple[int, int]], int]]:
    """Graphs as (nodes, edges, label); one edge at least, for an edge file is never empty."""
    found = []
    for _ in range(draw(st.integers(1, 5))):
        nodes = draw(st.integers(1, 5))
        ends = st.integers(0, nodes - 1)
        found.append((nodes, draw(st.lists(st.tuples(ends, ends), max_size=8)), draw(st.integers(-3, 3))))
    nodes, edges, label = found[0]
    return [(nodes, [*edges, (0, nodes - 1)], label), *found[1:]]


@given(sets(), st.data())
def test_random_graphs_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    described: list[tuple[int, list[tuple[int, int]], int]],
    data: st.DataObject,
) -> None:
    nodes = sum(graph[0] for graph in described)
    values = data.draw(st.lists(st.floats(-1e6, 1e6, width=32), min_size=nodes, max_size=nodes))
    indicator = [number for number, graph in enumerate(described, start=1) for _ in range(graph[0])]
    first = [indicator.index(number) for number in range(1, len(described) + 1)]
    pairs = [
        (a + start + 1, b + start + 1) for (_, edges, _), start in zip(described, first, strict=True) for a, b in edges
    ]
    root = write(
        tmp_path_factory.mktemp("tu"),
        A="".join(f"{a}, {b}\n" for a, b in data.draw(st.permutations(pairs))),
        graph_indicator="".join(f"{number}\n" for number in indicator),
        graph_labels="".join(f"{label}\n" for _, _, label in described),
        node_labels=None,
        node_attributes="".join(f"{value!r}\n" for value in values),
    )
    order = sorted({label for _, _, label in described})
    found = graphs("TINY", root)
    assert len(found) == len(described)
    for graph, (size, edges, label), start in zip(found, described, first, strict=True):
        expected = torch.tensor(edges, dtype=torch.long).view(-1, 2).t()
        assert torch.equal(graph.edge_index, coalesce(remove_self_loops(expected)[0], num_nodes=size))
        assert graph.x.flatten().tolist() == values[start : start + size]
        assert graph.y.tolist() == [order.index(label)]
