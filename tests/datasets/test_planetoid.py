from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch_geometric.data import Data
from torch_geometric.datasets import Planetoid

from gnncompress.datasets import locations
from gnncompress.datasets.planetoid import CORA, fingerprint, load
from gnncompress.errors import DatasetError
from gnncompress.measurements import NODES
from gnncompress.tasks.making import make_task
from gnncompress.tasks.node_classification import NodeClassification
from gnncompress.tasks.splits import SplitSpec, random_split

KEYS = {"x", "edge_index", "y", "train_mask", "val_mask", "test_mask"}


def state(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def one(source: str, data_root: Path | None = None) -> Data:
    graph = load(source, data_root).graphs
    assert isinstance(graph, Data)
    return graph


def assert_equal_to_pyg(root: Path, name: str) -> Data:
    expected, found = Planetoid(str(root / "Planetoid"), name)[0], one(name, root)
    assert set(expected.keys()) == set(found.keys()) - {"labelled_mask"} == KEYS
    for key in KEYS:
        assert found[key].dtype == expected[key].dtype
        assert torch.equal(found[key], expected[key]), key
    return found


@pytest.fixture
def copy(data_root: Path, nowhere: Path) -> Path:
    """A copy of Cora's raw files that may be damaged, and no other place to find them."""
    raw = nowhere / "Planetoid" / "Cora" / "raw"
    shutil.copytree(data_root / "Planetoid" / "Cora" / "raw", raw)
    for path in raw.iterdir():
        path.chmod(0o644)
    return nowhere


@pytest.fixture
def citeseer(nowhere: Path) -> Path:
    """A root with a small CiteSeer whose test nodes have gaps, as the real one's have."""
    raw = nowhere / "Planetoid" / "CiteSeer" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    known, train, test = 540, 12, np.array([547, 540, 545, 542, 544])
    features = (random.random((known + len(test), 9)) < 0.3).astype(np.float32)
    labels = np.eye(4, dtype=np.int32)[random.integers(4, size=known + len(test))]
    graph: defaultdict[int, list[int]] = defaultdict(list, {node: [] for node in range(int(test.max()) + 1)})
    for a, b in random.integers(known, size=(900, 2)).tolist():
        graph[a].append(b)
        graph[b].append(a)
    graph[545] += [3, 3, 545]
    graph[3].append(545)
    parts = {
        "x": csr_matrix(features[:train]),
        "allx": csr_matrix(features[:known]),
        "tx": csr_matrix(features[known:]),
        "y": labels[:train],
        "ally": labels[:known],
        "ty": labels[known:],
        "graph": graph,
    }
    for part, content in parts.items():
        (raw / f"ind.citeseer.{part}").write_bytes(pickle.dumps(content, protocol=4))
    (raw / "ind.citeseer.test.index").write_text("".join(f"{node}\n" for node in test))
    return nowhere


def test_cora_is_the_published_graph(data_root: Path) -> None:
    before = state(data_root / "Planetoid")
    data = one("Cora", data_root)
    assert (data.num_nodes, data.num_edges) == (2708, 10556)
    assert int(data.x.count_nonzero()) == 49216
    assert data.y.bincount().tolist() == [351, 217, 418, 818, 426, 298, 180]
    assert [int(data[f"{part}_mask"].sum()) for part in ("train", "val", "test")] == [140, 500, 1000]
    assert load("cora", data_root).notes == ()
    assert state(data_root / "Planetoid") == before, "raw data must not be written to"


def test_cora_equals_pyg(copy: Path) -> None:
    assert_equal_to_pyg(copy, "Cora")


def test_citeseer_with_gaps_equals_pyg(citeseer: Path) -> None:
    data = assert_equal_to_pyg(citeseer, "CiteSeer")
    assert data.num_nodes == 548
    assert not data.x[[541, 543, 546]].any()
    assert load("CiteSeer", citeseer).notes == (
        "3 nodes have neither features nor a label in the files: their features are zeros, no split has them",
    )


@pytest.mark.parametrize("kind", ["random", "public", "stratified-kfold"])
def test_nodes_without_a_label_are_on_no_side(citeseer: Path, kind: str) -> None:
    data = one("CiteSeer", citeseer)
    absent = {541, 543, 546}
    assert set((~data.labelled_mask).nonzero().flatten().tolist()) == absent
    for seed in range(4):
        task = make_task(NODES, [data], SplitSpec(kind, seed, 0.2, 0.2))
        assert isinstance(task, NodeClassification)
        parts = [set(part.tolist()) for part in (task.train_nodes, task.validation_nodes, task.test_nodes)]
        assert not absent & set.union(*parts)
        if kind != "public":
            assert sum(map(len, parts)) == len(set.union(*parts)) == 545
        if kind == "random":
            assert [len(part) for part in parts] == [327, 109, 109]


def test_where_all_nodes_have_a_label_the_split_is_what_it_was(data_root: Path) -> None:
    data = one("Cora", data_root)
    task = make_task(NODES, [data], SplitSpec("random", 3, 500, 500))
    expected = random_split(2708, 500, 500, 3)
    assert "labelled_mask" not in data
    assert isinstance(task, NodeClassification)
    assert tuple(task.train_nodes.tolist()) == expected.train
    assert tuple(task.test_nodes.tolist()) == expected.test


def test_environment_variable_is_searched(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNCOMPRESS_DATA", str(copy))
    assert one("Cora").num_nodes == 2708


def test_fingerprint_follows_the_content(citeseer: Path) -> None:
    before = fingerprint("citeseer", citeseer)
    assert len(bytes.fromhex(before)) == 32
    assert fingerprint("CiteSeer", citeseer) == before
    file = citeseer / "Planetoid" / "CiteSeer" / "raw" / "ind.citeseer.test.index"
    file.write_text(file.read_text() + "\n")
    assert fingerprint("CiteSeer", citeseer) != before


def test_file_cut_short_is_named(copy: Path) -> None:
    file = copy / "Planetoid" / "Cora" / "raw" / "ind.cora.allx"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DatasetError, match=r"ind\.cora\.allx: damaged or cut short \(1,000 bytes"):
        load("Cora", copy)


def test_file_without_checksum_cut_short_is_named(citeseer: Path) -> None:
    file = citeseer / "Planetoid" / "CiteSeer" / "raw" / "ind.citeseer.graph"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DatasetError, match=r"ind\.citeseer\.graph: damaged or cut short \("):
        load("CiteSeer", citeseer)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.marker}",)


