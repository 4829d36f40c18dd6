"""What ``--help`` shows, what it costs, and names as people type them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from gnncompress.cli import _COMMANDS
from gnncompress.compression import flag_of, option_of
from gnncompress.methods import methods
from tests.cli.helpers import chain_of
from tests.conftest import Result, one_line

Cli = Callable[..., Result]
PANELS = {
    "train": ["What", "Training", "Measuring", "Output"],
    "prune": ["What", "How", "Training", "Measuring", "Output"],
    "quantize": ["What", "How", "Training", "Measuring", "Output"],
    "sensitivity": ["What", "How", "Training", "Output"],
    "lottery": ["What", "How", "Training", "Measuring", "Output"],
}


@pytest.mark.parametrize("command", PANELS)
def test_help_comes_in_panels(cli: Cli, command: str) -> None:
    shown = cli(command, "--help")
    assert shown.code == 0, shown.err
    found = re.findall(r"^╭─ (\w+) ─", shown.out, flags=re.MULTILINE)
    assert [panel for panel in found if panel != "Options"] == PANELS[command]


@pytest.mark.parametrize("command", ["prune", "quantize"])
def test_every_field_of_every_method_is_an_option_with_its_help(
    cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    shown = " ".join(cli(command, "--help").out.split())
    helps: dict[str, list[str]] = {}
    for method in methods(command):
        for one in fields(method):
            if not option_of(one).hidden:
                helps.setdefault(flag_of(one), []).append(option_of(one).help)
    assert len(helps) > 5
    for flag, texts in helps.items():
        assert flag in shown
        assert any(text in shown for text in texts), f"{flag} has the help of a field"


def test_help_lists_every_command_with_its_first_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    shown = cli("--help").out
    for name, command in _COMMANDS.items():
        (line,) = re.findall(rf"^│ {name} +(.*?) +│$", shown, flags=re.MULTILINE)
        assert line == command.help.splitlines()[0]
        assert line in cli(name, "--help").out, "its own help begins so"


def imported(*arguments: str) -> set[str]:
    """Return the modules that are imported once a command has ended."""
    code = (
        "import sys\n"
        "from gnncompress.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("command", [[], ["train"], ["prune"], ["quantize"], ["compare"], ["checkpoint", "inspect"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    found = imported(*command, "--help")
    assert not found & {"torch", "torch_geometric", "numpy", "pandas", "sklearn"}
    if not command:
        assert not found & {"gnncompress.methods", "gnncompress.experiments", "pydantic"}, "which commands import"


def test_a_command_completes_names(tmp_path: Path) -> None:
    def completed(words: str) -> list[str]:
        environment = {
            **os.environ,
            "_GNNCOMPRESS_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        code = "import sys; sys.argv = ['gnncompress']; from gnncompress.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path
        )
        return done.stdout.split()

    assert completed("gnncompress prune -d citi") == []
    assert completed("gnncompress prune -d cite") == ["citeseer"]
    assert completed("gnncompress train -m gi") == ["gin"]
    assert completed("gnncompress quantize --scheme ptq-int8,a2") == ["ptq-int8,a2q"]
    assert completed("gnncompress prune --method glo") == ["global"]
    assert completed("gnncompress train -w cora-") == ["cora-node", "cora-link"]
    assert completed("gnncompress quant") == ["quantize"]


def test_completion_is_offered_and_takes_two_lines(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = cli("--help").out
    assert [line.split()[1] for line in shown.splitlines() if "completion" in line] == [
        "--install-completion",
        "--show-completion",
    ]


def test_names_in_any_case_are_one_run(cli: Cli, tmp_path: Path) -> None:
    found = []
    for names in (
        ["-d", "digits", "-m", "gcn", "--task", "node", "--method", "global"],
        ["-d", "Digits", "-m", "GCN", "--task", "Node", "--method", "Global"],
        ["-w", "DIGITS"],
    ):
        options = ["-s", 0.5, "--no-finetune", "--epochs", 1, "--energy", "none", "-o", tmp_path, "--json"]
        result = cli("prune", *names, *options)
        assert result.code == 0, result.err
        found.append(result.json["runs"][0])
    assert len({run["run_id"] for run in found}) == 1
    workload = chain_of(found[0]).workload
    assert (workload.dataset, workload.model) == ("digits", "gcn")


def test_names_of_data_and_schemes_in_any_case(cli: Cli, data_root: Path) -> None:
    arguments = ["quantize", "-m", "GCN", "-d", "Cora", "--scheme", "DQ-INT8", "--data-root", data_root, "--dry-run"]
    shown = cli(*arguments)
    assert shown.code == 0, shown.err
    assert "cora, gcn, dq-int8" in shown.out
    assert cli("prune", "--method", "Fine-Grained", "--allocation", "erk", "--dry-run").code == 0


def test_quantize_takes_dq_int8_if_nothing_is_said(cli: Cli) -> None:
    plain = cli("quantize", "--dry-run")
    assert plain.code == 0, plain.err
    assert plain.out.startswith("digits, gcn, dq-int8\n")
    assert cli("quantize", "--scheme", "dq-int8", "--dry-run").out == plain.out


@pytest.mark.parametrize("flag", ["-m", "-d", "--train", "--loss", "--score"])
def test_a_file_without_a_function_says_to_name_one(
    cli: Cli, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_file.py").write_text("open('ran', 'w')\ndef load(): ...\ndef build(): ...\ndef _own(): ...\n")
    result = cli("train", flag, "my_file.py")
    assert result.code == 2
    one_line(result, "my_file.py: name a function in it, such as my_file.py:load; it has: load, build")
    assert not Path("ran").exists(), "nothing of it was run"
    missing = cli("train", flag, "nowhere.py")
    assert missing.code == 2
    one_line(missing, "nowhere.py: no such file")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["-m", "gcm"], ["unknown model 'gcm'", "did you mean gcn"]),
        (["-d", "Core"], ["unknown dataset 'core'", "did you mean cora"]),
        (["-w", "core-node"], ["unknown workload 'core-node'", "did you mean cora-node"]),
    ],
)
def test_near_misses_are_named(cli: Cli, arguments: list[str], parts: list[str]) -> None:
    result = cli("train", *arguments)
    assert result.code == 2
    one_line(result, *parts)
