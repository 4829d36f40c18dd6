"""Chains of methods by the command line: ``prune -s 0.5 --then quantize --scheme ptq-int8``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gnncompress.cli.then import following, take_following
from gnncompress.compression import CompressionMethod
from tests.cli.helpers import chain_of, chains_in, models_in
from tests.conftest import Result, one_line

Cli = Callable[..., Result]
FAST = ["--epochs", 2, "--energy", "none", "--json"]


def test_pruned_then_quantized_is_three_stages(cli: Cli, tmp_path: Path) -> None:
    result = cli("prune", "-s", 0.5, *FAST, "-o", tmp_path, "--then", "quantize", "--scheme", "ptq-int8")
    assert result.code == 0, result.err
    (run,) = result.json["runs"]
    chain = chain_of(run)
    assert [stage.stage for stage in chain.stages] == ["train", "compress", "compress", "measure"]
    assert [one.method for one in chain.compressions] == ["global", "quantize"]
    assert (chain.scheme, chain.sparsity) == ("ptq-int8", 0.5)
    assert run["metrics"]["compress.sparsity"] >= 0.5
    assert run["metrics"]["compress.bits_average_weights"] < 9
    made = models_in(tmp_path)
    assert len(made) == 3
    plain = cli("quantize", "--prune-sparsity", 0.5, "--scheme", "ptq-int8", *FAST, "-o", tmp_path)
    assert [one["run_id"] for one in plain.json["runs"]] == [run["run_id"]], "which says the same"
    assert models_in(tmp_path) == made


def test_train_takes_methods_that_follow(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", *FAST, "-o", tmp_path, "--then", "prune", "-s", 0.4, "--then", "quantize")
    assert result.code == 0, result.err
    chain = chain_of(result.json["runs"][0])
    assert [one.method for one in chain.compressions] == ["global", "quantize"]
    assert chain.sparsity == 0.4
    assert chain.scheme == "dq-int8"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["quantize", "--then", "prune"], ["global after quantize: "]),
        (["quantize", "--then", "quantize"], ["quantize after quantize: the model is quantized already"]),
        (
            ["prune", "--then", "prune", "--method", "l2", "--rate", "0.1"],
            ["l2 after global: it trains a fresh model, so nothing can come before it; make it the first"],
        ),
        (["prune", "--then"], ["--then : write --then prune --method global, or --then quantize --scheme"]),
        (["prune", "--then", "train"], ["--then train: write --then prune"]),
        (["prune", "--then", "--scheme", "a2q"], ["--then --scheme a2q: write --then prune"]),
        (["prune", "--then", "quantize", "--scheme", "dq-int8,a2q"], ["give one value for each option"]),
        (["train", "--then", "prune", "-s", "0.1,0.5"], ["--then prune -s 0.1,0.5: give one value for each option"]),
        (["train", "--then", "prune", "-s", "1.5"], ["--sparsity 1.5", "below 1"]),
        (["train", "--then", "quantize", "--scheme", "int8"], ["unknown scheme 'int8'"]),
        (["train", "--then", "prune", "--method", "globl"], ["unknown method 'globl'"]),
        (["train", "--then", "quantize", "--epochs", "4"], ["--epochs"]),
        (["sensitivity", "--then", "quantize"], ["--then: follows train, prune, quantize alone"]),
        (["report", "--then", "quantize"], ["--then: follows train, prune, quantize alone"]),
        (["--then", "quantize"], ["--then: follows train, prune, quantize alone"]),
    ],
)
def test_what_cannot_follow_is_refused_with_the_reason(
    cli: Cli, arguments: list[str], parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.code == 2
    assert result.out == ""
    one_line(result, *parts)
    assert not Path("runs").exists() or not chains_in(Path("runs"))


def test_help_of_what_follows(cli: Cli) -> None:
    result = cli("prune", "--then", "quantize", "--help")
    assert (result.code, result.err) == (0, "")
    assert "--scheme" in result.out
    assert "--epochs" not in result.out


def names() -> list[tuple[str, object]]:
    found: tuple[CompressionMethod, ...] = following()
    return [(one.name, getattr(one, "scheme", getattr(one, "sparsity", None))) for one in found]


def test_arguments_are_taken_apart() -> None:
    words = ["prune", "-s", "0.5", "--then", "quantize", "--scheme", "DQ-INT4", "--then", "prune", "-s", "0.9"]
    assert take_following(words) == ["prune", "-s", "0.5"]
    assert names() == [("quantize", "dq-int4"), ("global", 0.9)]
    assert take_following(["prune", "-s", "0.5"]) == ["prune", "-s", "0.5"]
    assert names() == [], "those of the command before are forgotten"


def test_what_belongs_to_another_command_is_left_alone(cli: Cli) -> None:
    words = ["profile", "-q", "--", "echo", "--then", "prune"]
    assert take_following(words) == words
    assert names() == []
    assert cli("profile", "-q", "--energy", "none", "--", "true", "--then", "prune").code == 0
