from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from gnncompress.datasets import limits
from tests.datasets import bombs
from tests.memory import needs_account

MESSAGES = {
    "a label": r"node_labels.txt: 4 nodes times 268,435,456 one-hot columns, at most 10,000 columns are made; number",
    "a label of 2^63": r"node_labels.txt: 4 nodes times 18,446,744,073,709,551,616 one-hot columns",
    "twenty labels": "node_labels.txt: 4 nodes times 1,342,177,280 one-hot columns",
    "twenty columns": "node_labels.txt: 100,000 nodes times 8,000 columns are features of 3.0 GiB, at most 2.5",
    "a million attributes": "node_attributes.txt: 1,000,000 columns, at most 32,768 are read; leave some out",
    "four million attributes": "node_attributes.txt: line 1: longer than 4,194,304 characters",
    "a long row among short ones": "A.txt: line 2: '1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,' found where 2 whole",
    "short rows after a long one": "node_attributes.txt: line 2: '0' found where 30001 numbers should be",
    "a graph of a large number": "graph_indicator.txt: line 4: graph 4611686018427387904 follows graph 1",
    "many graphs": "graph_indicator.txt: 1,048,577 graphs, at most 1,048,576 are read; leave some out",
    "a node of a large number": "A.txt: line 1: an edge of nodes 1 and 4611686018427387904, but nodes are 1 to 4",
    "a line without end": "graph_indicator.txt: line 3: longer than 4,194,304 characters",
    "attributes without end": "node_attributes.txt: line 1: longer than 4,194,304 characters",
    "a molecule": "set.csv: line 2: a SMILES of 100,000 characters, at most 10,000 are read; leave it out",
    "2,001 atoms": "data set mine: line 3: a molecule of 2,001 atoms, at most 2,000 are read; leave it out",
    "many names": "set.csv: 1,000,002 columns, at most 32,768 are read; leave some out",
    "many fields": "set.csv: line 2: 4,000,001 fields under 2 column names; restore it",
    "a row of many lines": "set.csv: a row of more than 4,194,304 characters; restore it",
    "a row without end": "set.csv: a row of more than 4,194,304 characters; restore it",
    "a large shape": "allx: 2,147,483,648 columns, at most 32,768 are read; restore it",
    "a wide shape": "allx: 134,217,728 columns, at most 32,768 are read; restore it",
    "a call for an array": "allx: damaged or cut short",
    "a call for a matrix": "allx: damaged or cut short",
    "a call for a copy": "graph: damaged or cut short",
    "a memo": "graph: asks for 2,147,483,648 objects, more than the file has bytes; do not trust it",
    "a list named again": "graph: 10,000,000,000 neighbours, more than the file has bytes; restore it",
    "a test node": "test.index: line 2: '9999999999999999999999999999999999999999' found where 1 whole number",
    "a test node beyond": "test.index: node 4,611,686,018,427,387,904 is far beyond the others; restore it",
    "a pickle without end": "allx: 2,147,483,648 bytes, at most 268,435,456 are read; restore it",
    "categories": "400,000 nodes times 9,000 columns are features of 13.4 GiB, at most 2.5 are read; use --feat",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str, int]]:
    """What a process with little memory says of every bomb."""
    folder = tmp_path_factory.mktemp("bombs")
    bombs.write(folder)
    environment = {**os.environ, "GNNCOMPRESS_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "tests.datasets.bombs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, tuple[str, str, int]] = json.loads(done.stdout)
    return loaded


@needs_account
@pytest.mark.parametrize("name", MESSAGES)
def test_what_asks_for_too_much_is_refused_before_it_gets_it(found: dict[str, tuple[str, str, int]], name: str) -> None:
    kind, text, grown = found[name]
    assert (kind, MESSAGES[name] in text) == ("TaskError" if name == "categories" else "DatasetError", True), text
    assert "\n" not in text
    assert len(text) < 400
    assert grown < bombs.ROOM


def test_every_bomb_has_a_message() -> None:
    assert set(MESSAGES) == {"categories", *(name for kind in bombs.BOMBS.values() for name in kind)}


def test_features_by_hand() -> None:
    assert limits.too_wide(2**17, 5 * 2**10) == ""
    assert limits.too_wide(2**17, 5 * 2**10 + 1) == (
        "131,072 nodes times 5,121 columns are features of 2.5 GiB, at most 2.5 are read"
    )
    assert limits.too_wide(2**31, 2**31).startswith(
        "2,147,483,648 nodes times 2,147,483,648 columns are features of 17,"
    )