def test_pickle_that_is_not_the_published_one_is_never_opened(copy: Path) -> None:
    marker = copy / "executed"
    (copy / "Planetoid" / "Cora" / "raw" / "ind.cora.x").write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(DatasetError, match=r"ind\.cora\.x: damaged"):
        load("Cora", copy)
    assert not marker.exists()


@pytest.mark.parametrize("part", ["x", "allx", "ty", "graph"])
def test_pickle_that_asks_for_code_is_refused(citeseer: Path, part: str) -> None:
    marker = citeseer / "executed"
    file = citeseer / "Planetoid" / "CiteSeer" / "raw" / f"ind.citeseer.{part}"
    file.write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(DatasetError, match=rf"ind\.citeseer\.{part}: asks for (posix|nt)\.system"):
        load("CiteSeer", citeseer)
    assert not marker.exists()


def broken_csr() -> csr_matrix:
    matrix = csr_matrix(np.eye(3, dtype=np.float32))
    matrix.indices[0] = 1_000_000
    return matrix


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("allx", broken_csr(), r"allx: damaged, holds no matrix \("),
        ("x", np.zeros((5, 9)), r"citeseer\.x: 5 found where the other files say 12"),
        ("allx", [1, 2], r"allx: damaged, holds no matrix \("),
        ("allx", csr_matrix(np.full((3, 3), 1j)), r"allx: damaged, holds no matrix \(complex128 instead of .* real"),
        ("tx", np.full((5, 9), 1e39), r"tx: damaged, holds no matrix of finite numbers"),
        ("tx", np.zeros((0, 9)), r"tx: damaged, holds no matrix of finite numbers"),
        ("ty", np.zeros((10**9, 0), dtype="S1"), r"ty: damaged, holds no matrix \(\|S1 instead of"),
        ("ally", np.zeros(3), r"ally: damaged, holds no matrix of finite numbers"),
        ("tx", np.full((5, 9), np.nan), r"tx: damaged, holds no matrix of finite numbers"),
        ("ally", np.zeros((3, 4)), r"ally: 3 found where the other files say 540"),
        ("tx", np.zeros((5, 2)), r"tx: 2 found where the other files say 9"),
        ("ty", np.zeros((5, 2)), r"ty: 2 found where the other files say 4"),
        ("tx", np.zeros((4, 9)), r"tx: 4 found where the other files say 5"),
        ("ty", np.zeros((4, 4)), r"ty: 4 found where the other files say 5"),
        ("graph", [[1], [0]], r"graph: damaged, holds no lists of neighbours"),
        ("graph", {0: [1], 1: ["a"]}, r"graph: damaged, holds no lists of neighbours"),
        ("graph", {0: [99999]}, r"graph: an edge ends outside the other files' 548 nodes"),
        ("test.index", b"540\n541\nx\n", r"test\.index: line 3: 'x' found where 1 whole number should be"),
        ("test.index", b"540\n-1\n", r"test\.index: line 2: '-1' is not the number of a further node"),
        ("test.index", b"540\n540\n", r"test\.index: line 2: '540' is not the number of a further node"),
        ("test.index", b"", r"test\.index: empty; restore it"),
        ("test.index", b"541\n542\n543\n544\n545\n", r"test\.index: 541 found where the other files say 540"),
        ("test.index", b"540\n541\n542\n543\n9540541\n", r"test\.index: node 9,540,541 is far beyond the others"),
    ],
)
def test_contradictions_are_named(citeseer: Path, part: str, content: object, message: str) -> None:
    file = citeseer / "Planetoid" / "CiteSeer" / "raw" / f"ind.citeseer.{part}"
    file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=4))
    with pytest.raises(DatasetError, match=message) as caught:
        load("CiteSeer", citeseer)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(copy: Path) -> None:
    (copy / "Planetoid" / "Cora" / "raw" / "ind.cora.ty").unlink()
    with pytest.raises(DatasetError, match=r"raw: ind\.cora\.ty missing"):
        load("Cora", copy)


