"""The worker's reading of what commands leave behind. No environment is made, nothing is trained."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import gnncompress
from tests.parity import worker
from tests.parity.comparing import COLUMNS


@pytest.fixture(autouse=True)
def _same_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.getcwd())  # which the worker leaves


def finished_run(folder: Path, method: str, sparsity: str = "0.5") -> Path:
    row = ["id", "digits", "node-classification", "gcn", method, "", sparsity, "true", "0"]
    row += ["evaluate", "", "accuracy", "0.5", "fraction", "measured"]
    folder.mkdir(parents=True)
    (folder / worker.RESULTS).write_text(",".join(COLUMNS) + "\n" + ",".join(row) + "\n")
    return folder


def test_tensors_are_told_apart_by_one_bit_and_nan_equals_nan(tmp_path: Path) -> None:
    def packed(name: str, state: dict[str, torch.Tensor]) -> list:
        gnncompress.save_checkpoint(state, tmp_path / f"{name}.safetensors")
        return worker.tensors_of(tmp_path / f"{name}.safetensors")

    state = {
        "weight": torch.tensor([[0.0, -0.0], [float("nan"), 1.5]]),
        "scale": torch.tensor(0.25, dtype=torch.float64),
        "codes": torch.tensor([1, -2], dtype=torch.int8),
        "mask": torch.tensor([True, False]),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "none": torch.empty(0),
    }
    one = packed("one", state)
    assert packed("same", {name: tensor.clone() for name, tensor in state.items()}) == one
    assert {entry[0]: entry[1:3] for entry in one}["weight"] == ("torch.float32", [2, 2])
    for name in ("weight", "scale", "codes", "mask", "half"):
        bits = state[name].clone().reshape(-1)
        bits.view(torch.uint8)[0] ^= 1
        changed = packed("other", {**state, name: bits.reshape(state[name].shape)})
        assert [mine[0] for mine, other in zip(one, changed, strict=True) if mine != other] == [name]


def test_a_dense_file_is_read_as_a_packed_one(tmp_path: Path) -> None:
    state = {"weight": torch.arange(6.0).reshape(2, 3)}
    torch.save(state, tmp_path / "dense.pt")
    gnncompress.save_checkpoint(state, tmp_path / "packed.safetensors")
    assert worker.tensors_of(tmp_path / "dense.pt") == worker.tensors_of(tmp_path / "packed.safetensors")


def test_a_run_is_named_by_its_labels(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs" / "aa", "none", "0.0")
    finished_run(tmp_path / "runs" / "bb", "global")
    (tmp_path / "runs" / "cc").mkdir()  # a stage that nobody measured
    finished_run(tmp_path / "runs" / ".staging" / "dd", "global")
    found = worker.with_runs(["compare", "{run:method=none}", "{run:method=global,sparsity=0.5}/model"], tmp_path)
    assert found == ["compare", "runs/aa", "runs/bb/model"]
    for labels in ("method=l2", "finetuned=true"):
        with pytest.raises(ValueError, match="runs have the labels"):
            worker.with_runs([f"{{run:{labels}}}"], tmp_path)


def request(folder: Path, *commands: list[str], **more: object) -> dict:
    return {"folder": str(folder), "commands": list(commands), "files": {}, "keeps": [], **more}


def test_commands_run_in_their_folder_and_what_they_print_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "spec"
    with capsys.disabled():  # standard output is a file of the system's again, as in a worker
        found = worker.answer(request(folder, ["methods"], ["report", "nowhere"], ["--version"]))
    assert found["error"] == ""
    assert [one["code"] for one in found["done"]] == [0, 1, 0]
    assert "fine-grained" in found["done"][0]["out"]
    assert found["done"][1]["err"].startswith("error: ")
    assert str(tmp_path) not in json.dumps(found)
    assert found["seconds"] >= 0


def test_files_are_written_before_and_read_after(tmp_path: Path) -> None:
    folder = tmp_path / "spec"
    row = f"{'f' * 16},digits,node-classification,gcn,none,,0.0,false,0,evaluate,,accuracy,0.5,fraction,measured"
    text = ",".join(COLUMNS) + f"\n{row}\n"
    wanted = request(
        folder, ["report", "-f", "json", "-o", "t.json"], files={"runs/a/results.csv": text}, keeps=["t.json", "no"]
    )
    found = worker.answer(wanted)
    assert found["error"] == ""
    assert json.loads(found["files"]["t.json"]["text"])[0]["quality_mean"] == 0.5
    assert found["files"]["no"] is None
    assert found["done"][0]["runs"] == []  # it was there before


def test_runs_that_a_command_makes_or_changes_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "spec"

    def command(arguments: list[str], where: Path) -> tuple[int, str, str]:
        run = where / "runs" / arguments[0]
        if run.exists():
            (run / worker.RESULTS).write_text((run / worker.RESULTS).read_text().replace("0.5", "0.75"))
        else:
            finished_run(run, "none")
            gnncompress.save_checkpoint({"w": torch.ones(2)}, run / worker.MODEL)
        return 0, "", ""

    monkeypatch.setattr(worker, "_command", command)
    found = worker.answer(request(folder, ["aa"], ["bb"], ["aa"]))
    assert [[run["folder"] for run in one["runs"]] for one in found["done"]] == [["aa"], ["bb"], ["aa"]]
    assert found["done"][0]["runs"][0]["tensors"][0][:3] == ("w", "torch.float32", [2])


def test_a_command_that_cannot_be_started_ends_the_spec(tmp_path: Path) -> None:
    found = worker.answer(request(tmp_path / "spec", ["--version"], ["report", "{run:method=none}"], ["--version"]))
    assert len(found["done"]) == 1
    assert found["error"] == "ValueError: 0 runs have the labels method=none, not one"
