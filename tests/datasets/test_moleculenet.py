from __future__ import annotations

import builtins
import gzip
import math
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import MoleculeNet

from gnncompress.datasets import locations, moleculenet_cache, moleculenet_csv
from gnncompress.datasets.collated import Collated
from gnncompress.datasets.moleculenet import LAYOUTS, fingerprint, load
from gnncompress.errors import DatasetError


def write(root: Path, name: str, text: str, file: str = "set.csv") -> Path:
    folder = root / "MoleculeNet" / name / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(text.encode())
    return root


def graphs(source: str, root: Path | None = None) -> list[Data]:
    found = load(source, root).graphs
    assert isinstance(found, Collated)
    return list(found)


def assert_equal_to_pyg(found: list[Data], root: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping molecule")
        expected = MoleculeNet(str(root), name)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.smiles == other.smiles
        for key in ("x", "edge_index", "edge_attr", "y"):
            assert one[key].dtype == other[key].dtype
            assert torch.equal(one[key].nan_to_num(-7), other[key].nan_to_num(-7))


def test_bbbp_equals_pyg(data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(data_root / "MoleculeNet" / "bbbp" / "raw", tmp_path / "bbbp" / "raw")
    loaded = load("BBBP", data_root)
    found = list(loaded.graphs)
    assert_equal_to_pyg(found, tmp_path, "BBBP")
    assert (sum(graph.num_nodes for graph in found), sum(graph.num_edges for graph in found)) == (49068, 105842)
    assert torch.cat([graph.y for graph in found]).long().flatten().bincount().tolist() == [479, 1560]
    assert len({graph.canonical for graph in found}) == 1975
    left_out, repeated = loaded.notes
    assert left_out.startswith("11 of 2,050 rows left out, no graph can be made of their SMILES: O=N([O-])C1=C(CN=C1")
    assert " (line 61), " in left_out
    assert left_out.endswith(" (line 393) and 8 more")
    assert repeated == (
        "60 molecules occur more than once (124 rows; the labels of 10 differ): 1,975 distinct of 2,039"
    )


def test_second_load_needs_no_rdkit_work_and_is_equal(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("bbbp", data_root)

    def fail(*_: object) -> None:
        raise AssertionError("the cache must be used")

    monkeypatch.setattr(moleculenet_cache, "_graph", fail)
    second = load("bbbp", data_root)
    assert second.notes == first.notes
    for one, other in zip(first.graphs, second.graphs, strict=True):
        assert one.to_dict().keys() == other.to_dict().keys()
        assert (one.scaffold, one.canonical) == (other.scaffold, other.canonical)


def test_layouts_are_those_of_pyg() -> None:
    assert set(LAYOUTS) == set(MoleculeNet.names)
    for name, (_, download, file, smiles, labels) in MoleculeNet.names.items():
        layout, columns = LAYOUTS[name], list(range(700))
        assert (layout.download, layout.file, layout.smiles) == (download, f"{file}.csv", smiles)
        expected = columns[labels] if isinstance(labels, slice) else [columns[labels]]
        assert columns[layout.labels] == expected


def test_multi_task_labels_equal_pyg(nowhere: Path) -> None:
    text = "smiles,FDA_APPROVED,CT_TOX\nCCO,1,0\nc1ccccc1C,,1\n[Na+].[Cl-],0,\nC,,\n"
    write(nowhere, "clintox", text, "clintox.csv")
    shutil.copytree(nowhere / "MoleculeNet" / "clintox", nowhere / "pyg" / "clintox")
    found = graphs("ClinTox", nowhere)
    assert_equal_to_pyg(found, nowhere / "pyg", "ClinTox")
    assert [[math.isnan(value) for value in graph.y.flatten().tolist()] for graph in found] == [
        [False, False],
        [True, False],
        [False, True],
        [True, True],
    ]
    assert found[3].edge_index.shape == (2, 0)
    assert found[3].edge_attr.shape == (0, 3)


def test_other_set_by_hand(tmp_path: Path) -> None:
    text = (
        '\ufeffName,SMILES,"weight, g",active\r\n'
        '"ethanol, ""pure""",OCC,46.07,1\r\n'
        "\r\n"
        '"two\nlines",C1CC1[C@H](N)O,,0\r\n'
        "wrong,C(C)(C)(C)(C)C,1,1\r\n"
        "charged,[Fe+9],1,1\r\n"
        "nothing,,1,1\r\n"
        "again,CCO,46.07,0"
    )
    loaded = load("Mine", write(tmp_path, "mine", text))
    first, second, third = loaded.graphs
    assert first.smiles == "OCC"
    assert first.canonical == third.canonical == "CCO"
    assert first.y.tolist() == [[pytest.approx(46.07), 1]]
    assert first.y.dtype == torch.float32
    assert first.x.shape == (3, 9)
    assert first.edge_attr.shape == (4, 3)
    assert math.isnan(second.y[0, 0])
    assert [graph.scaffold for graph in loaded.graphs] == ["", "C1CC1", ""]
    assert loaded.notes == (
        "columns read as labels: weight, g, active",
        "3 of 6 rows left out, no graph can be made of their SMILES: "
        "C(C)(C)(C)(C)C (line 6), [Fe+9] (line 7), blank (line 8)",
        "1 molecule occurs more than once (2 rows; the labels of 1 differ): 2 distinct of 3",
    )


@pytest.mark.parametrize("header", ["mol", "Mol", "smiles"])
def test_smiles_column_goes_by_other_names(tmp_path: Path, header: str) -> None:
    assert len(graphs("mine", write(tmp_path, "Mine", f"{header},y\nC,1\n"))) == 1


def test_rdkit_says_nothing_and_can_speak_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from rdkit import Chem

    load("silent", write(tmp_path, "silent", "smiles,y\nC(C)(C)(C)(C)C,1\nCCCO,0\n"))
    assert capfd.readouterr() == ("", "")
    Chem.MolFromSmiles("C(C)(C)(C)(C)C")
    capfd.readouterr()


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("mine", "a.csv", "", r"a\.csv: empty"),
        ("mine", "a.csv", "\n , \n", r"a\.csv: empty"),
        ("mine", "a.csv", "smiles,y\n", r"a\.csv: no molecule after the header"),
        ("mine", "a.csv", "name,y\nC,1\n", r"a\.csv: no column called smiles or mol among name, y; rename one"),
        ("mine", "a.csv", "smiles,y\nC,yes\n", r"a\.csv: no column of numbers beside 'smiles' to take labels from"),
        ("mine", "a.csv", "smiles,y\nC,\n", r"a\.csv: no column of numbers"),
        ("mine", "a.csv", "smiles,y\nC,1\nC,1,2\n", r"a\.csv: line 3: 3 fields under 2 column names"),
        ("mine", "a.csv", "smiles,y\nC\n", r"a\.csv: line 2: 1 fields under 2 column names"),
        ("mine", "a.csv", f"smiles,y\nC,{'1' * 200_000}\n", r"a\.csv: after line \d+: no CSV text"),
        ("mine", "a.csv", "smiles,y\nX,1\n", r"data set mine: rdkit reads none of its 1 SMILES, such as X \(line 2\)"),
        (
            "bbbp",
            "BBBP.csv",
            "num,name,p_np,smiles\n1,a,maybe,C\n",
            r"csv: line 2, column 'p_np': 'maybe' is no number",
        ),
        ("bbbp", "BBBP.csv", "num,name,p_np,smiles\n1,a,inf,C\n", r"csv: line 2, column 'p_np': 'inf' is no number"),
        (
            *("bbbp", "BBBP.csv", "num,name,p_np,smiles\n1,a,1,C\n2,b,1e39,C\n"),
            r"csv: line 3, column 'p_np': '1e39' is no number",
        ),
        ("mine", "a.csv", f"smiles,y\nC,1\n{'C' * 10_001},1\n", r"a\.csv: line 3: a SMILES of 10,001 characters"),
        ("mine", "a.csv", f"smiles,y\nC,1\n{'C' * 2_001},1\n", r"line 3: a molecule of 2,001 atoms, at most 2,000"),
        ("bbbp", "BBBP.csv", "smiles,p_np\nC,1\n", r"csv: no column of SMILES: 'p_np' stands in its place"),
        ("clintox", "clintox.csv", "smiles,FDA_APPROVED\nC,1\n", r"csv: no column for every label among smiles, FDA"),
        ("bbbp", "BBBP.csv", "smiles\nC\n", r"csv: no column for every label among smiles"),
    ],
)
def test_damage_is_named(nowhere: Path, name: str, file: str, text: str, message: str) -> None:
    write(nowhere, name, text, file)
    with pytest.raises(DatasetError, match=message) as caught:
        load(name, nowhere)
    assert "\n" not in str(caught.value)


def test_file_of_another_encoding_is_named(nowhere: Path) -> None:
    write(nowhere, "mine", "smiles,y\n")
    (nowhere / "MoleculeNet" / "mine" / "raw" / "set.csv").write_bytes(b"smiles,y\nC,\xff\xfe\n")
    with pytest.raises(DatasetError, match=r"set\.csv: after line \d+: no CSV text \("):
        load("mine", nowhere)


def test_two_files_are_one_too_many(tmp_path: Path) -> None:
    write(tmp_path, "mine", "smiles,y\nC,1\n", "b.csv")
    write(tmp_path, "mine", "smiles,y\nC,1\n", "a.csv")
    with pytest.raises(DatasetError, match=r"raw: several CSV files: a\.csv, b\.csv; keep one"):
        load("mine", tmp_path)


def test_cache_follows_the_file_and_damage_to_it_is_named(nowhere: Path) -> None:
    write(nowhere, "mine", "smiles,y\nC,1\n")
    before = fingerprint("mine", nowhere)
    assert len(graphs("mine", nowhere)) == 1
    write(nowhere, "mine", "smiles,y\nC,1\nCC,0\n")
    assert fingerprint("mine", nowhere) != before
    assert len(graphs("mine", nowhere)) == 2
    for folder in (nowhere / "cache" / "derived").glob("moleculenet-mine-*"):
        (folder / "arrays.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DatasetError, match=r"moleculenet-mine-\w+: damaged .* remove this folder"):
        load("mine", nowhere)


def test_without_rdkit_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.partition(".")[0] == "rdkit":
            raise ImportError(name)
        return genuine(name, *rest)  # type: ignore[arg-type]

    write(tmp_path, "mine", "smiles,y\nC,1\n")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DatasetError, match="data set mine: molecules need rdkit; install it with pip install rdkit"):
        load("mine", tmp_path)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("BBBP", ("BBBP.csv", "no network", "-d digits")),
        ("Mine", ("one CSV file with a column called smiles", "no address is known for it", "-d digits")),
        ("../Mine", ("'../mine' is no name of a data set",)),
    ],
)
def test_without_files_or_network_it_says_what_to_do(nowhere: Path, name: str, parts: tuple[str, ...]) -> None:
    for call in (load, fingerprint):
        with pytest.raises(DatasetError) as caught:
            call(name, nowhere)
        for part in (*parts, str(nowhere / "cache" / "MoleculeNet" / name.lower() / "raw")):
            assert part in str(caught.value)
    assert not list((nowhere / "cache").glob("MoleculeNet/*"))


