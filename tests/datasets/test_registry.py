from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gnncompress.datasets import DATASETS, find_dataset, fingerprint, load_dataset, registry
from gnncompress.errors import DatasetError, UsageError
from gnncompress.measurements import GRAPHS, MULTILABEL, TASKS

REAL = ["cora", "proteins", "proteins-labels", "bbbp"]


def check_statistics(name: str, root: Path | None) -> None:
    graphs = load_dataset(name, root).as_list()
    found = {
        "graphs": len(graphs),
        "nodes": sum(graph.num_nodes for graph in graphs),
        "edges": sum(graph.num_edges for graph in graphs),
        "features": graphs[0].num_features,
        "classes": len({float(label) for graph in graphs for label in graph.y.flatten()}),
    }
    assert dict(DATASETS[name].statistics) == found


@pytest.mark.parametrize("name", ["digits", "digits-grid"])
def test_embedded_statistics_are_the_declared_ones(name: str) -> None:
    check_statistics(name, None)


@pytest.mark.parametrize("name", REAL)
def test_statistics_are_the_declared_ones(name: str, data_root: Path) -> None:
    check_statistics(name, data_root)


@pytest.mark.parametrize("name", [entry.name for entry in DATASETS])
def test_every_entry_is_complete(name: str) -> None:
    entry = find_dataset(name)
    assert entry.summary
    assert any(character.isdigit() for character in entry.citation)
    assert entry.tasks
    assert set(entry.tasks) <= set(TASKS)
    assert callable(entry.load())
    assert name == name.lower()


def test_statistics_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = DATASETS["digits"]
    wrong = dataclasses.replace(entry, statistics={**entry.statistics, "edges": 7})
    monkeypatch.setattr(registry, "find_dataset", lambda *_: wrong)
    with pytest.raises(DatasetError, match="data set digits: 19,858 edges loaded where 7 are expected"):
        load_dataset("digits")


