from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gnncompress.datasets import digits, fingerprint, keeping, kept, load_dataset, locations, tudataset
from gnncompress.datasets.collated import Collated, together
from tests.datasets.test_tudataset import write

Counter = Callable[[object, str], list[object]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Count the calls of a module's function."""

    def counted(module: object, name: str) -> list[object]:
        seen: list[object] = []
        original = getattr(module, name)

        def called(*arguments: Any) -> Any:
            seen.append(arguments)
            return original(*arguments)

        monkeypatch.setattr(module, name, called)
        return seen

    return counted


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    assert keeping._current.get() is None
    yield
    assert keeping._current.get() is None


def old(folder: Path) -> None:
    """Make files look as if they had been there for long: young ones are hashed each time."""
    for path in folder.rglob("*.txt"):
        os.utime(path, ns=(0, 0))


def test_a_data_set_is_read_once(nowhere: Path, calls: Counter) -> None:
    write(nowhere)
    reads = calls(tudataset, "load")
    with kept():
        first, second = load_dataset("tiny", nowhere), load_dataset("TINY", nowhere)
    assert len(reads) == 1
    assert isinstance(second.graphs, Collated)
    assert first.notes == second.notes
    load_dataset("tiny", nowhere)
    load_dataset("tiny", nowhere)
    assert len(reads) == 3, "outside nothing is kept"


def test_within_another_it_is_the_same(calls: Counter) -> None:
    reads = calls(digits, "load")
    with kept():
        load_dataset("digits")
        with kept():
            load_dataset("digits")
        load_dataset("digits")
    assert len(reads) == 1


def test_changed_files_are_read_again(nowhere: Path) -> None:
    write(nowhere)
    with kept():
        before, first = fingerprint("tiny", nowhere), load_dataset("tiny", nowhere)
        write(nowhere, node_attributes="9" * 3 + "".join("\n999" for _ in range(6)) + "\n")
        second = load_dataset("tiny", nowhere)
        assert fingerprint("tiny", nowhere) != before
    assert float(first.as_list()[0].x[0, 0]) == 0.5
    assert float(second.as_list()[0].x[0, 0]) == 999


def test_the_same_name_elsewhere_is_another_set(tmp_path: Path, nowhere: Path) -> None:
    one, other = write(nowhere / "one"), write(nowhere / "other", graph_labels="1\n1\n-1\n")
    with kept():
        assert [graph.y.item() for graph in load_dataset("tiny", one).as_list()] == [1, 0, 1]
        assert [graph.y.item() for graph in load_dataset("tiny", other).as_list()] == [1, 1, 0]


def test_the_last_two_are_kept(nowhere: Path, calls: Counter) -> None:
    for name in ("ONE", "TWO", "THREE"):
        write(nowhere, name)
    reads = calls(tudataset, "load")
    with kept():
        for name, expected in (("one", 1), ("two", 2), ("one", 2), ("three", 3), ("one", 3), ("two", 4)):
            load_dataset(name, nowhere)
            assert len(reads) == expected, name


def test_one_graph_is_everybodys_own() -> None:
    with kept():
        first = load_dataset("digits").graphs
        expected = first.clone()
        first.x.zero_()
        first.edge_index += 1
        first.y = None
        second = load_dataset("digits").graphs
    for name in ("x", "edge_index", "y"):
        assert torch.equal(second[name], expected[name])


@pytest.mark.parametrize("write_to", ["whole", "part", "detached"])
def test_shared_graphs_that_somebody_wrote_to_are_read_again(nowhere: Path, write_to: str) -> None:
    write(nowhere)
    with kept():
        graphs = load_dataset("tiny", nowhere).graphs
        x = {"whole": together(graphs, "x"), "part": graphs[1].x, "detached": graphs[1].x.detach()}[write_to]
        with torch.no_grad():
            x[0] = 77
        assert 77 in together(graphs, "x")
        assert 77 not in together(load_dataset("tiny", nowhere).as_list(), "x")


OWN = """
import torch
from torch_geometric.data import Data

class Mine(Data):
    pass

calls = []
edges = torch.tensor([[0, 1], [1, 0]])

def graph(): calls.append(1); return Data(x=torch.full((2, 1), float(len(calls))), edge_index=edges)
def graphs(): return [graph(), graph()]
def mine(): return [Mine(**graph().to_dict()), Mine(**graph().to_dict())]
"""


@pytest.mark.parametrize("name", ["graph", "graphs", "mine"])
def test_a_users_function_is_called_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "own.py").write_text(OWN + f"# {tmp_path}")
    with kept():
        first = load_dataset(f"{tmp_path}/own.py:{name}").as_list()
        first[0].y = torch.tensor([1])
        if name == "mine":
            first[0].x.zero_()
        second = load_dataset(f"{tmp_path}/own.py:{name}").as_list()
    assert second[0].x.tolist() == [[1.0], [1.0]]
    assert "y" not in second[0]
    assert type(second[0]) is type(first[0])
    assert load_dataset(f"{tmp_path}/own.py:{name}").as_list()[0].x.tolist() != [[1.0], [1.0]]


def test_threads_keep_nothing_of_others(calls: Counter) -> None:
    reads = calls(digits, "load")
    with kept():
        load_dataset("digits")
        thread = threading.Thread(target=load_dataset, args=("digits",))
        thread.start()
        thread.join()
    assert len(reads) == 2


def test_what_fails_is_tried_again(nowhere: Path) -> None:
    write(nowhere, A="1, 9\n")
    with kept():
        for _ in range(2):
            with pytest.raises(Exception, match="an edge of nodes 1 and 9"):
                load_dataset("tiny", nowhere)
        write(nowhere)
        assert len(load_dataset("tiny", nowhere).as_list()) == 3


def test_files_that_have_not_changed_are_hashed_once(nowhere: Path, calls: Counter) -> None:
    write(nowhere)
    old(nowhere)
    hashed = calls(locations, "_sha256")
    with kept(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping, "YOUNG_NS", -1)  # the files' ctime is now
        first = fingerprint("tiny", nowhere)
        assert fingerprint("tiny", nowhere) == first
        assert len(hashed) == 5
        write(nowhere, graph_labels="1\n1\n-1\n")
        assert fingerprint("tiny", nowhere) != first
        assert len(hashed) == 10, "all five files are new ones"
    fingerprint("tiny", nowhere)
    assert len(hashed) == 15


def test_young_files_are_hashed_each_time(nowhere: Path, calls: Counter) -> None:
    # A change within one tick of the file system's clock leaves size and times as they were.
    write(nowhere)
    hashed = calls(locations, "_sha256")
    with kept():
        fingerprint("tiny", nowhere)
        fingerprint("tiny", nowhere)
    assert len(hashed) == 10
