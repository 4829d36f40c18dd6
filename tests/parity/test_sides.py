"""Trees, environments and workers, without any being made: what decides on them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.parity import sides
from tests.parity.sides import ParityError, Side, carry_out, checkout_root, commit_of, dependencies, python_for
from tests.parity.specs import Command, Spec

PYPROJECT = '[project]\nname = "x"\ndependencies = [\n    "numpy>=1",\n    "torch>=2",\n]\n[tool.x]\nlist = [\n]\n'


def tree(folder: Path, text: str = PYPROJECT) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_dependencies_are_read_from_this_project_too(tmp_path: Path) -> None:
    assert dependencies(tree(tmp_path / "one")) == {'"numpy>=1"', '"torch>=2"'}
    assert any(name.startswith('"torch-geometric') for name in dependencies(checkout_root()))
    with pytest.raises(ParityError, match="has no list of dependencies"):
        dependencies(tree(tmp_path / "none", "[project]\n"))


def test_equal_dependencies_are_run_with_this_python(tmp_path: Path) -> None:
    said: list[str] = []
    moved = PYPROJECT.replace('    "numpy>=1",\n    "torch>=2",\n', '    "torch>=2",\n    "numpy>=1",\n')
    found = python_for(tree(tmp_path / "a"), tree(tmp_path / "b", moved), tmp_path / "env", said.append)
    assert found == Path(sys.executable)
    assert "dependencies are equal" in said[0]


def test_other_dependencies_get_an_environment_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tree(tmp_path / "a", PYPROJECT.replace("torch>=2", "torch>=1")), tree(tmp_path / "b")
    said: list[str] = []
    ran: list[list[str]] = []

    class Ended:
        returncode, stderr = 0, ""

    monkeypatch.setattr(sides.subprocess, "run", lambda command, **more: ran.append(command) or Ended)
    assert python_for(old, new, tmp_path / "env", said.append) == tmp_path / "env" / "bin" / "python"
    assert ran[1][-1] == str(old)
    assert "torch>=1" in said[0]
    assert "torch>=2" in said[0]
    Ended.returncode, Ended.stderr = 1, "no index"
    with pytest.raises(ParityError, match="no index"):
        python_for(old, new, tmp_path / "env", said.append)


def test_a_side_has_its_own_package_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    one = Side("old", tmp_path / "tree", Path(sys.executable), tmp_path / "old").environment()
    assert one["PYTHONPATH"] == str(tmp_path / "tree")
    assert one["GNNCOMPRESS_CACHE"] == str(tmp_path / "old" / "cache")
    assert one["OMP_NUM_THREADS"] == "1"


def two_sides(folder: Path) -> list[Side]:
    return [Side(name, folder, Path(sys.executable), folder / name) for name in ("old", "new")]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_spec_is_carried_out_once_on_every_side(
    jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides.Worker, "carry_out", lambda self, spec: {"said": (self._side.name, spec.name)})
    told: dict[tuple[str, str], dict[str, Any]] = {}
    specs = [Spec(f"s{number}", (Command("methods"),)) for number in range(7)]

    def tell(side: Side, spec: Spec, answer: dict[str, Any]) -> None:
        assert (side.name, spec.name) not in told
        told[side.name, spec.name] = answer

    carry_out(two_sides(tmp_path), specs, jobs, tell)
    assert len(told) == 14
    assert all(answer["said"] == key for key, answer in told.items())


def test_what_goes_wrong_in_a_thread_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: sides.Worker, spec: Spec) -> dict[str, Any]:
        raise RuntimeError("broken")

    monkeypatch.setattr(sides.Worker, "carry_out", fail)
    with pytest.raises(RuntimeError, match="broken"):
        carry_out(two_sides(tmp_path), [Spec("s", ())], 1, lambda *told: None)


WORKERS: dict[str, tuple[str, Callable[[dict[str, Any]], bool]]] = {
    "dies": ("import sys; sys.stdin.readline(); sys.exit(3)", lambda found: "exit code 3" in found["error"]),
    "hangs": ("import time; time.sleep(600)", lambda found: "or took over 0.5 s" in found["error"]),
    "answers": (
        "import json, sys\nfor line in sys.stdin: print(json.dumps({'got': json.loads(line)}), flush=True)",
        lambda found: found["got"]["commands"] == [["methods"]],
    ),
}


@pytest.mark.parametrize("what", WORKERS)
def test_a_worker_that_dies_or_hangs_is_told_and_replaced(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, as_expected = WORKERS[what]
    file = tmp_path / "worker.py"
    file.write_text(script)
    monkeypatch.setattr(sides, "WORKER", file)
    monkeypatch.setattr(sides, "_LIMIT_S", 0.5 if what == "hangs" else 60.0)
    worker = sides.Worker(two_sides(tmp_path)[0])
    for _ in range(2):
        assert as_expected(worker.carry_out(Spec("s", (Command("methods"),))))
    worker.end()


def test_a_revision_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="nonsuch: no commit of"):
        commit_of(tmp_path, "nonsuch")
