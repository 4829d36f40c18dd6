from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
import torch

from gnncompress.datasets import DATASETS, load_dataset
from gnncompress.datasets.planetoid import CORA
from gnncompress.errors import DatasetError


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def copy(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of Cora's raw files that may be damaged, and no other place to find them."""
    shutil.copytree(data_root / "Planetoid" / "Cora" / "raw", tmp_path / "Planetoid" / "Cora" / "raw")
    for path in (tmp_path / "Planetoid" / "Cora" / "raw").iterdir():
        path.chmod(0o644)
    monkeypatch.delenv("GNNCOMPRESS_DATA", raising=False)
    return tmp_path


def test_cora_is_the_published_graph(data_root: Path) -> None:
    before = fingerprint(data_root / "Planetoid")
    data = load_dataset("cora", data_root)
    entry = DATASETS["cora"]
    assert (data.num_nodes, data.num_edges) == (entry.nodes, entry.edges) == (2708, 10556)
    assert int(data.x.count_nonzero()) == 49216
    assert data.y.bincount().tolist() == [351, 217, 418, 818, 426, 298, 180]
    assert fingerprint(data_root / "Planetoid") == before, "raw data must not be written to"


def test_environment_variable_is_searched(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNNCOMPRESS_DATA", str(copy))
    assert load_dataset("cora").num_nodes == 2708


def test_derived_data_outlives_its_raw_files_and_is_checked(copy: Path) -> None:
    first = load_dataset("cora", copy)
    assert torch.equal(load_dataset("cora", copy).x, first.x)


def test_file_cut_short_is_named(copy: Path) -> None:
    file = copy / "Planetoid" / "Cora" / "raw" / "ind.cora.allx"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DatasetError, match=r"ind\.cora\.allx: damaged or cut short \(1,000 bytes"):
        load_dataset("cora", copy)


def test_pickle_that_is_not_the_published_one_is_never_opened(copy: Path) -> None:
    marker = copy / "executed"

    class Evil:
        def __reduce__(self) -> object:
            return os.system, (f"touch {marker}",)

    import pickle

    (copy / "Planetoid" / "Cora" / "raw" / "ind.cora.x").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DatasetError, match=r"ind\.cora\.x: damaged"):
        load_dataset("cora", copy)
    assert not marker.exists()


def test_missing_file_is_named(copy: Path) -> None:
    (copy / "Planetoid" / "Cora" / "raw" / "ind.cora.ty").unlink()
    with pytest.raises(DatasetError, match=r"raw: ind\.cora\.ty missing"):
        load_dataset("cora", copy)


def test_without_files_or_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNNCOMPRESS_DATA", raising=False)
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(tmp_path / "cache"))

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("gnncompress.datasets.planetoid.Planetoid", offline)
    with pytest.raises(DatasetError) as caught:
        load_dataset("cora", tmp_path)
    message = str(caught.value)
    for part in (*CORA, "no network", str(tmp_path / "cache" / "Planetoid" / "Cora" / "raw"), "-d digits"):
        assert part in message
    assert not list((tmp_path / "cache" / "Planetoid").iterdir()), "nothing half-downloaded may stay"


def test_download_lands_in_the_cache(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gnncompress.datasets import planetoid

    monkeypatch.delenv("GNNCOMPRESS_DATA", raising=False)
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(tmp_path))
    genuine = planetoid.Planetoid
    calls = []

    def online(root: str, name: str) -> object:
        if not (Path(root) / name / "raw").exists():
            calls.append(root)
            shutil.copytree(data_root / "Planetoid" / name / "raw", Path(root) / name / "raw")
        return genuine(root, name)

    monkeypatch.setattr(planetoid, "Planetoid", online)
    assert load_dataset("cora").num_nodes == 2708
    assert load_dataset("cora").num_nodes == 2708
    assert len(calls) == 1
    assert sorted(path.name for path in (tmp_path / "Planetoid" / "Cora" / "raw").iterdir()) == sorted(CORA)


def test_statistics_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from gnncompress.datasets import registry

    wrong = dataclasses.replace(DATASETS["digits"], edges=7)
    monkeypatch.setattr(registry, "DATASETS", {"digits": wrong})
    with pytest.raises(DatasetError, match="data set digits: 19,858 edges loaded where 7 are expected"):
        load_dataset("digits")
