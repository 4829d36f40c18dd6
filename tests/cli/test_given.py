"""A model that is trained already: ``--weights net.pt -m my_file.py:build``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch_geometric.nn import GCN

from gnncompress.checkpoints import load_checkpoint, same_bits
from tests.cli.helpers import chain_of, chains_in, models_in
from tests.conftest import Result

Cli = Callable[..., Result]
FAST = ["--epochs", 2, "--energy", "none", "--json"]
NET = """
from torch_geometric.nn import GCN

def build(features, classes):
    return GCN(features, 8, 2, classes)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is, with the code of a model."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    return tmp_path


def weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(GCN(64, 8, 2, 10).state_dict())


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def given(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of the one given model that there is."""
    (name,) = [name for name, chain in chains_in(folder / "runs").items() if chain.last.stage == "given"]
    return load_checkpoint(folder / "runs" / name / "model.safetensors")


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3},
    "lightning": lambda state: {
        "state_dict": {**prefixed("model.", state), "criterion.weight": torch.ones(10)},
        "pytorch-lightning_version": "2.4.0",
        "epoch": 7,
        "hyper_parameters": {"lr": 0.01},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": []}],
    },
    "parallel": lambda state: prefixed("module.", state),
    "compiled and parallel": lambda state: {"model_state_dict": prefixed("_orig_mod.module.", state), "loss": 0.1},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_any_common_wrapping(cli: Cli, folder: Path, wrapping: str) -> None:
    torch.save(WRAPPED[wrapping](weights()), "net.pt")
    result = cli("train", "-m", "net.py:build", "--weights", "net.pt", *FAST)
    assert result.code == 0, result.err
    assert same_bits(given(folder), weights())
    (run,) = result.json["runs"]
    assert "train.epochs" not in run["metrics"], "it is trained already"
    assert [chain.last.stage for chain in chains_in(folder / "runs").values()].count("train") == 0


def test_a_place_in_the_file(cli: Cli, folder: Path) -> None:
    torch.save({"model": weights(), "ema": {"model": weights(1)}}, "net.pt")
    for key, seed in (([], 0), (["--key", "ema.model"], 1)):
        result = cli("train", "-m", "net.py:build", "--weights", "net.pt", *key, *FAST, "-o", f"runs{seed}")
        assert result.code == 0, result.err
        (chain,) = [one for one in chains_in(folder / f"runs{seed}").values() if one.last.stage == "given"]
        assert same_bits(load_checkpoint(folder / f"runs{seed}" / chain.id / "model.safetensors"), weights(seed))


def test_safetensors(cli: Cli, folder: Path) -> None:
    save_file(weights(), "net.safetensors")
    result = cli("train", "-m", "net.py:build", "--weights", "net.safetensors", *FAST)
    assert result.code == 0, result.err
    assert same_bits(given(folder), weights())


def test_every_command_starts_from_the_given_model(cli: Cli, folder: Path) -> None:
    torch.save(weights(), "net.pt")
    own = ["-m", "net.py:build", "--weights", "net.pt"]
    assert cli("prune", *own, "-s", 0.5, "--no-finetune", *FAST).code == 0
    made = models_in(folder / "runs")
    result = cli("quantize", *own, "--scheme", "ptq-int8", *FAST)
    assert result.code == 0, result.err
    assert cli("sensitivity", *own, "-s", 0.5, "--target", 0.5, "--epochs", 2, "--json").code == 0
    chains = chains_in(folder / "runs")
    assert {name: models_in(folder / "runs")[name] for name in made} == made
    assert all(chain.stages[0].stage == "given" for chain in chains.values())
    assert len({list(chain.beginnings)[-1].id for chain in chains.values()}) == 1, "all start from one model"
    (pruned,) = [one for one in chains.values() if one.measure is None and one.method == "global"]
    before, after = given(folder), load_checkpoint(folder / "runs" / pruned.id / "model.safetensors")
    kept = after["convs.0.lin.weight"] != 0
    assert torch.equal(after["convs.0.lin.weight"][kept], before["convs.0.lin.weight"][kept])
    assert not kept.all()


def test_other_weights_are_another_run(cli: Cli, folder: Path) -> None:
    found = set()
    for seed in (0, 1, 0):
        torch.save(weights(seed), "net.pt")
        (run,) = cli("train", "-m", "net.py:build", "--weights", "net.pt", *FAST).json["runs"]
        found.add((seed, run["run_id"]))
    assert len(found) == 2, "the digest of the file names the run"
    torch.save(weights(), "moved.pt")
    (run,) = cli("train", "-m", "net.py:build", "--weights", "moved.pt", *FAST).json["runs"]
    first = chain_of(run).stages[0]
    assert first.stage == "given"
    assert len(first.weights) == 64


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, ("ran", "w")


def narrow() -> dict[str, Tensor]:
    return dict(GCN(64, 4, 2, 10).state_dict())


WRONG: dict[str, tuple[Any, list[str]]] = {
    "code": ({**weights(), "hook": Evil()}, ["net.pt: cannot be read as tensors alone", "torch.save(model.state"]),
    "names": (prefixed("encoder_", weights()), ["does not fit GCN: has no convs.0.bias", "--key"]),
    "shapes": (narrow(), ["does not fit GCN", "size mismatch"]),
    "empty": ({}, ["holds no state_dict, but nothing"]),
    "no tensors": ({"epoch": 3}, ["holds no state_dict, but epoch"]),
    "a number": (7, ["holds no state_dict, but a int"]),
}


def refused(result: Result, *parts: str) -> None:
    """Insist on one line that says why, and on nothing in the folder of runs."""
    assert result.code in (1, 2)
    lines = [line for line in result.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, result.err
    for part in parts:
        assert part in lines[0]
    assert not Path("ran").exists(), "code of the file was run"
    assert not Path("runs").exists() or not chains_in(Path("runs")), "nothing was made"


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_model_is_told_before_anything_is_done(cli: Cli, folder: Path, what: str) -> None:
    held, parts = WRONG[what]
    torch.save(held, "net.pt")
    refused(cli("prune", "-m", "net.py:build", "--weights", "net.pt", "-s", 0.5, *FAST[:4]), *parts)


def test_a_file_that_is_none(cli: Cli, folder: Path) -> None:
    options = ["-m", "net.py:build", *FAST[:4]]
    result = cli("train", "--weights", "nowhere.pt", *options)
    assert result.code == 2
    refused(result, "--weights nowhere.pt: no such file")
    Path("text.pt").write_text("no tensors")
    refused(cli("train", "--weights", "text.pt", *options), "text.pt: cannot be read as tensors alone")
    Path("text.safetensors").write_text("no tensors")
    refused(cli("train", "--weights", "text.safetensors", *options), "text.safetensors")
    torch.save({"model": weights()}, "net.pt")
    refused(
        cli("train", "--weights", "net.pt", "--key", "ema.model", *options),
        "--key ema.model: there is no ema; there is model",
    )
    refused(cli("train", "--weights", folder, *options), "no such file")