def test_unknown_name_is_refused(nowhere: Path) -> None:
    with pytest.raises(DatasetError, match="data set nell: no Planetoid network has that name; there are Cora, Cite"):
        load("nell", nowhere)


@pytest.mark.parametrize(("call", "name"), [(load, "Cora"), (fingerprint, "CiteSeer")])
def test_without_files_or_network_it_says_what_to_do(nowhere: Path, call: object, name: str) -> None:
    assert callable(call)
    with pytest.raises(DatasetError) as caught:
        call(name, nowhere)
    message = str(caught.value)
    files = [file.replace("cora", name.lower()) for file in CORA]
    for part in (*files, "no network", str(nowhere / "cache" / "Planetoid" / name / "raw"), "-d digits"):
        assert part in message
    assert not list((nowhere / "cache" / "Planetoid").iterdir()), "nothing half-downloaded may stay"


def test_published_files_have_their_fingerprint_before_they_are_there(data_root: Path, nowhere: Path) -> None:
    raw = data_root / "Planetoid" / "Cora" / "raw"
    assert fingerprint("Cora", nowhere) == locations.fingerprint(path for path in raw.iterdir() if path.name in CORA)


def test_download_lands_in_the_cache(data_root: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = []

    def online(url: str, folder: Path) -> Path:
        urls.append(url)
        return Path(shutil.copy(data_root / "Planetoid" / "Cora" / "raw" / url.rpartition("/")[2], folder))

    monkeypatch.setattr(locations, "fetch", online)
    assert one("Cora").num_nodes == 2708
    assert one("Cora").num_nodes == 2708
    assert sorted(urls) == [f"{Planetoid.url}/{file}" for file in sorted(CORA)]
    assert sorted(path.name for path in (nowhere / "cache" / "Planetoid" / "Cora" / "raw").iterdir()) == sorted(CORA)


def test_download_of_something_else_is_not_kept(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def portal(url: str, folder: Path) -> Path:
        (folder / url.rpartition("/")[2]).write_text("<html>please log in</html>")
        return folder / url.rpartition("/")[2]

    monkeypatch.setattr(locations, "fetch", portal)
    with pytest.raises(DatasetError, match=r"no download \(what arrived is not the published file\)"):
        load("Cora")
    assert not list((nowhere / "cache" / "Planetoid").iterdir())
