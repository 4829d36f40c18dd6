"""A user's own training loop, loss and metric: ``--train``, ``--loss`` and ``--score``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.helpers import chain_of, chains_in
from tests.conftest import Result, one_line

Cli = Callable[..., Result]
MINE = """
import torch
from torch.nn import functional as F

def train(model, batches, loss, epochs, learning_rate, phase, seed):
    with open("log", "a") as log:
        log.write(f"{phase} {epochs} {seed}\\n")
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for batch in batches():
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()

def loss(model, batch, data):
    out = model(data.x, data.edge_index)[batch]
    return F.cross_entropy(out, data.y[batch], label_smoothing=0.1)

def score(truth, outputs):
    return float((outputs.argmax(1) == truth).mean()) + 1
"""
OWN = ["--train", "my_file.py:train", "--loss", "my_file.py:loss", "--score", "my_file.py:score"]
FAST = ["--energy", "none", "--json"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("my_file.py").write_text(MINE)
    return tmp_path


def test_training_and_fine_tuning_are_the_users_own(cli: Cli, folder: Path) -> None:
    result = cli("prune", *OWN, "-s", "0,0.5", "--epochs", 6, "--finetune-epochs", 3, *FAST)
    assert result.code == 0, result.err
    assert Path("log").read_text().splitlines() == ["train 6 0", "finetune 3 0", "finetune 3 0"]
    base, pruned, control = result.json["runs"]
    for run in (base, pruned, control):
        metrics = run["metrics"]
        assert metrics["evaluate.score"] == pytest.approx(metrics["evaluate.accuracy"] + 1)
        assert chain_of(run).workload.own["train"] == "my_file.py:train"
    assert pruned["metrics"]["compress.sparsity"] >= 0.5, "pruned weights stay zero in the user's loop"
    quantized = cli("quantize", *OWN, "--scheme", "qat-int8", "--epochs", 6, "--finetune-epochs", 3, *FAST)
    assert quantized.code == 0, quantized.err
    assert Path("log").read_text().splitlines()[3:] == ["finetune 3 0"], "the base model is there already"
    records = json.loads(cli("report", "--format", "json").out)
    assert {record["metric"] for record in records} == {"score"}
    assert all(record["quality_mean"] > 1 for record in records)
    compared = cli(
        "compare", f"runs/{base['run_id']}", f"runs/{pruned['run_id']}",
        *("--rounds", 5, "--seconds", 0.05, "--energy", "none", "--trust", "--json"),
    )  # fmt: skip
    assert compared.code == 0, compared.err
    judged = {one["metric"]: one for one in compared.json["figures"]}
    assert judged["score"]["a"] == pytest.approx(base["metrics"]["evaluate.score"])
    assert "accuracy" not in judged


def test_other_code_of_the_users_is_another_model(cli: Cli, folder: Path) -> None:
    found = []
    for text in (MINE, MINE + "\n# changed\n"):
        Path("my_file.py").write_text(text)
        result = cli("train", "--train", "my_file.py:train", "--epochs", 1, *FAST)
        assert result.code == 0, result.err
        found.append(chain_of(result.json["runs"][0]).model.id)
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("code", "flag", "parts"),
    [
        ("def f(model, batches, wheel): ...", "--train", ["my_file.py:f wants wheel; it may take any of: model"]),
        (
            "def f(model): raise ValueError('no')",
            "--train",
            ["f raised ValueError: no (my_file.py, line 1)"],
        ),
        ("def f(model, batch): return 7", "--loss", ["my_file.py:f returns 7; it must return a tensor of one number"]),
        ("def f(truth): return float('nan')", "--score", ["my_file.py:f returns nan; it must return a finite number"]),
        ("def g(): ...", "--score", ["my_file.py has no 'f'; it has: g"]),
    ],
)
def test_what_is_wrong_with_it_is_one_line(cli: Cli, code: str, flag: str, parts: list[str], folder: Path) -> None:
    Path("my_file.py").write_text(code)
    result = cli("train", flag, "my_file.py:f", "--epochs", 1, *FAST[:2])
    assert result.code in (1, 2)
    one_line(result, *parts)
    assert not chains_in(folder / "runs")
