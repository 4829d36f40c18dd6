"""What every command prints fits the terminal, with every figure whole."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.cells import cell_len
from rich.console import Console

from gnncompress.checkpoints import inspect_checkpoint, save_checkpoint
from gnncompress.cli import compare, lottery, profile, sensitivity
from gnncompress.cli.console import errors, output
from gnncompress.cli.tables import width
from gnncompress.experiments.comparing import Compared, Comparison
from gnncompress.measurements import Measurement
from gnncompress.profiling.command import Ended
from gnncompress.profiling.comparison import Difference
from gnncompress.profiling.doctor import Finding
from gnncompress.reporting.lottery import verdicts
from tests.conftest import Result

WIDTHS = (40, 60, 80, 100, 200)
Cli = Callable[..., Result]


@pytest.fixture(params=WIDTHS)
def terminal(request: pytest.FixtureRequest) -> Iterator[int]:
    """A terminal of some width on standard output and standard error."""
    patch = pytest.MonkeyPatch()
    for console in (output, errors):
        patch.setattr(console, "_force_terminal", True)
        patch.setattr(console, "_color_system", None)
        patch.setattr(console, "_width", request.param)
    yield request.param
    patch.undo()


def fits(text: str, width: int, *figures: str) -> None:
    """Insist that no line is too long and every figure stands whole in a line, unless its column is named below."""
    lines = text.splitlines()
    assert max(map(cell_len, lines)) <= width, text
    assert "…" not in text
    for figure in figures:
        assert any(re.search(rf"(?<![\w.]){re.escape(figure)}(?![\w.])", line) for line in lines), figure


def left_out(text: str) -> set[str]:
    found = re.findall(r"left out: (.*?); shown in a wider terminal, or by", " ".join(text.split()))
    return set(", ".join(found).split(", ")) - {""}


@pytest.mark.parametrize("command", ["datasets", "models", "methods", "workloads"])
def test_lists(cli: Cli, terminal: int, command: str) -> None:
    result = cli(command)
    assert result.code == 0, result.err
    fits(result.out, terminal)
    if command == "workloads":
        fits(result.out, terminal, "69,143", "45,888", "4,810")


def test_report(cli: Cli, runs: Path, terminal: int) -> None:
    result = cli("report", runs)
    assert result.code == 0, result.err
    said = re.findall(r"\d\.\d{3} ± \d\.\d{3}", result.out)
    assert len(said) == 4, "the base, what was trained on as long, and two levels"
    fits(result.out, terminal, *said)
    every = {"size", "latency", "ratio", "constant", "non-zero", "memory", "CPU", "parameters", "seeds", "energy"}
    assert {name for name in every if name in result.out} == every, "in the table, above it, or named below"
    assert ("report --format csv" in " ".join(result.out.split())) == bool(left_out(result.out))


def test_checkpoints(cli: Cli, terminal: int, tmp_path: Path) -> None:
    names = ["a.very.long.path.of.modules.0.weight", "a.very.long.path.of.modules.1.weight"]
    save_checkpoint({name: torch.randn(300, 70) for name in names}, tmp_path / "m.safetensors")
    result = cli("checkpoint", "inspect", tmp_path / "m.safetensors")
    assert result.code == 0, result.err
    tensors = inspect_checkpoint(tmp_path / "m.safetensors").tensors
    fits(result.out, terminal, *(f"{one.stored:,}" for one in tensors))
    if "dense" not in left_out(result.out):
        fits(result.out, terminal, "84,000")
    if "shape" not in left_out(result.out):
        fits(result.out, terminal, "300 x 70")


def test_doctor(cli: Cli, terminal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("--energy rapl", True, "package-1 12.3 W (rapl), dram 1.25 W (rapl)"), Finding("x", False, "no")]
    monkeypatch.setattr("gnncompress.profiling.doctor.examine", lambda: found)
    fits(cli("doctor").out, terminal, "12.3 W", "1.25 W", "yes", "no")


def test_comparisons(terminal: int, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = "0123456789abcdef", "fedcba9876543210"
    log = math.log
    figures = [
        Compared("accuracy", "fraction", 0.9361, 0.9417, Difference(0.0056, -0.0012, 0.0123), "measured", ratio=False),
        Compared("latency_median", "s", 0.0167, 0.1245, Difference(log(7.455), log(5.01), log(9.52)), "measured"),
        Compared("checkpoint_size", "bytes", 8698, 19240, None, "measured"),
    ]
    compare._show(Comparison(a, b, 0.99, figures))
    out = capsys.readouterr().out
    numbers = (
        "16.7 ms",
        "124.5 ms",
        "0.9361",
        "8,698 bytes",
        "x 7.455",
        "5.01",
        "9.52",
        "+0.0056",
        "-0.0012",
        "x 2.21",
    )
    table = out[: out.index("B against A, with")]
    fits(table, terminal, *numbers, a, b)


def test_lottery(terminal: int, capsys: pytest.CaptureFixture[str]) -> None:
    arms = {"dense": 0.9, "ticket": 0.91, "reinit": 0.8, "random": 0.7}
    scores = pd.DataFrame(
        {"arm": arm, "round": number, "sparsity": 1 - 0.8**number, "seed": seed, "value": value + 0.001 * seed}
        for arm, value in arms.items()
        for number in ([0] if arm == "dense" else range(1, 40))
        for seed in range(3)
    )
    table = verdicts(scores)
    lottery._print(
        table, pd.DataFrame({"metric": [], "setting": pd.Series([], dtype=str), "sparsity": [], "value": []})
    )
    out = capsys.readouterr().out
    fits(out, terminal, "0.911 ± 0.001")
    rows = [line for line in out.splitlines() if "0.911 ± 0.001" in line]
    assert len(set(rows)) == 39, "rounds of 0.999 of zeros are told apart by their number"


def test_sensitivity(terminal: int, capsys: pytest.CaptureFixture[str]) -> None:
    levels = [0.1 * number for number in range(1, 10)]
    layers = ["convs.0.module.lin_rel.weight", "convs.1.module.lin_rel.weight"]
    curves = pd.DataFrame(
        {"layer": layer, "weights": 123_456, "sparsity": level, "score_drop": level / 7, "loss_rise": level}
        for layer in layers
        for level in levels
    )
    sensitivity._print(curves, dict.fromkeys(layers, 0.512), 0.5)
    out = capsys.readouterr().out
    fits(out, terminal, "0.512")
    for level in levels:
        if f"{level:g}" not in left_out(out):
            fits(out, terminal, f"{100 * level / 7:.1f}")


def test_profiles(terminal: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Measurement("profile", "memory_peak_process", 123_456_789, "bytes"),
        Measurement("profile", "cpu", 99.5, "%"),
    ]
    profile._show(Ended(0, rows, []))
    fits(capsys.readouterr().err, terminal, "123.5 MB", "99.5 %")


def test_a_file_has_no_width(cli: Cli, runs: Path) -> None:
    assert width(Console(width=30)) == 10_000
    out = cli("report", runs).out
    assert "CPU" in out
    assert not left_out(out)