@pytest.mark.parametrize("packed", [False, True])
def test_download_lands_in_the_cache(nowhere: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    urls = []
    name, file = ("sider", "sider.csv.gz") if packed else ("bbbp", "BBBP.csv")
    header = ",".join(["smiles", *(f"task {task}" for task in range(27))]) if packed else "num,name,p_np,smiles"
    text = f"{header}\n{'C' + ',1' * 27 if packed else '1,methane,1,C'}\n".encode()

    def online(url: str, folder: Path) -> Path:
        urls.append(url)
        (folder / file).write_bytes(gzip.compress(text) if packed else text)
        return folder / file

    monkeypatch.setattr(locations, "fetch", online)
    assert len(graphs(name)) == len(graphs(name)) == 1
    assert urls == [MoleculeNet.url.format(file)]
    raw = nowhere / "cache" / "MoleculeNet" / name / "raw"
    assert [path.name for path in raw.iterdir()] == [file.removesuffix(".gz")]


def test_an_archive_that_unpacks_to_too_much_is_not_kept(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def online(url: str, folder: Path) -> Path:
        (folder / "sider.csv.gz").write_bytes(gzip.compress(bytes(3_000_000)))
        return folder / "sider.csv.gz"

    monkeypatch.setattr(locations, "fetch", online)
    monkeypatch.setattr(locations, "MOST_UNPACKED", 2_999_999)
    with pytest.raises(DatasetError, match=r"no download \(sider\.csv has more than 2,999,999 bytes\)"):
        load("sider")
    assert not list((nowhere / "cache" / "MoleculeNet").iterdir())


@pytest.mark.parametrize(("most_rows", "most_labels"), [(3, 100), (100, 9)])
def test_limits_of_rows_and_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_rows: int, most_labels: int
) -> None:
    monkeypatch.setattr(moleculenet_csv, "MOST_GRAPHS", most_rows)
    monkeypatch.setattr(moleculenet_csv, "MOST_NUMBERS", most_labels)
    write(tmp_path, "mine", "smiles,a,b,c\n" + "C,1,2,3\n" * 3)
    assert len(graphs("mine", tmp_path)) == 3
    write(tmp_path, "mine", "smiles,a,b,c\n" + "C,1,2,3\n" * 4)
    with pytest.raises(DatasetError, match=r"set\.csv: line 5: 4 rows of 3 labels, at most"):
        load("mine", tmp_path)


def test_archive_cut_short_is_not_kept(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(url: str, folder: Path) -> Path:
        (folder / "sider.csv.gz").write_bytes(gzip.compress(b"smiles,y\n" * 99)[:-12])
        return folder / "sider.csv.gz"

    monkeypatch.setattr(locations, "fetch", cut)
    with pytest.raises(DatasetError, match="data set sider: no raw files and no download"):
        load("sider")
    assert not list((nowhere / "cache" / "MoleculeNet").iterdir())