def test_names_of_every_form() -> None:
    assert find_dataset("Cora").name == "cora"
    assert find_dataset("MUTAG").source == "MUTAG"
    assert find_dataset("tu:Letter-high").source == "Letter-high"
    assert find_dataset("moleculenet:esol").tasks == (GRAPHS, MULTILABEL)
    assert find_dataset("bbbp").tasks == (GRAPHS,)
    assert find_dataset("enzymes-labels").source == "ENZYMES:labels"
    assert find_dataset("tox21").tasks == (MULTILABEL,)
    with pytest.raises(UsageError, match=r"unknown dataset 'citeser'; did you mean citeseer\?"):
        find_dataset("citeser")
    with pytest.raises(UsageError, match="unknown dataset 'cora-labels'; did you mean"):
        find_dataset("cora-labels")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A TUDataset with node labels, one with nothing but edges, and a MoleculeNet set, under names of their own."""
    for name in ("Towers", "Bare_Rings"):
        raw = tmp_path / "TUDataset" / name / "raw"
        raw.mkdir(parents=True)
        graphs, size = 40, 4
        edges = [(size * g + i + 1, size * g + (i + 1) % size + 1) for g in range(graphs) for i in range(size)]
        edges += [(b, a) for a, b in edges]
        (raw / f"{name}_A.txt").write_text("".join(f"{a}, {b}\n" for a, b in edges))
        (raw / f"{name}_graph_indicator.txt").write_text("".join(f"{g + 1}\n" * size for g in range(graphs)))
        (raw / f"{name}_graph_labels.txt").write_text("".join(f"{1 if g % 2 else -1}\n" for g in range(graphs)))
        if name == "Towers":
            labels = "".join(f"{5 + g % 2}\n" * size for g in range(graphs))
            (raw / f"{name}_node_labels.txt").write_text(labels)
    raw = tmp_path / "MoleculeNet" / "smells" / "raw"
    raw.mkdir(parents=True)
    lines = ["name,smiles,fruity,rotten"]
    for number in range(40):
        smiles = "C" * (number % 20 + 2) + ("O" if number % 2 else "N")
        lines.append(f'"no. {number}, pure",{smiles},{number % 2},{"" if number % 5 == 0 else (number // 2) % 2}')
    (raw / "smells.csv").write_text("\n".join([*lines, "x,not a molecule,1,0"]))
    return tmp_path


def test_names_are_not_special(own: Path) -> None:
    towers, rings = (load_dataset(name, own).as_list() for name in ("towers", "bare_rings"))
    assert [len(towers), len(rings)] == [40, 40]
    assert towers[1].x.tolist() == [[0, 1]] * 4
    assert [int(graph.y) for graph in towers[:3]] == [0, 1, 0]
    assert rings[0].x.tolist() == [[0, 0, 1]] * 4, "one-hot degrees stand in for features"
    molecules = load_dataset("smells", own)
    assert len(molecules.as_list()) == 40
    assert molecules.as_list()[0].y.shape == (1, 2)
    assert any("1 of 41 rows left out" in note and "not a molecule" in note for note in molecules.notes)
    assert find_dataset("TOWERS", own).tasks == (GRAPHS,)


def test_they_train_by_the_command_line(own: Path, cli: object) -> None:
    for options in (["-d", "towers", "-m", "gnnnet"], ["-d", "smells", "--task", MULTILABEL, "-m", "gin"]):
        result = cli("train", *options, "--epochs", 2, "--data-root", own, "-o", own / "runs", "--json")  # type: ignore[operator]
        assert result.code == 0, result.err
        assert result.json["runs"][0]["spec"]["workload"]["data"]
    result = cli("train", "-d", "smells", "--epochs", 2, "--data-root", own, "-o", own / "runs")  # type: ignore[operator]
    assert result.code == 1
    assert "use --task multilabel-graph-classification" in result.err


def test_fingerprint_follows_the_files(own: Path) -> None:
    before = fingerprint("towers", own)
    assert before == fingerprint("Towers", own)
    file = own / "TUDataset" / "Towers" / "raw" / "Towers_graph_labels.txt"
    file.write_text(file.read_text().replace("-1", "0"))
    assert fingerprint("towers", own) != before
    assert fingerprint("digits") == ""


@pytest.mark.parametrize("others", [(), ("README.md", "my_table.CSV.txt")])
@pytest.mark.parametrize("at_home", [True, False])
@pytest.mark.parametrize(
    ("name", "folder", "missing"),
    [
        ("tu:AIDS", "TUDataset/AIDS", "AIDS_A.txt, AIDS_graph_indicator.txt, AIDS_graph_labels.txt"),
        ("moleculenet:esol", "MoleculeNet/esol", "delaney-processed.csv"),
        ("moleculenet:mine", "MoleculeNet/mine", "one CSV file with a column called smiles"),
        ("cora", "Planetoid/Cora", "ind.cora.x, ind.cora.tx"),
        ("pubmed", "Planetoid/PubMed", "ind.pubmed.x, ind.pubmed.tx"),
    ],
)
def test_a_raw_folder_without_its_files_is_named(
    nowhere: Path, name: str, folder: str, missing: str, at_home: bool, others: tuple[str, ...]
) -> None:
    raw = nowhere / ("cache" if at_home else "mine") / folder / "raw"
    raw.mkdir(parents=True)
    for other in others:
        (raw / other).write_text("1, 2\n")
    (raw / "set.csv").mkdir()
    with pytest.raises(DatasetError) as caught:
        load_dataset(name, nowhere / "mine")
    message = str(caught.value)
    assert missing in message
    assert "\n" not in message
    assert (f"{raw}: {missing}" if at_home else "no raw files and no download (") in message
    assert ("put the files there, or remove the folder" if at_home else "--data-root DIR") in message


OWN = """
import torch
from torch_geometric.data import Data, HeteroData, InMemoryDataset

edges = torch.tensor([[0, 1], [1, 0]])

class Set(InMemoryDataset):
    def __init__(self, graphs):
        super().__init__(None)
        self.data, self.slices = self.collate(graphs)

