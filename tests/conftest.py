"""What all tests share: one thread, a cache of their own, the command line in-process, the real data."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from hypothesis import settings

from gnncompress.cli import main

torch.set_num_threads(1)
settings.register_profile("gnncompress", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("gnncompress")


@dataclass(frozen=True)
class Result:
    """What a command did: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_cli(*arguments: object) -> Result:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    assert isinstance(code, int)
    return Result(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def cli() -> Callable[..., Result]:
    return run_cli


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's own cache out of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    patch = pytest.MonkeyPatch()
    patch.setenv("GNNCOMPRESS_CACHE", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real raw data."""
    named = os.environ.get("GNNCOMPRESS_DATA")
    if not named:
        pytest.skip("needs the raw data sets: set GNNCOMPRESS_DATA")
    return Path(named).resolve()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with finished runs on digits: two seeds, both methods, short training."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("global", "fine-grained"):
        arguments = ["--method", method, "--sparsity", "0.5", "--seeds", 2, "--epochs", 20, "--finetune-epochs", 5]
        result = run_cli("prune", *arguments, "--output", folder, "--quiet")
        assert result.code == 0, result.err
    return folder


def one_line(result: Result, *parts: str) -> None:
    """Insist that a command failed with one line on standard error, but for warnings, that holds all ``parts``."""
    lines = [line for line in result.err.strip().splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in result.err
