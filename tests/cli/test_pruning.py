"""The ways to prune by the command line, on embedded and on real data."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gnncompress.checkpoints import load_checkpoint
from tests.cli.helpers import chain_of, chains_in
from tests.conftest import Result, one_line
from tests.experiments.helpers import finetune_of

Cli = Callable[..., Result]
QUICK = ["--epochs", 30, "--finetune-epochs", 5]


def only(result: Result) -> dict[str, dict[str, float]]:
    assert result.code == 0, result.err
    (run,) = result.json["runs"]
    return run


@pytest.mark.parametrize("importance", ["l1", "taylor", "random"])
def test_structured_pruning_makes_a_smaller_model(cli: Cli, runs: Path, importance: str) -> None:
    options = ["--method", "structured", "--importance", importance, "-s", 0.5, *QUICK, "-o", runs, "--json"]
    run = only(cli("prune", *options))
    metrics = run["metrics"]
    assert metrics["compress.parameters_removed"] == pytest.approx(0.5, abs=0.01)
    assert metrics["compress.parameters"] == round((1 - metrics["compress.parameters_removed"]) * 4810)
    assert metrics["checkpoint.dense_size"] == 4 * 4810
    assert metrics["checkpoint.size_ratio"] > 1.9
    state = load_checkpoint(runs / str(run["run_id"]) / "model.safetensors")
    assert state["convs.0.lin.weight"].shape[0] == state["convs.1.lin.weight"].shape[1] < 64
    assert metrics["evaluate.accuracy"] > metrics["evaluate.constant_accuracy"] + 0.3


@pytest.mark.parametrize("workload", ["cora-node", "cora-link", "bbbp", "proteins", "gin-proteins"])
def test_structured_pruning_of_the_papers_models(cli: Cli, workload: str, data_root: Path, tmp_path: Path) -> None:
    options = ["--epochs", 2, "--finetune-epochs", 1, "-o", tmp_path, "--data-root", data_root, "--json"]
    run = only(cli("prune", "-w", workload, "--method", "structured", "-s", 0.5, *options))
    assert run["metrics"]["compress.parameters_removed"] == pytest.approx(0.5, abs=0.02)


def test_structured_pruning_of_a_users_model(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from torch_geometric.nn import GraphSAGE\n"
        "def build(features, classes):\n"
        "    return GraphSAGE(features, 32, 3, classes, norm='batch_norm', jk='cat')\n"
    )
    run = only(cli("prune", "-m", "mine.py:build", "--method", "structured", "-s", 0.6, *QUICK, "--json"))
    assert run["metrics"]["compress.parameters_removed"] == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("method", ["global", "fine-grained"])
def test_a_users_model_that_cannot_be_pruned_is_refused_before_it_is_trained(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from torch.nn.utils.parametrizations import weight_norm\n"
        "from torch_geometric.nn import GCN\n"
        "def build(features, classes):\n"
        "    model = GCN(features, 32, 2, classes)\n"
        "    weight_norm(model.convs[0].lin)\n"
        "    return model\n"
    )
    result = cli("prune", "-m", "mine.py:build", "--method", method, "-s", "0,0.9", "-o", "runs")
    assert result.code == 1
    one_line(result, "layer convs.0.lin.weight: its weight is computed by the parametrization _WeightNorm")
    assert not list(Path("runs").rglob("results.csv"))
    planned = cli("prune", "-m", "mine.py:build", "--method", method, "-s", "0.9", "--dry-run")
    assert planned.code == 1
    one_line(planned, "remove_parametrizations")


def test_l2_alone_and_followed_by_pruning(cli: Cli, runs: Path) -> None:
    result = cli("prune", "--method", "l2", "--rate", "0,1e6", "-s", "0,0.5", *QUICK, "-o", runs, "--json")
    assert result.code == 0, result.err
    asked, controls = result.json["runs"][:4], result.json["runs"][4:]
    rates = [chain_of(run).methods[-1].rate for run in (*asked, *controls)]
    found = {(rate, chain_of(run).sparsity): run["metrics"] for rate, run in zip(rates, asked, strict=False)}
    assert set(found) == {(0, 0), (0, 0.5), (1e6, 0), (1e6, 0.5)}
    assert list(zip(rates[4:], (chain_of(run).sparsity for run in controls), strict=True)) == [(0, 0), (1e6, 0)]
    for run in controls:
        tuned = finetune_of(chain_of(run))
        assert tuned is not None
        assert tuned.epochs == 5
        assert run["metrics"]["finetune.diverged"] == 0
        assert run["metrics"]["train.epochs"] <= 30, "what the model cost before is its cost, too"
    for (_, sparsity), metrics in found.items():
        assert metrics["compress.parameters"] == 4810
        assert metrics["compress.sparsity"] == pytest.approx(sparsity, abs=1e-3)
    assert found[0, 0]["train.diverged"] == 0
    assert found[0, 0]["evaluate.accuracy"] > found[1e6, 0]["evaluate.accuracy"] + 0.3


def test_allocations_on_real_data(cli: Cli, data_root: Path, tmp_path: Path) -> None:
    sparsities = {}
    for allocation in ("global", "uniform", "erk", "lamp-score"):
        options = ["-o", tmp_path, "--data-root", data_root, "--epochs", 10, "--no-finetune", "--json"]
        run = only(cli("prune", "-w", "cora-node", "--allocation", allocation, "-s", 0.9, *options))
        with (tmp_path / str(run["run_id"]) / "results.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["metric"] == "sparsity"]
        sparsities[allocation] = {row["layer"]: float(row["value"]) for row in rows}
        assert sparsities[allocation][""] == pytest.approx(0.9, abs=1e-4)
    assert sparsities["uniform"]["conv2.weight"] == pytest.approx(0.9, abs=0.01)
    scale = 0.1 * 69_120 / ((2 + 1433 + 16) + (16 + 1433) + (2 + 16 + 7) + (7 + 16))
    assert sparsities["erk"]["conv2.weight"] == pytest.approx(1 - scale * (2 + 16 + 7) / 224, abs=1 / 224)
    assert len({json.dumps(levels) for levels in sparsities.values()}) == 4


def test_sensitivity_recommends_budgets_that_prune_takes(cli: Cli, runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "budgets.json"
    options = ["--epochs", 30, "-o", runs]
    result = cli("sensitivity", "-s", "0.3,0.6,0.9", "--target", 0.8, "--write", file, *options, "--json")
    assert result.code == 0, result.err
    assert len(result.json["curves"]) == 2 * 3
    assert json.loads(file.read_text()) == {"sparsity": 0.8, "layers": result.json["layers"]}
    run = only(cli("prune", "--allocation", file, "--no-finetune", *options, "--json"))
    assert run["metrics"]["compress.sparsity"] == pytest.approx(0.8, abs=1e-3)
    shown = cli("sensitivity", "-s", "0.3,0.6,0.9", "--target", 0.8, *options)
    assert "convs.1.lin.weight" in shown.out
    analyses = [name for name, chain in chains_in(runs).items() if chain.analyzes]
    assert analyses
    assert not any((runs / name / "model.safetensors").exists() for name in analyses)
    report = cli("report", runs)
    assert report.code == 0
    assert "sensitivity" not in report.out


def test_lottery(cli: Cli, tmp_path: Path) -> None:
    options = ["--rounds", 2, "--seeds", 2, "--epochs", 12, "-o", tmp_path]
    result = cli("lottery", *options, "--json")
    assert result.code == 0, result.err
    first, second = result.json["rounds"]
    assert (first["sparsity"], second["sparsity"]) == (pytest.approx(0.2), pytest.approx(0.36))
    for line in (first, second):
        assert (line["verdict"], line["p"]) == ("undecided", 1.0), "two seeds decide nothing"
        assert line["ticket_mean"] > 0.5
    shown = cli("lottery", *options)
    assert "0.360" in shown.out
    assert cli("report", tmp_path).code == 0
    single = cli("lottery", "--rounds", 1, "--seeds", 1, "--epochs", 12, "-o", tmp_path, "--json")
    assert single.json["rounds"][0]["ticket_std"] is None
    assert single.json["rounds"][0]["verdict"] == "undecided"


def test_graph_lottery_on_real_data(cli: Cli, data_root: Path, tmp_path: Path) -> None:
    options = ["--rounds", 2, "--seeds", 1, "--epochs", 5, "-o", tmp_path, "--data-root", data_root]
    result = cli("lottery", "-d", "cora", "-m", "gcn", "--prune-edges", 0.05, *options)
    assert result.code == 0, result.err
    assert "macs_saved" in result.out
    with_edges = [
        load_checkpoint(folder / "model.safetensors").get("edge_keep")
        for folder in tmp_path.iterdir()
        if (folder / "model.safetensors").is_file()
    ]
    kept = {int(mask.sum()) for mask in with_edges if mask is not None}
    assert kept == {10_556 - 528, 10_556 - 528 - 501}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["convs.0.lin.weight", "64 x 64", "yes", "no: fewer than two dimensions", "4,736 of 4,810"]),
        (("--method", "structured"), ["channels along dimension 0 and 1", "its channels are the model's output"]),
    ],
)
def test_dry_run_trains_nothing(cli: Cli, tmp_path: Path, options: tuple[str, ...], words: list[str]) -> None:
    more = () if "structured" not in options else ("-m", "gin", "-d", "digits-grid")
    result = cli("prune", "--dry-run", *options, *more, "-o", tmp_path / "none")
    assert result.code == 0, result.err
    for word in words:
        assert word in result.out
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["prune", "--method", "l2"], 2, ["--rate: method l2 needs it"]),
        (["prune", "--method", "l2", "--rate", "-1"], 2, ["--rate -1", "negative"]),
        (["prune", "--method", "l2", "--rate", "inf"], 2, ["--rate inf", "is not a rate"]),
        (["prune", "--allocation", "nowhere.json"], 2, ["--allocation nowhere.json", "nor a file"]),
        (["prune", "--method", "lottery"], 2, ["use 'gnncompress lottery'"]),
        (["prune", "--min-keep", "2"], 2, ["--min-keep 2.0", "below 1"]),
        (["lottery", "--rewind", "500"], 2, ["--rewind 500", "training has 200 epochs"]),
        (["lottery", "--prune-edges", "0.1", "-d", "digits-grid"], 2, ["no one graph"]),
        (["sensitivity", "--target", "1"], 2, ["--target 1", "below 1"]),
        (["sensitivity", "-s", "0.5", "--target", "0.9"], 2, ["--sparsity 0.5: needs levels up to --target 0.9"]),
        (["sensitivity", "-s", "0"], 2, ["--sparsity 0: needs levels"]),
        (["sensitivity", "--write", "nowhere/b.json"], 2, ["--write nowhere/b.json: there is no folder nowhere"]),
    ],
)
def test_bad_input_is_one_line(cli: Cli, runs: Path, arguments: list[str], code: int, parts: list[str]) -> None:
    result = cli(*arguments, "-o", runs)
    assert result.code == code
    one_line(result, *parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "structured", "-s", "0.999"], "cannot be reached by removing channels: at most 0.98"),
        (["-s", "0.9", "--min-keep", "0.5"], "--min-keep 0.5 keeps 2,368; lower one of the two"),
    ],
)
def test_what_cannot_be_pruned_so_far_is_a_failed_run(cli: Cli, runs: Path, options: list[str], message: str) -> None:
    result = cli("prune", *options, *QUICK, "-o", runs)
    assert result.code == 1
    (line,) = [line for line in result.err.splitlines() if line.startswith("failed:")]
    assert message in line
