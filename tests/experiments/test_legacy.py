"""What versions before stages wrote can be read: cards of checkpoints, and specs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import gnncompress
from gnncompress.checkpoints import save_checkpoint
from gnncompress.errors import UsageError
from gnncompress.experiments.building import load_task, new_model
from gnncompress.experiments.comparing import Settings, compare
from gnncompress.experiments.legacy import chain_of, methods_of
from gnncompress.methods import method_named
from gnncompress.quantization import calibrate, freeze, prepare
from gnncompress.reporting import read_results
from tests.experiments.helpers import asked, finetune_of

RECIPE = {"epochs": 20, "learning_rate": 0.01, "weight_decay": 0.0005, "patience": 100}


def spec(**changes: Any) -> dict[str, Any]:
    """Return a spec as version 5 wrote it."""
    plain: dict[str, Any] = {
        "version": 5,
        "dataset": "digits",
        "data": "",
        "task": "node-classification",
        "model": "gcn",
        "code": "",
        "arguments": {"hidden": 64, "dropout": 0.5},
        "features": "auto",
        "recipe": RECIPE,
        "method": "none",
        "scheme": "",
        "settings": {},
        "sparsity": 0.0,
        "finetune": None,
        "finetune_pruned": None,
        "seed": 1,
        "split": {"kind": "random", "seed": 1, "validation": 400, "test": 400},
        "device": "cpu",
        "threads": 1,
        "window": {"warmup": 300, "repetitions": 30, "seconds": 1.0, "energy_seconds": 10.0, "energy_windows": 3},
        "energy": "auto",
        "country": "",
        "inference_batch": 0,
    }
    return {**plain, **changes}


@pytest.mark.parametrize(
    ("changes", "names", "execute"),
    [
        ({}, [], "simulated"),
        ({"method": "global", "sparsity": 0.5, "finetune": RECIPE}, ["global"], "simulated"),
        ({"method": "l2", "sparsity": 0.5, "settings": {"rate": 0.1}}, ["l2"], "simulated"),
        (
            {"method": "quantize", "sparsity": 0.7, "settings": {"scheme": "dq-int4", "execute": "integer"}},
            ["global", "quantize"],
            "integer",
        ),
        ({"method": "lottery", "sparsity": 0.36, "settings": {"round": 2}}, ["lottery"], "simulated"),
    ],
)
def test_a_spec_is_read_as_a_chain(changes: dict[str, Any], names: list[str], execute: str) -> None:
    chain = chain_of(spec(**changes))
    assert [stage.method for stage in chain.compressions] == names
    assert chain.sparsity == pytest.approx(changes.get("sparsity", 0.0))
    assert chain.measure is not None
    assert chain.measure.execute == execute
    assert (finetune_of(chain) is None) == (changes.get("finetune") is None)
    assert chain.workload.seed == 1
    chain.dump()


def test_older_and_broken_specs_are_refused() -> None:
    with pytest.raises(UsageError, match="a spec of version 4 cannot be read; run it again"):
        chain_of(spec(version=4))
    with pytest.raises(ValidationError):
        chain_of(spec(seed=-1))


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ({"scheme": "dq-int8"}, {}),
        ({"scheme": "qat-int4", "weights": "channel"}, {"scheme": "qat-int4", "granularity": "channel"}),
        (
            {"scheme": "a2q", "protocol": "official-protocol", "keep_float": "lin,conv"},
            {"scheme": "a2q", "official_protocol": True, "keep_float": ["conv", "lin"]},
        ),
    ],
)
def test_settings_of_quantization(settings: dict[str, Any], config: dict[str, Any]) -> None:
    ((name, found),) = methods_of("quantize", settings, 0.0)
    assert method_named(name, found).changed() == config


def old_card(**changes: Any) -> dict[str, Any]:
    plain = {"run": "0", "dataset": "digits", "task": "node-classification", "model": "gcn", "method": "none"}
    sizes = {"arguments": {"hidden": 64, "dropout": 0.5}, "features": 64, "outputs": 10, "sparsity": 0.0, "seed": 0}
    return {**plain, **sizes, "scheme": "", "settings": {}, **changes}


def test_an_earlier_checkpoint_is_loaded(tmp_path: Path) -> None:
    chain = asked("digits", "gcn")
    task = load_task(chain.workload, None)
    model = new_model(chain.workload, task).eval()
    save_checkpoint(model, tmp_path / "plain", old_card())
    assert type(gnncompress.load_model(tmp_path / "plain")) is type(model)
    prepare(model, "qat-int8", granularity="channel")
    calibrate(model, lambda: task.example(model))
    settings = {"scheme": "qat-int8", "weights": "channel", "execute": "integer"}
    save_checkpoint(freeze(model), tmp_path / "integer", old_card(method="quantize", settings=settings))
    loaded = gnncompress.load_model(tmp_path / "integer")
    assert type(loaded).__name__ == "ProgramModel"


def test_an_earlier_folder_is_reported_apart_and_compared(runs: Path, tmp_path: Path) -> None:
    folders = [path.parent for path in runs.glob("*/results.csv")]
    new = next(folder for folder in folders if '"train-on"' in (folder / "spec.json").read_text())
    old = tmp_path / "0123456789abcdef"
    old.mkdir()
    (old / "results.csv").write_text((new / "results.csv").read_text().replace(new.name, old.name))
    (old / "spec.json").write_text(json.dumps(spec(seed=0)))
    (old / "model.safetensors").write_bytes((new / "model.safetensors").read_bytes())
    both = tmp_path / "both"
    both.mkdir()
    for folder in (old, new):
        (both / folder.name).symlink_to(folder)
    table = gnncompress.summarize(read_results(both))
    assert sorted(table["setting"]) == ["format=5", "format=6"]
    seed = json.loads((new / "spec.json").read_text())["workload"]["seed"]
    split = {**spec()["split"], "seed": seed}
    (old / "spec.json").write_text(json.dumps(spec(seed=seed, split=split)))
    found = compare(old, new, settings=Settings(rounds=5, seconds=0.02, energy="none"))
    assert (found.a, found.b) == (old.name, new.name)
