"""Quantization by the command line, on embedded and on real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.nn import GraphSAGE

import gnncompress
from gnncompress.checkpoints import load_checkpoint
from gnncompress.experiments.building import load_task
from gnncompress.runtime.levels import FASTEST, LEVELS, VARIABLE
from tests.cli.helpers import chain_of
from tests.conftest import Result, one_line

Cli = Callable[..., Result]
QUICK = ["--epochs", 30, "--finetune-epochs", 5, "--json"]


def found(result: Result) -> dict[str, dict[str, Any]]:
    assert result.code == 0, result.err
    return {chain_of(run).methods[-1].scheme: run for run in result.json["runs"]}


def test_every_scheme_on_digits(cli: Cli, runs: Path) -> None:
    schemes = "fp32,ptq-int8,ptq-int4,qat-int8,qat-int3,dq-int8,dq-int4,a2q"
    metrics = {
        name: run["metrics"] for name, run in found(cli("quantize", "--scheme", schemes, *QUICK, "-o", runs)).items()
    }
    assert list(metrics) == schemes.split(",")
    for name, values in metrics.items():
        assert values["evaluate.accuracy"] > values["evaluate.constant_accuracy"] + 0.5, name
    bits = {"ptq-int8": 8, "ptq-int4": 4, "qat-int8": 8, "qat-int3": 3, "dq-int8": 8, "dq-int4": 4}
    for name, wanted in bits.items():
        # two numbers of 32 bits for the range of each tensor of weights
        assert metrics[name]["compress.bits_average_weights"] == pytest.approx(wanted + 2 * 64 / 4736)
        assert wanted < metrics[name]["compress.bits_average_activations"] < wanted + 0.01
        assert metrics[name]["checkpoint.checkpoint_size"] < 4 * 4810 * wanted / 32 + 900
    assert "compress.bits_average_weights" not in metrics["fp32"]
    assert metrics["a2q"]["compress.bits_average_weights"] == pytest.approx(4 + 32 * (64 + 10) / 4736)
    assert metrics["a2q"]["compress.bits_average_published"] < 2.5
    assert "finetune.epochs" not in metrics["ptq-int8"]
    assert metrics["fp32"]["finetune.epochs"] <= 5


def test_a_run_is_found_again_however_it_is_asked_for(cli: Cli, runs: Path) -> None:
    first = found(cli("quantize", "--scheme", "dq-int8", *QUICK, "-o", runs))["dq-int8"]
    for options in (["--config", "ste-mom"], ["--observer", "mom", "--gradient", "ste"], ["--granularity", "tensor"]):
        again = found(cli("quantize", "--scheme", "dq-int8", *options, *QUICK, "-o", runs))["dq-int8"]
        assert again["run_id"] == first["run_id"]
    other = found(cli("quantize", "--scheme", "dq-int8", "--gradient", "gc", *QUICK, "-o", runs))["dq-int8"]
    assert (chain_of(other).scheme, chain_of(first).scheme) == ("dq-int8 gc-mom", "dq-int8")


@pytest.mark.parametrize("scheme", ["ptq-int4", "dq-int4", "a2q"])
def test_a_quantized_checkpoint_is_a_model_again(cli: Cli, runs: Path, scheme: str) -> None:
    run = found(cli("quantize", "--scheme", scheme, *QUICK, "-o", runs))[scheme]
    path = runs / run["run_id"] / "model.safetensors"
    state = load_checkpoint(path)
    codes = state["convs.0.lin.parametrizations.weight.original"]
    assert codes.dtype == torch.int8
    assert codes.unique().numel() <= 16
    model = gnncompress.load_model(path)
    task = load_task(chain_of(run).workload, None)
    rows = {row.metric: row.value for row in task.evaluate(model)}
    assert rows["accuracy"] == run["metrics"]["evaluate.accuracy"]
    assert rows["loss"] == run["metrics"]["evaluate.loss"]


@pytest.mark.parametrize("options", [["--scheme", "fp32"], ["--scheme", "qat-int8", "--keep-float", "convs.0"]])
def test_the_arms_of_a_hybrid_that_are_not_quantized(cli: Cli, runs: Path, options: list[str]) -> None:
    run = found(cli("quantize", *options, "--prune-sparsity", 0.5, *QUICK, "-o", runs))[options[1]]
    assert run["metrics"]["compress.sparsity"] >= 0.5


def test_pruned_then_quantized(cli: Cli, runs: Path) -> None:
    run = found(cli("quantize", "--scheme", "qat-int4", "--prune-sparsity", 0.5, *QUICK, "-o", runs))["qat-int4"]
    assert chain_of(run).sparsity == 0.5
    assert run["metrics"]["compress.sparsity"] >= 0.5
    pruned = cli("prune", "-s", 0.5, *QUICK, "-o", runs).json["runs"][0]
    assert pruned["metrics"]["finetune.epochs"] == 5
    before = load_checkpoint(runs / pruned["run_id"] / "model.safetensors")
    after = gnncompress.load_model(runs / run["run_id"] / "model.safetensors")
    for number in (0, 1):
        zeros = before[f"convs.{number}.lin.weight"] == 0
        assert bool((after.convs[number].lin.weight[zeros] == 0).all()), "what was pruned stays zero"


@pytest.mark.parametrize(
    ("workload", "scheme"),
    [
        ("cora-node", "dq-int8"),
        ("cora-node", "a2q"),
        ("cora-link", "dq-int4"),
        ("proteins", "qat-int8"),
        ("bbbp", "dq-int8"),
        ("gin-proteins", "a2q"),
        ("gin-bbbp", "ptq-int4"),
    ],
)
def test_real_data(cli: Cli, workload: str, scheme: str, data_root: Path, tmp_path: Path) -> None:
    options = ["--epochs", 2, "--finetune-epochs", 1, "-o", tmp_path, "--data-root", data_root, "--json"]
    run = found(cli("quantize", "-w", workload, "--scheme", scheme, *options))[scheme]
    assert run["metrics"]["compress.bits_average_weights"] < 8.5
    assert run["metrics"]["checkpoint.size_ratio"] > 2.5 or scheme == "a2q"


def test_a_users_own_model(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from torch_geometric.nn import GraphSAGE\n"
        "def build(features, classes):\n"
        "    return GraphSAGE(features, 32, 3, classes, norm='batch_norm', jk='cat')\n"
    )
    run = found(cli("quantize", "-m", "mine.py:build", "--scheme", "dq-int8", *QUICK))["dq-int8"]
    assert run["metrics"]["evaluate.accuracy"] > 0.8
    path = Path("runs") / run["run_id"] / "model.safetensors"
    model = gnncompress.load_model(path, build=lambda: GraphSAGE(64, 32, 3, 10, norm="batch_norm", jk="cat"))
    x, edge_index = torch.rand(5, 64), torch.tensor([[0, 1, 2], [1, 2, 3]])
    assert model(x, edge_index).shape == (5, 10)
    prepared = gnncompress.freeze(gnncompress.prepare(GraphSAGE(64, 32, 3, 10, norm="batch_norm", jk="cat"), "dq-int8"))
    again = gnncompress.load_model(path, build=lambda: prepared)
    assert torch.equal(again(x, edge_index), model(x, edge_index))
    listed = cli("quantize", "-m", "mine.py:build", "--scheme", "dq-int8", "--keep-float", "lin", "--dry-run")
    assert listed.code == 0, listed.err
    assert "convs.0.lin_l" in listed.out
    assert "in floats: norms.0.module" in listed.out
    Path("bad.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "from torch_geometric.nn import GCNConv\n"
        "class Bad(nn.Module):\n"
        "    def __init__(self, features, classes):\n"
        "        super().__init__()\n"
        "        self.conv = GCNConv(features, 8)\n"
        "        self.memory = nn.GRU(8, classes)\n"
        "    def forward(self, x, edge_index):\n"
        "        return self.memory(self.conv(x, edge_index))[0]\n"
    )
    refused = cli("quantize", "-m", "bad.py:Bad", "--scheme", "qat-int8", *QUICK)
    assert refused.code == 1
    assert "cannot quantize memory (GRU)" in refused.err
    assert cli("quantize", "-m", "bad.py:Bad", "--scheme", "qat-int8", "--keep-float", "memory", *QUICK).code == 0


def test_the_official_protocol_chooses_by_the_test_set(cli: Cli, runs: Path) -> None:
    options = ["--scheme", "a2q", "--official-protocol", *QUICK, "-o", runs]
    run = found(cli("quantize", *options))["a2q"]
    assert chain_of(run).scheme == "a2q official-protocol"
    honest = found(cli("quantize", "--scheme", "a2q", *QUICK, "-o", runs))["a2q"]
    assert run["metrics"]["evaluate.accuracy"] >= honest["metrics"]["evaluate.accuracy"]


def test_an_unknown_scheme_is_named_whatever_options_it_is_given(cli: Cli) -> None:
    refused = cli("quantize", "--scheme", "int8", "--execute", "integer")
    assert refused.code == 2
    assert "int8" in refused.err
    assert "ptq-int8" in refused.err
    assert "no such option" not in refused.err


def test_dry_run_lists_every_quantizer(cli: Cli) -> None:
    result = cli("quantize", "--scheme", "dq-int8", "--dry-run")
    assert result.code == 0, result.err
    for place in ("inputs", "features", "weights", "norm", "message", "aggregate", "update"):
        assert result.out.count(place) == 2
    assert "14 quantizers" in result.out
    several = cli("quantize", "--scheme", "dq-int4,A2Q,fp32", "--groups", 10, "--dry-run")
    assert several.code == 0, several.err
    assert "digits, gcn, dq-int4" in several.out
    assert "digits, gcn, a2q groups=10" in several.out
    assert "32, raw input" in several.out
    assert "0 quantizers; in floats: convs.0" in several.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheme", "dq-int9"], "unknown scheme 'dq-int9'"),
        (["--scheme", "qat-int1"], "unknown scheme 'qat-int1'"),
        (["--scheme", "dq-int8", "--config", "gc-max"], "gc-max"),
        (["--scheme", "dq-int8", "--observer", "max"], "--observer: unknown observer 'max'"),
        (
            ["--scheme", "dq-int8", "--config", "gc-per", "--observer", "abs"],
            "--config gc-per: contradicts observer or gradient, which make it gc-abs",
        ),
        (["--scheme", "qat-int8", "--protect", 0.2], "--protect: scheme qat-int8 has no such option; it belongs to dq"),
        (["--scheme", "dq-int8", "--groups", 10], "--groups: scheme dq-int8 has no such option; it belongs to a2q"),
        (
            ["--scheme", "a2q", "--observer", "abs"],
            "--observer: scheme a2q has no such option; it belongs to ptq",
        ),
        (
            ["--scheme", "a2q", "--calibration", "mse"],
            "--calibration: scheme a2q has no such option; it belongs to ptq",
        ),
        (["--scheme", "ptq-int8", "--calibration", "minimax"], "--calibration: unknown calibration 'minimax'; did you"),
        (
            ["--scheme", "ptq-int8", "--calibration", "mse", "--observer", "abs"],
            "--calibration mse: does not use the observer of ste-abs; leave one of them out",
        ),
        (["--scheme", "ptq-int8", "--gradient", "gc"], "--gradient: scheme ptq-int8 has no such option; it belongs to"),
        (["--scheme", "ptq-int8", "--official-protocol"], "--official-protocol: scheme ptq-int8 has no such option"),
        (["--scheme", "ptq-int8", "--no-finetune"], "--finetune-epochs 5: there is no fine-tuning with --no-finetune"),
        (["--scheme", "a2q", "-d", "digits-grid", "--groups", 0], "--groups 0: the nodes of many graphs"),
        (["--scheme", "dq-int8", "--protect", 1.5], "--protect 1.5: must be a finite number, at least 0 and below 1"),
        (["--scheme", "dq-int8", "--keep-float", "conv.0"], "--keep-float conv.0: the model has no such layer"),
        (["--scheme", "dq-int8", "--prune-sparsity", 1.2], "--prune-sparsity 1.2"),
    ],
)
def test_wrong_usage(cli: Cli, tmp_path: Path, options: list[object], message: str) -> None:
    result = cli("quantize", *options, *QUICK, "-o", tmp_path / "runs")
    assert result.code == 2, result.err
    one_line(result, message)


def test_an_epoch_of_no_training_cannot_be_chosen(cli: Cli) -> None:
    result = cli("quantize", "--scheme", "qat-int8", "--official-protocol", "--no-finetune")
    assert result.code == 2
    one_line(result, "--official-protocol chooses an epoch")


def test_nothing_is_trained_on_before_or_after_if_that_is_off(cli: Cli, runs: Path) -> None:
    options = ["--epochs", 30, "--no-finetune", "--json", "-o", runs]
    run = found(cli("quantize", "--scheme", "ptq-int8", "--prune-sparsity", 0.5, *options))["ptq-int8"]
    pruned = cli("prune", "-s", 0.5, *options).json["runs"][0]
    assert "finetune.epochs" not in pruned["metrics"]
    before = load_checkpoint(runs / pruned["run_id"] / "model.safetensors")["convs.1.lin.weight"]
    after = gnncompress.load_model(runs / run["run_id"] / "model.safetensors").convs[1].lin.weight
    assert float((after - before).abs().max()) <= float(before.abs().max()) / 127, "rounding alone"


def test_prune_points_to_quantize(cli: Cli) -> None:
    one_line(cli("prune", "--method", "quantize"), "use 'gnncompress quantize'")


def test_integer_execution(cli: Cli, runs: Path) -> None:
    simulated = found(cli("quantize", "--scheme", "dq-int8", *QUICK, "-o", runs))["dq-int8"]
    result = cli("quantize", "--scheme", "dq-int8", "--execute", "integer", *QUICK, "-o", runs)
    integer = found(result)["dq-int8"]
    assert integer["run_id"] != simulated["run_id"]
    assert chain_of(integer).scheme == "dq-int8 integer"
    assert integer["metrics"]["evaluate.accuracy"] == pytest.approx(simulated["metrics"]["evaluate.accuracy"], abs=0.01)
    for metric in ("compress.bits_average_weights", "compress.sparsity", "finetune.epochs", "checkpoint.dense_size"):
        assert integer["metrics"][metric] == simulated["metrics"][metric], metric
    path = runs / integer["run_id"] / "model.safetensors"
    assert '"program"' in cli("checkpoint", "inspect", path).out
    loaded = [
        gnncompress.load_model(path),
        gnncompress.load_model(runs / simulated["run_id"] / "model.safetensors", execute="integer"),
    ]
    plain = gnncompress.load_model(path, execute="simulated")
    x, edges = torch.rand(9, 64), torch.randint(9, (2, 30))
    assert type(plain).__name__ == "GCN"
    for model in loaded:
        assert "linear" in str(model.program)
        torch.testing.assert_close(model(x, edges), plain(x, edges), rtol=0, atol=0.15)
    base = cli("train", "--epochs", 30, "--json", "-o", runs).json["runs"][0]["run_id"]
    floats = [gnncompress.load_model(runs / base / "model.safetensors", execute=how) for how in (None, "compiled")]
    torch.testing.assert_close(floats[1](x, edges), floats[0](x, edges), rtol=1e-4, atol=1e-4)
    with pytest.raises(gnncompress.GnncompressError, match="unknown execute 'fast'"):
        gnncompress.load_model(path, execute="fast")


@pytest.mark.parametrize("level", [one.name for one in LEVELS if one.available])
def test_what_to_expect_of_integer_execution_is_said_first(
    level: str, cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, level)
    options = ["--scheme", "ptq-int8", "--execute", "integer", *QUICK, "-o", runs]
    lines = cli("quantize", *options).err.splitlines()
    assert "RuntimeWarning" not in " ".join(lines)
    if level == FASTEST.name:
        assert not [line for line in lines if line.startswith("note:")]
    else:
        assert lines[0].startswith(f"note: integer execution at level {level}: products take about ")
        assert len([line for line in lines if line.startswith("note:")]) == 1
    assert "note:" not in cli("quantize", *options, "--quiet").err
    assert "note:" not in cli("quantize", "--scheme", "ptq-int8", *QUICK, "-o", runs).err


def test_a_level_that_cannot_be_used_is_told_before_training(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "fast")
    result = cli("quantize", "--scheme", "dq-int8", "--execute", "integer", *QUICK, "-o", tmp_path)
    assert result.code == 2
    one_line(result, "GNNCOMPRESS_LEVEL=fast: there is no such level; use one of: ", "exact-f32")
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_integer_execution_beside_schemes_that_have_none(cli: Cli, runs: Path) -> None:
    options = ["--scheme", "fp32,ptq-int8", "--execute", "integer", "--keep-float", "convs.1", *QUICK, "-o", runs]
    both = found(cli("quantize", *options))
    assert chain_of(both["fp32"]).compressions[-1].config == {"scheme": "fp32"}
    assert chain_of(both["fp32"]).scheme == "fp32"
    assert chain_of(both["ptq-int8"]).scheme == "ptq-int8 float=convs.1 integer"
    inspected = cli("checkpoint", "inspect", runs / both["ptq-int8"]["run_id"] / "model.safetensors").out
    assert "in floats: convs.1 (kept in floats)" in inspected
    table = cli("report", runs)
    assert table.code == 0, table.err
    assert "float=convs.1" in table.out


@pytest.mark.parametrize(
    ("workload", "model"),
    [("cora-node", "spline"), ("cora-node", "gat"), ("gin-proteins", "gin"), ("bbbp", "gnnnet")],
)
def test_integer_execution_on_real_data(cli: Cli, workload: str, model: str, data_root: Path, tmp_path: Path) -> None:
    options = ["--epochs", 2, "--finetune-epochs", 1, "-o", tmp_path, "--data-root", data_root, "--json"]
    scores = [
        found(cli("quantize", "-w", workload, "-m", model, "--scheme", "dq-int8", *more, *options))["dq-int8"][
            "metrics"
        ]
        for more in ([], ["--execute", "integer"])
    ]
    assert scores[1]["evaluate.accuracy"] == pytest.approx(scores[0]["evaluate.accuracy"], abs=0.005)
    assert scores[1]["inference.latency_median"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheme", "fp32", "--execute", "integer"], "--execute: scheme fp32 has no such option"),
        (["--scheme", "a2q", "--execute", "integer"], "--execute: scheme a2q has no such option"),
        (["--scheme", "dq-int8", "--execute", "fast"], "--execute: unknown execution 'fast'"),
        (["--scheme", "dq-int8", "--execute", "integer", "--device", "cuda"], "--execute integer runs on the CPU"),
    ],
)
def test_integer_execution_that_cannot_be(cli: Cli, options: list[str], message: str) -> None:
    result = cli("quantize", *options)
    assert result.code == 2
    one_line(result, message)


def test_a_model_that_cannot_run_in_integers_says_so(cli: Cli, data_root: Path, tmp_path: Path) -> None:
    options = ["--scheme", "dq-int8", "--execute", "integer", *QUICK, "-o", tmp_path]
    known = cli("quantize", "-w", "proteins", *options, "--data-root", data_root)
    assert known.code == 2
    one_line(known, "--execute integer: model hgpsl has no integer execution; leave the option out")
    assert list(tmp_path.iterdir()) == [], "nothing was trained"
    model = tmp_path / "bent.py"
    model.write_text(
        "from torch import nn\n"
        "from torch_geometric.nn import GCNConv\n"
        "class Bent(nn.Module):\n"
        "    def __init__(self, features, classes):\n"
        "        super().__init__()\n"
        "        self.conv = GCNConv(features, classes)\n"
        "    def forward(self, x, edge_index):\n"
        "        out = self.conv(x, edge_index)\n"
        "        return out if out.detach().sum() > 0 else -out\n"
    )
    own = cli("quantize", "-m", f"{model}:Bent", *options)
    assert own.code == 1
    assert "Bent: its forward cannot be followed" in own.err
