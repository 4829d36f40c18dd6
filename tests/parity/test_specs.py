"""The specs touch every command, method, scheme and task of the package, and can be carried out."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from typer.main import get_command

from gnncompress.cli import app
from tests.parity.specs import SPECS, Command, Spec

COMMANDS = [command for spec in SPECS for command in spec.commands]
LINES = [command.line for command in COMMANDS]


def test_names_are_unique_and_plain() -> None:
    names = [spec.name for spec in SPECS]
    assert len(set(names)) == len(names) >= 40
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


def test_every_command_is_touched() -> None:
    root: Any = get_command(app)
    context = typer.Context(root)
    inner = {name: getattr(root.resolve_command(context, [name])[1], "commands", {}) for name in root.commands}
    known = {(name, *more) for name in inner for more in ([(one,) for one in inner[name]] or [()])}
    assert ("checkpoint", "inspect") in known
    touched = {tuple(command.arguments[: 2 if inner.get(command.arguments[0]) else 1]) for command in COMMANDS}
    assert known <= touched


def values(option: str) -> set[str]:
    """Return the values that some command gives to an option, those with commas apart."""
    given = re.compile(rf"(?:^|\s){option}[ =](\S+)")
    return {value for line in LINES for found in given.findall(line) for value in found.split(",")}


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("--method", {"global", "fine-grained", "l2", "structured"} - {"global"}),
        ("--allocation", {"uniform", "erk", "lamp-score", "global", "budgets.json"}),
        ("--importance", {"gradient", "taylor", "random", "l1"}),
        ("--calibration", {"minmax", "percentile", "mse", "observer"}),
        ("--scheme", {"fp32", "ptq-int8", "ptq-int4", "qat-int8", "qat-int4", "dq-int8", "dq-int4", "a2q"}),
        ("--execute", {"integer"}),
        ("--split", {"public", "random", "stratified-kfold", "hgpsl", "scaffold"}),
        ("--task", {"link", "graph", "multilabel"}),
        ("--format", {"markdown", "latex", "csv", "json"}),
        ("--energy", {"none", "codecarbon"}),
    ],
)
def test_every_choice_is_touched(option: str, wanted: set[str]) -> None:
    assert wanted <= values(option)


@pytest.mark.parametrize(
    "flag",
    [
        *("--no-finetune", "--finetune-epochs", "--min-keep", "--steps", "--rate", "--seeds", "--seed", "--split-seed"),
        *("--features", "--set", "--data-root", "--batch-size", "--quick", "--energy-seconds", "--country", "--device"),
        *(
            "--keep-float",
            "--prune-sparsity",
            "--head-bits",
            "--granularity",
            "--official-protocol",
            "--groups",
            "--config",
        ),
        *("--observer", "--gradient", "--draw", "--protect", "--protect-more", "--target-bits", "--dry-run", "--json"),
        *("--rounds", "--rewind", "--prune-edges", "--target", "--write", "--output", "--codec", "--label"),
    ],
)
def test_every_option_is_touched(flag: str) -> None:
    assert any(flag in line.split() for line in LINES)


def test_files_are_named_once_and_forms_are_known() -> None:
    for spec in SPECS:
        assert {form for _, form in spec.keeps} <= {"text", "json", "csv", "tensors"}
        assert {command.shows for command in spec.commands} <= {"text", "json", "csv", "nothing"}


@pytest.mark.parametrize("spec", [spec for spec in SPECS if "usage" not in spec.name], ids=lambda spec: spec.name)
def test_files_that_commands_name_are_there(spec: Spec) -> None:
    text = " ".join(command.line for command in spec.commands)
    for name in ("my_file.py", "data/MoleculeNet"):
        named = name in text or (name.startswith("data/") and "--data-root data" in text)
        assert named == any(file.startswith(name) for file, _ in spec.files)


def test_words_of_a_command_are_split_as_by_a_shell() -> None:
    assert Command("profile -- sh -c 'exit 3'").arguments == ["profile", "--", "sh", "-c", "exit 3"]
