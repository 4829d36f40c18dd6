"""Stages by the command line: what is used again, what is measured again, and what is made anew."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gnncompress.experiments import code
from gnncompress.experiments.stages import Stage
from tests.cli.helpers import chain_of, chains_in, models_in
from tests.conftest import Result, one_line

Cli = Callable[..., Result]
FAST = ["--epochs", 2, "--energy", "none"]


def ids(result: Result) -> list[str]:
    assert result.code == 0, result.err
    return [run["run_id"] for run in result.json["runs"]]


def trained(folder: Path) -> list[str]:
    return [name for name, chain in chains_in(folder).items() if chain.last.stage == "train"]


def test_how_a_model_is_measured_trains_no_other_one(cli: Cli, tmp_path: Path) -> None:
    out = ["-o", tmp_path, "--json"]
    found = ids(cli("train", *FAST, *out))
    made = models_in(tmp_path)
    assert len(made) == 1
    for options in (
        ["--country", "FRA"],
        ["--energy", "auto"],
        ["--energy-seconds", 0.2],
        ["--quick"],
        ["--inference-threads", 2],
    ):
        found += ids(cli("train", *FAST, *options, *out))
        assert models_in(tmp_path) == made, options
    assert len(set(found)) == len(found), "each is a measurement of its own"
    threads = chain_of(json.loads(cli("train", *FAST, "--inference-threads", 2, *out).out)["runs"][0])
    assert threads.measure is not None
    assert (threads.measure.threads, threads.workload.threads) == (2, 1)


def test_studies_after_a_quick_measurement_use_its_model(cli: Cli, tmp_path: Path) -> None:
    assert cli("prune", "-s", 0.5, "--no-finetune", *FAST, "--quick", "-o", tmp_path).code == 0
    made = models_in(tmp_path)
    assert len(trained(tmp_path)) == 1
    result = cli("sensitivity", "-s", 0.5, "--target", 0.5, "--epochs", 2, "-o", tmp_path)
    assert result.code == 0, result.err
    assert len(trained(tmp_path)) == 1, "not one model for each way of measuring"
    assert {name: models_in(tmp_path)[name] for name in made} == made
    records = json.loads(cli("report", tmp_path, "--format", "json").out)
    assert len([record for record in records if record["method"] == "none"]) == 1


def test_a_table_has_one_row_for_its_base_model(cli: Cli, tmp_path: Path) -> None:
    result = cli("prune", "-s", "0,0.5", "--no-finetune", *FAST, "--quick", "-o", tmp_path)
    assert result.code == 0, result.err
    rows = [line.split()[0] for line in result.out.splitlines() if line.split()[:1] in (["none"], ["global"])]
    assert rows == ["none", "global"]


def test_quantizing_starts_from_the_model_that_prune_makes(cli: Cli, tmp_path: Path) -> None:
    options = ["--epochs", 4, "--energy", "none", "-o", tmp_path, "--json"]
    (quantized,) = cli("quantize", "--scheme", "ptq-int8", "--prune-sparsity", 0.5, *options).json["runs"]
    made = models_in(tmp_path)
    (pruned,) = cli("prune", "--sparsity", 0.5, *options).json["runs"]
    start = chain_of(quantized).model.parent
    assert start is not None
    assert start.id == chain_of(pruned).model.id
    assert pruned["metrics"]["finetune.epochs"] == 2, "as prune does: half as long as training"
    assert {name: models_in(tmp_path)[name] for name in made} == made, "prune has found its model there"


def test_measuring_again_keeps_the_model_and_reports_the_latest(cli: Cli, tmp_path: Path) -> None:
    out = ["-o", tmp_path, "--json"]
    first = ids(cli("train", *FAST, *out))
    made = models_in(tmp_path)
    for number in (1, 2):
        (again,) = cli("train", *FAST, "--remeasure", *out).json["runs"]
        measure = chain_of(again).measure
        assert measure is not None
        assert measure.repetition == number
        assert models_in(tmp_path) == made
    assert ids(cli("train", *FAST, *out)) == first, "what is asked for plainly is the first, and is there"
    (record,) = json.loads(cli("report", tmp_path, "--format", "json").out)
    with (tmp_path / again["run_id"] / "results.csv").open() as file:
        (latency,) = [row["value"] for row in csv.DictReader(file) if row["metric"] == "latency_median"]
    assert record["seeds"] == 1
    assert record["latency_s"] == pytest.approx(float(latency))


def test_a_run_says_in_a_row_what_it_was(cli: Cli, tmp_path: Path) -> None:
    options = ["--no-finetune", *FAST, "--inference-threads", 2, "-o", tmp_path, "--json"]
    (run,) = cli("prune", "-s", 0.5, *options).json["runs"]
    with (tmp_path / run["run_id"] / "runs.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["run_id"] == run["run_id"]
    assert (row["workload.dataset"], row["workload.recipe.epochs"]) == ("digits", "2")
    assert (row["1.compress.method"], row["2.measure.threads"]) == ("global", "2")


@pytest.fixture
def other_code(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A folder with a model and its measurement, made by other code than today's; the model's inode."""
    assert cli("train", *FAST, "-o", tmp_path).code == 0
    monkeypatch.setattr(code, "_digest", lambda rooms: "0" * 16)
    assert code.code_digest(Stage()) == "0" * 16
    return models_in(tmp_path)


def test_results_of_other_code_are_used_and_told_once(cli: Cli, other_code: dict[str, int], tmp_path: Path) -> None:
    result = cli("train", *FAST, "-o", tmp_path)
    assert result.code == 0, result.err
    (line,) = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert "made by other code" in line
    assert "--outdated rerun" in line
    assert models_in(tmp_path) == other_code


def test_results_of_other_code_are_made_anew_if_asked(cli: Cli, other_code: dict[str, int], tmp_path: Path) -> None:
    result = cli("train", *FAST, "--outdated", "rerun", "-o", tmp_path)
    assert result.code == 0, result.err
    assert "made by other code" not in result.err
    anew = models_in(tmp_path)
    assert anew.keys() == other_code.keys()
    assert anew != other_code
    for name in chains_in(tmp_path):
        assert json.loads((tmp_path / name / "environment.json").read_text())["code"] == "0" * 16
    result = cli("train", *FAST, "--outdated", "rerun", "-o", tmp_path)
    assert models_in(tmp_path) == anew, "which is of this code now"
    assert "made by other code" not in cli("train", *FAST, "-o", tmp_path).err


def test_another_word_for_outdated_is_refused(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", *FAST, "--outdated", "nonsense", "-o", tmp_path)
    assert result.code == 2
    one_line(result, "--outdated nonsense: use keep or rerun")
    assert not chains_in(tmp_path)