def data(): return Data(x=torch.ones(2, 1), edge_index=edges)
def several(): return Set([data(), data(), data()])
def one_of_a_set(): return Set([data()])
def listed(): return [data(), data()]
def empty(): return []
def hetero(): return HeteroData()
def text(): return "graph"
def outside(): return Data(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [-1]]))
def edgeless(): return Data(x=torch.ones(2, 1))
def floats(): return Data(x=torch.ones(2, 1), edge_index=edges.float())
def int_label(): return Data(x=torch.ones(2, 1), edge_index=edges, y=1)
def listed_edges(): return Data(x=torch.ones(2, 1), edge_index=[[0, 1], [1, 0]])
def listed_mask(): return Data(x=torch.ones(2, 1), edge_index=edges, train_mask=[True, False])
def coo(): return Data(x=torch.ones(2, 1).to_sparse(), edge_index=edges)
def csr(): return [data(), Data(x=torch.ones(2, 1).to_sparse_csr(), edge_index=edges)]
def bytes_of_edges(): return Data(x=torch.ones(2, 1), edge_index=edges.byte())
def far_batch(): return Data(x=torch.ones(2, 1), edge_index=edges, batch=torch.tensor([2**30, 2**30]))
def short_weights(): return [data(), Data(x=torch.ones(2, 1), edge_index=edges, edge_weight=torch.ones(1))]
def narrow(): return Data(x=torch.ones(2, 0), edge_index=edges)

class Late(InMemoryDataset):
    def len(self): return 2
    def get(self, index): raise RuntimeError("no such\\ngraph")

def late(): return Late(None)
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(OWN)
    return f"{tmp_path}/mine.py"


@pytest.mark.parametrize(("name", "count"), [("data", 1), ("several", 3), ("one_of_a_set", 1), ("listed", 2)])
def test_what_a_users_function_may_return(mine: str, name: str, count: int) -> None:
    graphs = load_dataset(f"{mine}:{name}").as_list()
    assert len(graphs) == count
    assert graphs[-1].x.tolist() == [[1.0], [1.0]]
    assert len(fingerprint(f"{mine}:{name}")) == 64


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "returns no graph"),
        ("hetero", "returns a HeteroData; it must return a torch_geometric Data"),
        ("text", "returns a str"),
        ("outside", r"graph 0 has 2 nodes and an edge to node 0 or from node -1; nodes are 0 to 1"),
        ("edgeless", r"graph 0 needs edge_index, integers \[2, E\]; it has none"),
        ("floats", r"it has torch.float32 \[2, 2\]"),
        ("int_label", r"mine.py:int_label: graph 0 has y of type int; make it a torch tensor"),
        ("listed_edges", r"graph 0 has edge_index of type list; make it a torch tensor"),
        ("listed_mask", r"graph 0 has train_mask of type list; make it a torch tensor"),
        ("coo", r"mine.py:coo: graph 0 has features x that are sparse; use x.to_dense\(\)"),
        ("csr", r"mine.py:csr: graph 1 has features x that are sparse; use x.to_dense\(\)"),
        (
            "bytes_of_edges",
            r"mine.py:bytes_of_edges: graph 0 needs edge_index, .* torch.uint8 \[2, 2\], which torch takes",
        ),
        ("far_batch", r"mine.py:far_batch: graph 0 has batch with graph numbers 1,073,741,824"),
        ("short_weights", r"mine.py:short_weights: graph 1 has edge_weight \[1\]; needed is \[2\]"),
        ("narrow", r"mine.py:narrow: graph 0 has features x without a column; set them, e.g. to one-hot degrees"),
    ],
)
def test_what_it_may_not_return(mine: str, name: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(f"{mine}:{name}")
    assert "\n" not in str(caught.value)


def test_a_data_set_that_raises_when_it_is_read(mine: str) -> None:
    with pytest.raises(UsageError, match=r"mine.py:late raised RuntimeError: no such graph \(mine.py, line \d+\)"):
        load_dataset(f"{mine}:late")
