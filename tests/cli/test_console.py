"""The seam between text from outside and the terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.table import Table

from gnncompress.checkpoints import save_checkpoint
from gnncompress.cli import console, running
from gnncompress.cli.console import LiteralConsole, told
from gnncompress.cli.options import Output
from gnncompress.errors import TrainingError
from gnncompress.experiments.sweep import Observer
from gnncompress.measurements import Measurement, csv_rows
from tests.conftest import Result, one_line
from tests.experiments.helpers import asked

Cli = Callable[..., Result]
# Each as it comes and as it is shown.
HOSTILE = {
    "[/]": "[/]",
    "[red]x": "[red]x",
    ":smile:": ":smile:",
    "\x1b[2J\x1b]0;title\x07": "\\x1b[2J\\x1b]0;title\\x07",
    "a\rb": "a\\rb",
    "\x9b31m": "\\x9b31m",
    "\u202egnp": "\\u202egnp",
    "\udcff": "\\udcff",
}
names = pytest.mark.parametrize(("name", "shown"), HOSTILE.items())


def printed(what: object, **options: object) -> str:
    file = io.StringIO()
    LiteralConsole(file=file, width=100, force_terminal=True, color_system=None).print(what, **options)  # type: ignore[arg-type]
    return file.getvalue()


@names
def test_strings_print_as_they_are(name: str, shown: str) -> None:
    assert printed(name) == f"{shown}\n"
    table = Table(name, title=name, caption=name)
    table.add_row(name)
    text = printed(table)
    assert text.count(shown) == 4
    assert "\x1b" not in text


@names
def test_lines_for_people_are_one_line(name: str, shown: str) -> None:
    words = shown.replace("\\r", " ")
    assert printed(told("error", f"model {name}\n failed")) == f"error: model {words} failed\n"


@names
def test_a_hostile_argument_is_one_line(cli: Cli, name: str, shown: str) -> None:
    for arguments in ((name,), ("report", name), ("train", "-d", name), ("train", "-m", name), ("report", "-f", name)):
        result = cli(*arguments)
        assert result.code in (1, 2)
        one_line(result)
        assert all(one.isprintable() or one == "\n" for one in result.err)


@names
def test_a_bar_shows_hostile_labels(name: str, shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = io.StringIO()
    terminal = LiteralConsole(file=file, width=120, force_terminal=True, color_system=None)
    monkeypatch.setattr(running, "errors", terminal)
    chain = asked("digits")
    chain = replace(chain, workload=chain.workload.model_copy(update={"model": name}))

    class Sweep:
        """Starts a run, lets it fail and shows each on the bar."""

        def __init__(self, store: object, root: object, observer: Observer, outdated: str) -> None:
            self.observer = observer

        def run(self, chains: object) -> None:
            self.observer.planned(1)
            self.observer.started(chain)
            self.observer._bar.refresh()  # type: ignore[attr-defined]
            self.observer.warned(chain, name)
            self.observer.failed(chain, TrainingError(name))

    monkeypatch.setattr(running, "Sweep", Sweep)
    running.run_all([chain], None, Output(output=tmp_path))
    text = file.getvalue()
    words = f"digits {shown}".replace("\\r", " ") + " train seed 0 measure"
    assert f"warning: {words}: " in text
    assert f"failed: {words} ({chain.id}): " in text
    assert f"digits {shown} train seed 0" in text
    for one in ("[2J\x1b]", "\x07", "\x9b", "\u202e", "\udcff"):
        assert one not in text


def write(folder: Path, model: str) -> None:
    run = folder / ("0" * 16)
    run.mkdir()
    identity = ["0" * 16, "digits", "node-classification", model, "none", "", 0.0, "false", 0]
    rows = [Measurement("evaluate", "accuracy", 0.5, "fraction")]
    (run / "results.csv").write_bytes(csv_rows(identity, rows, header=True).encode("utf-8", "replace"))


@names
def test_a_report_of_hostile_names(cli: Cli, name: str, shown: str, tmp_path: Path) -> None:
    write(tmp_path, name)
    for style in ("table", "markdown", "latex", "csv", "json"):
        result = cli("report", tmp_path, "-f", style)
        assert result.code == 0, result.err
        assert all(one.isprintable() or one == "\n" for one in result.out)
        if style == "table" and name != "\udcff":
            assert shown in result.out


def test_a_report_of_damaged_files_is_one_line(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, "gcn")
    run = tmp_path / ("0" * 16)
    for text in (b"[1]", b"[" * 200_000, b"\xff"):
        (run / "spec.json").write_bytes(text)
        one_line(cli("report", tmp_path), "spec.json: cannot be read as a spec")
        one_line(cli("compare", run, run), "has no model.safetensors")


@pytest.mark.parametrize("name", ["[bold]", "[red]x", "a\x1b[2Jb", "x\u202ey"])
def test_names_of_files_and_tensors(cli: Cli, name: str, tmp_path: Path) -> None:
    save_checkpoint({name: torch.ones(3)}, tmp_path / name, {name: name, "\x7f\x9b": 1})
    for command in ("verify", "inspect"):
        result = cli("checkpoint", command, tmp_path / name)
        assert result.code == 0, result.err
        assert all(one.isprintable() or one == "\n" for one in result.out)
    (tmp_path / name).write_bytes(b"damaged")
    one_line(cli("checkpoint", "verify", tmp_path / name), console.visible(name))
