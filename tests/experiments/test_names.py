"""A data set's name means one set from the command line to the loaded graphs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gnncompress
from gnncompress.datasets import find_dataset, load_dataset, locations
from gnncompress.datasets.moleculenet import LAYOUTS
from gnncompress.datasets.tudataset_files import NAMES
from gnncompress.errors import DatasetError, UsageError
from gnncompress.experiments.building import load_task
from gnncompress.experiments.workloads import WORKLOADS, workload
from tests.experiments.helpers import asked

GRAPHS, SIZE = 40, 4


def write_tu(root: Path, name: str) -> None:
    """Write rings of two classes; what class a ring has, its nodes' label and attribute tell."""
    raw = root / "TUDataset" / name / "raw"
    raw.mkdir(parents=True)
    rings, places = range(GRAPHS), range(SIZE)
    parts = {
        "A": "".join(f"{SIZE * g + i + 1}, {SIZE * g + (i + 1) % SIZE + 1}\n" for g in rings for i in places),
        "graph_indicator": "".join(f"{g + 1}\n" * SIZE for g in rings),
        "graph_labels": "".join(f"{g % 2}\n" for g in rings),
        "node_labels": "".join(f"{g % 2}\n" * SIZE for g in rings),
        "node_attributes": "".join(f"{g % 2}.5\n" * SIZE for g in rings),
    }
    for part, text in parts.items():
        (raw / f"{name}_{part}.txt").write_text(text)


def write_molecules(root: Path, name: str, header: str, row: str) -> None:
    raw = root / "MoleculeNet" / name / "raw"
    raw.mkdir(parents=True)
    rows = [row.format(smiles="C" * (n // 2 + 2) + "NO"[n % 2], label=n % 2) for n in range(GRAPHS)]
    file = LAYOUTS[name].file if name in LAYOUTS else "set.csv"
    (raw / file).write_text("\n".join([header, *rows]))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets of both collections, some of which have the name of another; nothing else, and no network."""

    def offline(*_: object) -> Path:
        raise OSError("no network")

    monkeypatch.delenv("GNNCOMPRESS_DATA", raising=False)
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(locations, "fetch", offline)
    for name in ("AIDS", "Letter-high", "digits", "bbbp", "Towers"):
        write_tu(tmp_path, name)
    write_molecules(tmp_path, "esol", "label,smiles", "{label},{smiles}")
    for name in ("proteins", "towers"):
        write_molecules(tmp_path, name, "smiles,label", "{smiles},{label}")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "canonical", "width"),
    [
        ("tu:AIDS", "aids", 3),
        ("TU:aids", "aids", 3),
        ("Aids", "aids", 3),
        ("tu:AIDS-labels", "aids-labels", 2),
        ("aids-Labels", "aids-labels", 2),
        ("letter-HIGH", "letter-high", 3),
        ("tu:Letter-high", "letter-high", 3),
        ("tu:digits", "tu:digits", 3),
        ("tu:BBBP", "tu:bbbp", 3),
        ("tu:towers", "tu:Towers", 3),
        ("Towers", "tu:Towers", 3),
        ("towers-labels", "tu:Towers-labels", 2),
        ("tu:Towers-labels", "tu:Towers-labels", 2),
        ("esol", "esol", 9),
        ("MoleculeNet:ESOL", "esol", 9),
        ("moleculenet:Proteins", "moleculenet:proteins", 9),
        ("moleculenet:TOWERS", "moleculenet:towers", 9),
    ],
)
def test_a_name_is_one_set_from_the_spec_to_the_graphs(root: Path, name: str, canonical: str, width: int) -> None:
    chain = asked(name, data_root=root, features="raw", device="cpu")
    assert chain.workload.dataset == find_dataset(canonical, root).name == canonical
    assert chain == asked(canonical, data_root=root, features="raw", device="cpu")
    task = load_task(chain.workload, root)
    assert (task.features, task.outputs) == (width, 2)
    assert len(load_dataset(name, root).as_list()) == GRAPHS


def test_every_published_name_stands_for_itself() -> None:
    for prefix, published in (("tu", NAMES), ("moleculenet", LAYOUTS)):
        for name in published:
            entry = find_dataset(f"{prefix}:{name}")
            assert entry == find_dataset(name) == find_dataset(name.upper())
            assert entry.name == name.lower()
            assert entry.source == name


def test_what_is_nowhere_keeps_its_collection_and_spelling(root: Path) -> None:
    entry = find_dataset("tu:Yeast", root)
    assert (entry.name, entry.source) == ("tu:Yeast", "Yeast")  # as the server spells it
    with pytest.raises(DatasetError, match=r"data set yeast: no raw files and no download .* put Yeast_A\.txt"):
        asked("tu:Yeast", data_root=root)
    with pytest.raises(UsageError, match="unknown dataset 'yeast'"):
        asked("Yeast", data_root=root)
    with pytest.raises(UsageError, match="unknown dataset 'esol-labels'"):
        asked("esol-labels", data_root=root)


def test_a_named_workloads_data_set_goes_by_any_of_its_names() -> None:
    for name in ("PROTEINS", "tu:Proteins"):
        assert workload(name, name="proteins") == WORKLOADS["proteins"]
    with pytest.raises(UsageError, match="--dataset moleculenet:PROTEINS: workload proteins has proteins; leave out"):
        workload("moleculenet:PROTEINS", name="proteins", data_root=Path("/nowhere"))


def test_an_experiment_looks_in_its_data_root(root: Path) -> None:
    found = gnncompress.experiment(
        "towers-labels", "gin", output=root / "runs", data_root=root, epochs=1, energy="none", device="cpu"
    )
    assert found["spec"]["workload"]["dataset"] == "tu:Towers-labels"
    assert json.dumps(found)
