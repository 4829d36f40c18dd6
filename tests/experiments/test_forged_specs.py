"""Specs that were damaged or forged are named in one line, before anything is measured."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gnncompress.errors import ResultsError, UsageError
from gnncompress.experiments.comparing import Settings, compare
from tests.experiments.helpers import asked

SPEC = asked("digits").dump()


def refused(folder: Path, match: str) -> None:
    with pytest.raises(
        ResultsError, match=rf"spec\.json: is no spec of this version of gnncompress \(.*{match}"
    ) as told:
        compare(folder, folder, None, Settings(energy="none"))
    assert "\n" not in str(told.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"[1]", "holds a list"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 200_000, "nested too deep"),
        (b"\xff\xfe", "codec"),
        (b"", "Expecting value"),
        (b"{}", "Field required"),
    ],
)
def test_a_spec_that_is_none(text: bytes, match: str, folder: Path) -> None:
    (folder / "spec.json").write_bytes(text)
    refused(folder, match)


@pytest.mark.parametrize("seed", [2**32, 10**30, -1, 0.5, "x", None, [0]])
def test_a_seed_that_no_generator_takes(seed: Any, folder: Path) -> None:
    workload = SPEC["workload"]
    for forged in ({**workload, "seed": seed}, {**workload, "split": {**workload["split"], "seed": seed}}):
        (folder / "spec.json").write_text(json.dumps({**SPEC, "workload": forged}))
        refused(folder, "seed")


@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir, lambda place: place.symlink_to("/dev/zero")])
@pytest.mark.parametrize("name", ["spec.json", "model.safetensors"])
def test_what_is_no_file_is_not_waited_for(put: Callable[[Path], None], name: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    put(folder / name)
    with pytest.raises(ResultsError, match=r"has no (spec\.json|model\.safetensors)"):
        compare(folder, folder, None, Settings(energy="none"))


def test_a_negative_seed_of_a_comparison_is_refused() -> None:
    with pytest.raises(UsageError, match="--seed -1: must be at least 0"):
        Settings(seed=-1)


def test_a_folder_that_another_user_keeps_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ResultsError, match=rf"{folder}: cannot be read \(Permission denied\)"):
        compare(folder, folder, None, Settings(energy="none"))
