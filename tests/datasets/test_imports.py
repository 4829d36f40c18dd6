"""What a command that trains nothing imports of these rooms: nothing that takes seconds."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gnncompress
from tests.datasets.test_tudataset import write

HEAVY = ("torch", "torch_geometric", "sklearn", "scipy", "pandas", "rdkit", "numba")
AFTER = f"import sys; found = set({HEAVY!r}) & set(sys.modules); assert not found, found"


def light(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{AFTER}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_names_and_fingerprints_need_no_torch(nowhere: Path) -> None:
    write(nowhere)
    molecules = nowhere / "MoleculeNet" / "mine" / "raw"
    molecules.mkdir(parents=True)
    (molecules / "mine.csv").write_text("smiles,label\nC,1\n")
    (nowhere / "own.py").write_text("raise RuntimeError('not to be run')")
    light(
        f"""
from pathlib import Path
from gnncompress.datasets import find_dataset, fingerprint, kept
with kept():
    for name in ("digits", "cora", "tiny", "mine", "{nowhere}/own.py:build"):
        find_dataset(name, Path("{nowhere}"))
        fingerprint(name, Path("{nowhere}"))
"""
    )


@pytest.mark.parametrize("module", ["gnncompress.models", "gnncompress.tasks.splits", "gnncompress.tasks.recipe"])
def test_what_a_plan_needs_imports_no_torch(module: str) -> None:
    light(f"import {module}")


def test_scikit_learn_and_rdkit_wait_until_they_are_needed() -> None:
    # Read, not run: what imports PyG takes seconds to start.
    for path in Path(gnncompress.__file__).parent.rglob("*.py"):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            imported = statement.names if isinstance(statement, ast.Import) else []
            if isinstance(statement, ast.ImportFrom):
                imported = [ast.alias(statement.module or "")]
            names = {name.name.partition(".")[0] for name in imported}
            assert not {"sklearn", "rdkit"} & names, path
