"""Everything that takes a run takes its folder, or the first digits of its id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gnncompress
from gnncompress.checkpoints import load_checkpoint, save_checkpoint
from gnncompress.errors import ResultsError, UsageError
from gnncompress.experiments.finding import find_run, model_file
from tests.cli.helpers import chains_in
from tests.conftest import Result, one_line

Cli = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``runs`` with models whose names are alike, where the user is."""
    monkeypatch.chdir(tmp_path)
    for name in ("0123456789abcdef", "0123ffffffffffff", "fedcba9876543210"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        save_checkpoint({"w": torch.ones(3)}, tmp_path / "runs" / name / "model.safetensors")
    (tmp_path / "runs" / "fe00000000000000").mkdir()  # with no model, such as one that failed
    return tmp_path


def test_first_digits_of_one_run(folder: Path) -> None:
    runs, holding = Path("runs"), "model.safetensors"
    for text in ("f", "fedc", "FEDC", "fedcba9876543210"):
        assert find_run(text, runs, holding) == runs / "fedcba9876543210"
    assert find_run("01234", runs, holding) == runs / "0123456789abcdef"
    with pytest.raises(UsageError, match="0123: 2 runs in runs begin so: 0123456789abcdef, 0123ffffffffffff; give"):
        find_run("0123", runs, holding)
    with pytest.raises(ResultsError, match="abc: no such file or folder, and no run in runs begins so"):
        find_run("abc", runs, holding)
    with pytest.raises(ResultsError, match="abc: no such file or folder, and no run in nowhere begins so"):
        find_run("abc", Path("nowhere"), holding)


def test_a_path_is_a_path(folder: Path) -> None:
    Path("f").write_text("a file of that name")
    assert find_run("f", Path("runs"), "model.safetensors") == Path("f")
    assert find_run("runs/x", Path("runs"), "model.safetensors") == Path("runs/x"), "which is for others to refuse"
    assert model_file(Path("runs/fedcba9876543210")) == Path("runs/fedcba9876543210/model.safetensors")
    assert model_file(Path("runs")) == Path("runs")


def test_checkpoint_commands_take_a_run(cli: Cli, folder: Path) -> None:
    for run in ("fedc", "runs/fedcba9876543210", "runs/fedcba9876543210/model.safetensors"):
        for command in (["inspect"], ["verify"]):
            result = cli("checkpoint", *command, run)
            assert result.code == 0, result.err
        assert cli("checkpoint", "unpack", run, "back.pt", "--force").code == 0
        assert torch.equal(torch.load("back.pt", weights_only=True)["w"], torch.ones(3))
        assert cli("checkpoint", "diff", run, "01234").out == "1 tensors are the same, 0 differ\n"
    Path("runs").rename("others")
    one_line(
        cli("checkpoint", "verify", "fedc"), "fedc: no such file or folder, and no run in runs begins so", "--runs"
    )
    assert cli("checkpoint", "verify", "fedc", "--runs", "others").code == 0
    ambiguous = cli("checkpoint", "verify", "0123", "--runs", "others")
    assert ambiguous.code == 2
    one_line(ambiguous, "0123: 2 runs in others begin so: 0123456789abcdef, 0123ffffffffffff; give more digits")


def test_reports_and_comparisons_take_a_run(cli: Cli, runs: Path) -> None:
    measured = [name for name, chain in chains_in(runs).items() if chain.measure and chain.workload.seed == 0]
    a, b = measured[:2]

    def short(name: str) -> str:
        names = [other for other in chains_in(runs) if other != name]
        return next(name[:n] for n in range(1, 17) if not any(other.startswith(name[:n]) for other in names))

    by_digits = cli("report", short(a), "--runs", runs, "--format", "csv")
    assert by_digits.code == 0, by_digits.err
    assert by_digits.out == cli("report", runs / a, "--format", "csv").out
    assert len(by_digits.out.splitlines()) == 2
    options = ["--rounds", 5, "--seconds", 0.05, "--energy", "none", "--json"]
    compared = cli("compare", short(a), short(b), "--runs", runs, *options)
    assert compared.code == 0, compared.err
    assert (compared.json["a"], compared.json["b"]) == (a, b)
    missing = cli("compare", short(a), "0" * 16, "--runs", runs)
    assert missing.code == 1
    one_line(missing, f"{'0' * 16}: no such file or folder, and no run in {runs} begins so")


def test_load_model_takes_a_folder(runs: Path) -> None:
    name = next(name for name, chain in chains_in(runs).items() if chain.measure)
    model = gnncompress.load_model(runs / name)
    state = load_checkpoint(runs / name / "model.safetensors")
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    with pytest.raises(gnncompress.GnncompressError, match="a folder, not a file"):
        gnncompress.load_model(runs)
