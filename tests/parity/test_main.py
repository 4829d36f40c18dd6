"""The command's exit status, its words and its file, with answers made up instead of workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.parity import __main__ as command
from tests.parity.__main__ import chosen, main
from tests.parity.intended import Intended
from tests.parity.sides import ParityError, Side, checkout_root
from tests.parity.specs import SPECS, Command, Spec

LOSS = Intended("the loss is given in bits from now on", spec="toy", item="out", place="loss")
STALE = Intended("rows of energy are gone", spec="toy", item="row", place="inference/energy*")
Run = Callable[..., tuple[int, str, dict[str, Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command on made-up outputs; status, printed text and the file come back."""
    specs = [Spec("toy", (Command("train --json", shows="json"),)), Spec("other", (Command("methods"),))]
    monkeypatch.setenv("GNNCOMPRESS_DATA", str(tmp_path))
    monkeypatch.setattr(command, "commit_of", lambda root, revision: "c" * 40)
    monkeypatch.setattr(command, "described", lambda root: "dddd")
    monkeypatch.setattr(command, "python_for", lambda *trees: Path("python"))
    monkeypatch.setattr(command, "extract", lambda root, commit, tree: tree.mkdir(parents=True))
    monkeypatch.setattr(command, "chosen", lambda only: specs[:1] if only else specs)

    def carried_out(out: str, intended: Sequence[Intended] = (), *options: str) -> tuple[int, str, dict[str, Any]]:
        def carry_out(
            sides: Sequence[Side], specs: Sequence[Spec], jobs: int, finished: Callable[[Side, Spec, Any], None]
        ) -> None:
            for spec in specs:
                for side in sides[:: 1 if spec.name == "toy" else -1]:  # either may be the first to answer
                    text = out if (side.name, spec.name) == ("new", "toy") else '{"loss": 1}'
                    done = [{"code": 0, "out": text, "err": "", "runs": []}]
                    side.folder.mkdir(exist_ok=True)
                    finished(side, spec, {"done": done, "files": {}, "error": "", "seconds": 1.0})

        monkeypatch.setattr(command, "carry_out", carry_out)
        monkeypatch.setattr(command, "INTENDED", tuple(intended))
        folder = tmp_path / f"work{len(list(tmp_path.iterdir()))}"
        status = main(["HEAD~1", "--workdir", str(folder), *options])
        return status, capsys.readouterr().out, json.loads((folder / "parity.json").read_text())

    return carried_out


def test_equal_sides_are_told_as_such(run: Run) -> None:
    status, said, file = run('{"loss": 1}')
    assert status == 0
    assert "equal: 0 unintended differences" in said
    assert [(spec["name"], spec["lines"], spec["differences"]) for spec in file["specs"]] == [
        ("toy", 1, []),
        ("other", 1, []),
    ]


def test_a_difference_fails(run: Run) -> None:
    status, said, file = run('{"loss": 2}')
    assert status == 1
    assert "DIFFERENT toy[1] out loss: 1 -> 2" in said
    assert file["specs"][0]["differences"][0]["intended"] is None
    assert file["specs"][0]["differences"][0]["old"] == "1"


def test_an_intended_difference_is_told_with_its_reason(run: Run) -> None:
    status, said, file = run('{"loss": 2}', [LOSS])
    assert status == 0
    assert LOSS.reason in said
    assert "DIFFERENT" not in said
    assert file["specs"][0]["differences"][0]["intended"] == LOSS.reason


def test_a_stale_entry_fails_a_full_run_only(run: Run) -> None:
    status, said, file = run('{"loss": 2}', [LOSS, STALE])
    assert status == 1
    assert "STALE intended entry (spec=toy item=row place=inference/energy*)" in said
    assert file["stale"][0]["reason"] == STALE.reason
    status, said, _ = run('{"loss": 2}', [LOSS, STALE], "--only", "toy")
    assert status == 0
    assert "STALE" not in said


def test_a_broken_spec_fails(run: Run) -> None:
    status, said, _ = run("")
    assert status == 1
    assert "DIFFERENT toy[1] out no json" in said


def test_outputs_are_kept_where_they_are_wanted(run: Run, tmp_path: Path) -> None:
    for out, options, kept in (
        ('{"loss": 1}', (), False),
        ('{"loss": 2}', (), True),
        ('{"loss": 1}', ("--keep",), True),
    ):
        run(out, (), *options)
        newest = max(tmp_path.glob("work*"), key=lambda folder: int(folder.name.removeprefix("work")))
        assert (newest / "new").exists() == kept


def test_specs_are_chosen_by_name() -> None:
    assert chosen(None) == list(SPECS)
    assert [spec.name for spec in chosen("report, usage")] == ["report", "usage"]
    with pytest.raises(ParityError, match="nonsuch: no such spec"):
        chosen("report,nonsuch")


def test_the_command_says_in_one_line_what_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["HEAD", "--only", "nonsuch"]) == 2
    assert "no such spec" in capsys.readouterr().err
    monkeypatch.delenv("GNNCOMPRESS_DATA", raising=False)
    assert main(["HEAD"]) == 2
    assert "set GNNCOMPRESS_DATA" in capsys.readouterr().err
    monkeypatch.setenv("GNNCOMPRESS_DATA", str(tmp_path))
    monkeypatch.setattr(command, "commit_of", lambda root, revision: "c" * 40)
    assert main(["HEAD", "--workdir", str(checkout_root())]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["--list"]) == 0
    assert "prune-global" in capsys.readouterr().out
