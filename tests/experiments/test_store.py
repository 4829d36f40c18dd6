from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from gnncompress.errors import ResultsError, TrainingError
from gnncompress.experiments.resolve import resolve
from gnncompress.experiments.rows import read_metrics, to_csv
from gnncompress.experiments.store import Store, read_spec
from gnncompress.measurements import COLUMNS, Measurement

SPEC = resolve("digits")


def publish(store: Store, text: str = "rows") -> None:
    with store.lock(SPEC), store.staged(SPEC) as stage:
        (stage / "results.csv").write_text(text)


def test_run_appears_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.lock(SPEC), store.staged(SPEC) as stage:
        (stage / "results.csv").write_text("rows")
        assert not store.finished(SPEC)
        assert not store.path(SPEC).exists()
    assert store.finished(SPEC)
    assert [path.name for path in store.path(SPEC).iterdir()] == ["results.csv"]
    assert list((tmp_path / ".staging").iterdir()) == []


def test_failed_run_leaves_its_error_and_is_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fail(SPEC, TrainingError("the loss is nan"))
    error = json.loads((store.path(SPEC) / "error.json").read_text())
    assert (error["type"], error["message"]) == ("TrainingError", "the loss is nan")
    assert "the loss is nan" in error["traceback"]
    assert read_spec(store.path(SPEC))["dataset"] == "digits"
    assert not store.finished(SPEC)
    publish(store)
    assert store.finished(SPEC)
    assert not (store.path(SPEC) / "error.json").exists()


def test_a_failure_never_replaces_a_finished_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store)
    store.fail(SPEC, TrainingError("late"))
    assert store.results(SPEC).read_text() == "rows"


def test_what_a_dead_process_left_is_swept_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in (SPEC.run_id, f"{SPEC.run_id}.old"):
        (tmp_path / ".staging" / name).mkdir(parents=True)
        (tmp_path / ".staging" / name / "results.csv").write_text("half")
    publish(store)
    assert store.results(SPEC).read_text() == "rows"
    assert list((tmp_path / ".staging").iterdir()) == []


def test_exception_while_staged_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail() -> None:
        with store.staged(SPEC) as stage:
            (stage / "results.csv").write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not store.path(SPEC).exists()


def test_rows_and_metrics(tmp_path: Path) -> None:
    rows = [
        Measurement("evaluate", "accuracy", 0.1 + 0.2, "fraction"),
        Measurement("compress", "sparsity", 1.0, "fraction", "computed", "conv1.weight"),
        Measurement("inference", "energy", None, "J", "unavailable"),
    ]
    path = tmp_path / "results.csv"
    path.write_text(to_csv(SPEC, rows))
    lines = path.read_text().splitlines()
    assert lines[0] == (
        "run_id,dataset,task,model,method,scheme,sparsity,finetuned,seed,phase,layer,metric,value,unit,source"
    )
    assert lines[0] == ",".join(COLUMNS)
    assert lines[2] == (
        f"{SPEC.run_id},digits,node-classification,gcn,none,,0.0,false,0,"
        "compress,conv1.weight,sparsity,1.0,fraction,computed"
    )
    assert read_metrics(path) == {"evaluate.accuracy": 0.1 + 0.2, "inference.energy": None}


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("run_id,value\nx,1\n")
    with pytest.raises(ResultsError, match=r"results\.csv: cannot be read as results"):
        read_metrics(tmp_path / "results.csv")
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(ResultsError, match=r"spec\.json: cannot be read"):
        read_spec(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("action", ["publish", "fail", "succeed after a failure"])
def test_killed_at_every_file_operation(action: str, tmp_path: Path) -> None:
    """Kill a writer at its first file operation, its second, and so on until it survives them all."""
    survived = False
    for operation in range(1, 200):
        store = Store(tmp_path / str(operation))
        if action == "succeed after a failure":
            store.fail(SPEC, TrainingError("first"))
        if (child := os.fork()) == 0:
            _die_at(operation)
            if action == "fail":
                store.fail(SPEC, TrainingError("stop"))
            else:
                publish(store)
            os._exit(0)
        survived = os.waitpid(child, 0)[1] == 0
        for run in store.folder.glob("[0-9a-f]*"):
            names = {path.name for path in run.iterdir()}
            assert names in ({"results.csv"}, {"spec.json", "error.json"}), (operation, names)
        publish(store)
        assert store.results(SPEC).read_text() == "rows"
        assert list((store.folder / ".staging").iterdir()) == []
        if survived:
            break
    assert survived
    assert operation > 5


def _die_at(operation: int) -> None:
    count = 0

    def hook(event: str, _: object) -> None:
        nonlocal count
        if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "tempfile.mkstemp"}:
            count += 1
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
