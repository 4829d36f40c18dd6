"""The command line end to end, as a user types it, on real data."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import gnncompress
from gnncompress.checkpoints import load_checkpoint, same_bits
from tests.cli.helpers import chain_of, chains_in
from tests.conftest import Result, one_line
from tests.experiments.helpers import finetune_of

Cli = Callable[..., Result]
QUICK = ["--epochs", "20", "--finetune-epochs", "5"]


def test_prune_prints_the_base_model_its_control_and_the_pruned_one(cli: Cli, runs: Path) -> None:
    result = cli("prune", "--method", "global", "--sparsity", "0.5", *QUICK, "-o", runs)
    assert result.code == 0, result.err
    assert "dataset digits, model gcn, parameters 4,810, seeds 1" in result.out
    assert "energy" in result.out
    header, _, base, control, pruned = [line for line in result.out.splitlines() if line.strip()][1:6]
    assert header.split()[:5] == ["method", "sparsity", "tuned", "accuracy", "constant"]
    assert base.split()[:3] == ["none", "0", "no"]
    assert control.split()[:3] == ["none", "0", "yes"]
    assert pruned.split()[:3] == ["global", "0.5", "yes"]
    assert float(pruned.split()[3]) > float(pruned.split()[4])


def test_json_is_one_object(cli: Cli, runs: Path) -> None:
    result = cli("prune", "-s", "0,0.5", "--seeds", 2, *QUICK, "-o", runs, "--json")
    assert result.code == 0, result.err
    assert set(result.json) == {"runs"}
    found = result.json["runs"]
    asked, controls = found[:4], found[4:]
    made = [(chain.workload.seed, chain.sparsity) for chain in map(chain_of, found)]
    assert made[:4] == [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5)]
    assert made[4:] == [(0, 0.0), (1, 0.0)]
    for run in controls:
        assert finetune_of(chain_of(run)) == finetune_of(chain_of(asked[1])) is not None
        assert run["metrics"]["finetune.epochs"] == 5
        assert run["metrics"]["train.epochs"] == 20, "what the model cost before is its cost, too"
    for run in found:
        assert set(run) == {"run_id", "spec", "metrics"}
        assert (runs / run["run_id"] / "results.csv").is_file()
        metrics = run["metrics"]
        assert metrics["compress.sparsity"] == chain_of(run).sparsity
        assert metrics["evaluate.accuracy"] > metrics["evaluate.constant_accuracy"]
        assert metrics["checkpoint.size_ratio"] == pytest.approx(
            metrics["checkpoint.dense_size"] / metrics["checkpoint.checkpoint_size"]
        )
        assert "inference.energy" in metrics
        values = metrics.get("compress.nonzero_parameters", 4810)
        assert metrics["checkpoint.values_only_size"] == 4 * values


def test_train(cli: Cli, runs: Path) -> None:
    result = cli("train", "--seed", 1, "--epochs", 20, "-o", runs, "--json", "--quiet")
    assert result.code == 0, result.err
    (run,) = result.json["runs"]
    assert (chain_of(run).method, chain_of(run).workload.seed) == ("none", 1)
    assert run["metrics"]["train.epochs"] == 20


def test_no_finetune(cli: Cli, runs: Path) -> None:
    result = cli("prune", "-s", "0.5", "--no-finetune", "--epochs", 20, "-o", runs, "--json")
    (run,) = result.json["runs"]
    assert finetune_of(chain_of(run)) is None
    assert not [name for name in run["metrics"] if name.startswith("finetune.")]
    table = cli("prune", "-s", "0.5", "--no-finetune", "--epochs", 20, "-o", runs)
    shown = [line.split()[:3] for line in table.out.splitlines()]
    assert [line for line in shown if line[:1] in (["none"], ["global"])] == [
        ["none", "0", "no"],
        ["global", "0.5", "no"],
    ]


def test_a_control_is_made_once_for_all_methods_and_levels(cli: Cli, tmp_path: Path) -> None:
    options = ["--epochs", 4, "--energy", "none", "-o", tmp_path, "--quiet"]
    assert cli("prune", "-s", "0.3,0.6", *options).code == 0
    assert cli("prune", "--method", "fine-grained", "-s", 0.3, *options).code == 0
    chains = [chain for chain in chains_in(tmp_path).values() if chain.measure is None]
    made = sorted((one.method, one.sparsity, tuned.epochs if (tuned := finetune_of(one)) else 0) for one in chains)
    assert made == [
        ("fine-grained", 0.3, 2),
        ("global", 0.3, 2),
        ("global", 0.6, 2),
        ("none", 0.0, 0),
        ("none", 0.0, 2),
    ]
    records = json.loads(cli("report", tmp_path, "--format", "json").out)
    base, control = [record for record in records if record["method"] == "none"]
    assert (base["finetuned"], control["finetuned"]) == (False, True)
    assert (base["seeds"], control["seeds"]) == (1, 1)


def test_energy_by_estimate_says_so(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "--epochs", 2, "--energy", "codecarbon", "-o", tmp_path, "--quiet")
    assert result.code == 0, result.err
    assert "(estimated)" in result.out or "(rapl)" in result.out


def test_collapse_is_a_warning(cli: Cli, tmp_path: Path) -> None:
    result = cli("prune", "-s", "0.9995", "--no-finetune", "--epochs", 2, "-o", tmp_path, "--json")
    assert result.code == 0, result.err
    assert "layer collapse" in result.err
    assert result.json["runs"][0]["metrics"]["compress.collapsed_layers"] >= 1


def test_cora_with_spline(cli: Cli, data_root: Path, tmp_path: Path) -> None:
    arguments = ["-d", "cora", "-m", "spline", "-s", "0.9", "--epochs", 30, "--finetune-epochs", 10]
    result = cli("prune", *arguments, "-o", tmp_path, "--data-root", data_root, "--json")
    assert result.code == 0, result.err
    (run,) = result.json["runs"]
    metrics = run["metrics"]
    assert metrics["compress.parameters"] == 69_143
    assert metrics["compress.sparsity"] == pytest.approx(0.9, abs=1 / 69_120)
    assert metrics["checkpoint.size_ratio"] > 8.98
    assert metrics["evaluate.accuracy"] > 2 * metrics["evaluate.constant_accuracy"]


def test_report_formats(cli: Cli, runs: Path, tmp_path: Path) -> None:
    table = cli("report", runs)
    assert table.code == 0, table.err
    assert "seeds" in table.out
    assert "±" in table.out
    records = json.loads(cli("report", runs, "--format", "json").out)
    assert {record["method"] for record in records} == {"none", "global", "fine-grained"}
    assert cli("report", runs, "--format", "csv").out.startswith("dataset,task,model,method")
    assert cli("report", runs, "--format", "markdown").out.startswith("| dataset")
    assert "\\begin{tabular}" in cli("report", runs, "--format", "latex").out
    for style in ("table", "csv"):
        target = tmp_path / style
        result = cli("report", runs, "--format", style, "--output", target)
        assert (result.code, result.out) == (0, "")
        assert "digits" in target.read_text()
        assert "\x1b" not in target.read_text()


def test_listings(cli: Cli) -> None:
    assert "1,433" in cli("datasets").out
    workloads = cli("workloads").out
    for count in ("69,143", "45,888", "75,458", "34,562", "43,271", "43,655"):
        assert count in workloads
    assert "ICLR 2017" in cli("models").out
    assert "fine-grained" in cli("methods").out
    assert cli("--version").out == f"gnncompress {gnncompress.__version__}\n"
    assert "gnncompress prune -d cora" in cli("--help").out
    bare = cli()
    assert (bare.code, bare.err) == (2, "")
    assert "Usage" in bare.out
    for command in ("train", "prune", "report", "checkpoint", "workloads", "datasets", "models", "methods"):
        assert cli(command, "--help").code == 0


def test_checkpoint_there_and_back(cli: Cli, tmp_path: Path) -> None:
    state = {"w": torch.randn(30, 30) * (torch.rand(30, 30) < 0.3), "steps": torch.tensor(7)}
    torch.save(state, tmp_path / "model.pt")
    packed, back = tmp_path / "packed.safetensors", tmp_path / "back.pt"
    result = cli("checkpoint", "pack", tmp_path / "model.pt", packed)
    assert result.code == 0, result.err
    assert f"{packed.stat().st_size:,} bytes" in result.out
    assert same_bits(load_checkpoint(packed), state)
    assert cli("checkpoint", "unpack", packed, back).code == 0
    assert same_bits(torch.load(back, weights_only=True), state)
    shown = cli("checkpoint", "inspect", packed)
    assert "30 x 30" in shown.out
    assert "scalar" in shown.out
    assert "times the entropy limit" in shown.out
    assert cli("checkpoint", "inspect", packed, "--json").json["version"] == 2
    assert cli("checkpoint", "verify", packed).out == f"{packed}: format 2, 2 tensors, every checksum is right\n"
    same = cli("checkpoint", "diff", packed, tmp_path / "model.pt")
    assert (same.code, same.out) == (0, "2 tensors are the same, 0 differ\n")
    torch.save({**state, "steps": torch.tensor(8)}, tmp_path / "other.pt")
    other = cli("checkpoint", "diff", packed, tmp_path / "other.pt")
    assert (other.code, other.out) == (1, "steps: 1 of 1 values\n1 tensors are the same, 1 differ\n")
    one_line(
        cli("checkpoint", "verify", packed, "--max-bytes", 100), "packed.safetensors: says to unpack to 3,608 bytes"
    )
    torch.save({"[/red]x\n": torch.ones(2), "sparse": torch.eye(2).to_sparse()}, tmp_path / "strange.pt")
    assert "'[/red]x\\n': only in the first" in cli("checkpoint", "diff", tmp_path / "strange.pt", packed).out
    gnncompress.save_checkpoint({"[/red]x\n": torch.ones(2)}, tmp_path / "strange")
    assert "'[/red]x\\n'" in cli("checkpoint", "inspect", tmp_path / "strange").out
    one_line(cli("checkpoint", "inspect", tmp_path), "a folder, not a file")
    torch.save({"zeros": torch.zeros(70 << 20, dtype=torch.int8).expand(4, -1)}, tmp_path / "large.pt")
    assert cli("checkpoint", "pack", tmp_path / "large.pt", tmp_path / "large").code == 0
    one_line(cli("checkpoint", "verify", tmp_path / "large"), "says to unpack to 293,601,280 bytes")
    fast = cli("checkpoint", "pack", packed, tmp_path / "fast.safetensors", "--codec", "fast")
    assert fast.code == 0, fast.err
    assert cli("checkpoint", "diff", packed, tmp_path / "fast.safetensors").code == 0
    one_line(refused := cli("checkpoint", "unpack", packed, back), "back.pt: is there already", "--force")
    assert refused.code == 2
    assert cli("checkpoint", "unpack", packed, back, "--force").code == 0


def test_checkpoint_of_a_run_unpacks(cli: Cli, runs: Path, tmp_path: Path) -> None:
    for index, packed in enumerate(sorted(runs.glob("*/model.safetensors"))):
        assert cli("checkpoint", "unpack", packed, tmp_path / f"{index}.safetensors").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["prune", "-d", "coraa"], 2, ["unknown dataset 'coraa'", "did you mean cora?"]),
        (["prune", "-m", "gnc"], 2, ["unknown model 'gnc'", "did you mean gin or gcn?"]),
        (["prune", "--method", "globall"], 2, ["unknown method 'globall'", "did you mean global?"]),
        (["prune", "-s", "1.0"], 2, ["--sparsity 1.0", "must be at least 0 and below 1"]),
        (["prune", "-s", "half"], 2, ["--sparsity half", "is not a level"]),
        (["prune", "--seeds", "0"], 2, ["--seeds"]),
        (["prune", "--epochs", "x"], 2, ["--epochs"]),
        (["prune", "--device", "tpu"], 2, ["--device tpu"]),
        (["prune", "--energy", "sun"], 2, ["unknown energy source 'sun'"]),
        (["prune", "--sparsty", "1"], 2, ["--sparsty", "--sparsity"]),
        (["prun"], 2, ["'prun'", "'prune'"]),
        (["report", "nowhere"], 1, ["nowhere: no such folder"]),
        (["report", "--format", "pdf"], 2, ["unknown format 'pdf'"]),
        (["checkpoint", "inspect", "nowhere"], 1, ["nowhere: no such file"]),
        (["checkpoint", "pack", "nowhere", "out"], 1, ["nowhere: no such file"]),
        (["checkpoint", "unpack"], 2, ["INPUT"]),
    ],
)
def test_wrong_usage_is_one_line(
    cli: Cli, arguments: list[str], code: int, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(*arguments)
    assert result.code == code
    assert result.out == ""
    one_line(result, *parts)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()], "nothing half-written"


def test_output_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = cli("prune", "-o", tmp_path / "file" / "runs")
    assert result.code == 2
    one_line(result, "--output", "cannot be written")


def test_report_of_bad_results(cli: Cli, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = cli("report", tmp_path / "empty")
    assert result.code == 1
    one_line(result, "empty: no finished runs")
    run = next(path.parent for path in runs.glob("*/results.csv"))
    shutil.copytree(run, tmp_path / "copies" / run.name)
    file = tmp_path / "copies" / run.name / "results.csv"
    file.write_text(file.read_text().replace(",source", ""))
    result = cli("report", tmp_path / "copies")
    assert result.code == 1
    one_line(result, str(file), "column source missing")


def test_damaged_checkpoint(cli: Cli, tmp_path: Path) -> None:
    gnncompress.save_checkpoint({"w": torch.randn(9, 9)}, tmp_path / "x")
    content = bytearray((tmp_path / "x").read_bytes())
    content[300] ^= 1
    (tmp_path / "x").write_bytes(content)
    unpack = ["unpack", tmp_path / "x", tmp_path / "y.pt"]
    for command in (["inspect", tmp_path / "x"], ["verify", tmp_path / "x"], unpack):
        result = cli("checkpoint", *command)
        assert result.code == 1
        one_line(result, str(tmp_path / "x"), "tensor 'w' is damaged")
    assert not (tmp_path / "y.pt").exists()


def test_missing_and_cut_data(cli: Cli, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNNCOMPRESS_DATA", raising=False)
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(tmp_path / "cache"))
    raw = tmp_path / "data" / "Planetoid" / "Cora" / "raw"
    shutil.copytree(data_root / "Planetoid" / "Cora" / "raw", raw)
    os.chmod(raw / "ind.cora.graph", 0o644)
    (raw / "ind.cora.graph").write_bytes((raw / "ind.cora.graph").read_bytes()[:-100])
    result = cli("train", "-d", "cora", "-o", tmp_path / "runs", "--data-root", tmp_path / "data")
    assert result.code == 1
    one_line(result, "ind.cora.graph: damaged or cut short")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("gnncompress.datasets.locations.fetch", offline)
    result = cli("train", "-d", "cora", "-o", tmp_path / "runs")
    assert result.code == 1
    one_line(result, "ind.cora.x", str(tmp_path / "cache"), "-d digits")
    assert not list((tmp_path / "runs").glob("*/results.csv"))


def test_failed_run_exits_1_and_keeps_the_others(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gnncompress.tasks import trainer as trainer_module

    genuine = trainer_module.train

    def diverging(model: torch.nn.Module, task: object, recipe: object, seed: int, *rest: object) -> object:
        if seed == 1:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))
        return genuine(model, task, recipe, seed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer_module, "train", diverging)
    result = cli("train", "--seeds", 2, "--epochs", 2, "-o", tmp_path, "--json")
    assert result.code == 1
    assert [chain_of(run).workload.seed for run in result.json["runs"]] == [0]
    assert "the loss is nan at epoch 1 (seed 1)" in result.json["failed"][0]["error"]
    assert "failed: digits gcn train seed 1" in result.err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    from gnncompress.cli import main
    from gnncompress.errors import UsageError

    with pytest.raises(UsageError):
        main(["prune", "-d", "coraa", "--debug", "-o", str(tmp_path)])


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_terminal_shows_progress_with_the_metric_on_it(tmp_path: Path) -> None:
    import pty

    master, slave = pty.openpty()
    command = [sys.executable, "-m", "gnncompress", "prune", "-s", "0.9995", "--no-finetune", "--epochs", "40"]
    process = subprocess.Popen(
        [*command, "-o", str(tmp_path)],
        stdout=slave,
        stderr=slave,
        env={**os.environ, "COLUMNS": "160", "TERM": "xterm"},
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # Linux reports the end of a pseudo-terminal as an error
        while chunk := os.read(master, 65536):
            shown += chunk
    assert process.wait(timeout=60) == 0, shown.decode()
    text = shown.decode()
    for part in ("digits gcn train seed 0", "validation 0.", "loss ", "warning:", "layer collapse", "accuracy"):
        assert part in text
