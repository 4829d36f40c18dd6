"""``report`` of folders with copies of runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result, one_line
from tests.experiments.helpers import asked
from tests.reporting.test_reporting import write

Cli = Callable[..., Result]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for seed, accuracy in enumerate((0.8, 0.9)):
        write(tmp_path, asked("cora", "gcn", seed=seed), accuracy)
    shutil.copytree(tmp_path / asked("cora", "gcn", seed=1).id, tmp_path / "copy")
    return tmp_path


@pytest.mark.parametrize("style", ["table", "markdown", "csv", "latex", "json"])
def test_a_copy_changes_no_form_of_the_report(cli: Cli, copied: Path, style: str) -> None:
    with_copy = cli("report", copied, "--format", style)
    shutil.rmtree(copied / "copy")
    without = cli("report", copied, "--format", style)
    assert (with_copy.code, with_copy.err) == (0, "")
    assert with_copy.out == without.out


def test_a_run_measured_twice_is_one_line_of_warning(cli: Cli, copied: Path) -> None:
    file = copied / "copy" / "results.csv"
    file.write_text(file.read_text().replace("latency_median,0.0015", "latency_median,0.5"))
    result = cli("report", copied)
    assert result.code == 0
    (line,) = result.err.strip().splitlines()
    assert line.startswith("warning: run ")
    assert "measured more than once; it is counted once, as in" in line


def test_copies_that_disagree_are_one_line_of_error(cli: Cli, copied: Path) -> None:
    file = copied / "copy" / "results.csv"
    file.write_text(file.read_text().replace("accuracy,0.9", "accuracy,0.4"))
    result = cli("report", copied)
    assert result.code == 1
    one_line(result, "with different rows: evaluate.accuracy is", "copy/results.csv", "delete the one")
