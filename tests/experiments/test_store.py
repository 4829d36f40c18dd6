from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gnncompress.errors import ResultsError, TrainingError, UsageError
from gnncompress.experiments import execution
from gnncompress.experiments.rows import read_metrics, to_csv
from gnncompress.experiments.store import Store, read_spec
from gnncompress.experiments.sweep import Observer, Sweep
from gnncompress.measurements import COLUMNS, Measurement
from tests.experiments.helpers import asked

SPEC = asked("digits")


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
    assert read_spec(store.path(SPEC))["workload"]["dataset"] == "digits"
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
    for name in (SPEC.id, f"{SPEC.id}.old"):
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
        f"{SPEC.id},digits,node-classification,gcn,none,,0.0,false,0,"
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
        for made in store.folder.glob("[0-9a-f]*"):
            names = {path.name for path in made.iterdir()}
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


def elsewhere(tmp_path: Path) -> tuple[Path, Path]:
    """Return an empty output folder, and another folder that holds a finished run of the same name."""
    (tmp_path / "runs").mkdir()
    precious = tmp_path / "precious"
    (precious / SPEC.id).mkdir(parents=True)
    (precious / SPEC.id / "results.csv").write_text("rows")
    return tmp_path / "runs", precious


@pytest.mark.parametrize("name", [".staging", ".locks"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_in_place_of_a_folder_of_the_store_is_refused(name: str, dangling: bool, tmp_path: Path) -> None:
    runs, precious = elsewhere(tmp_path)
    (runs / name).symlink_to(tmp_path / "nothing" if dangling else precious)
    with pytest.raises(UsageError, match=rf"--output .*runs: {name} in it cannot be used \(a link, not a folder\)"):
        Store(runs)
    assert [path.name for path in precious.iterdir()] == [SPEC.id]
    assert (precious / SPEC.id / "results.csv").read_text() == "rows"
    assert not (tmp_path / "nothing").exists()


def test_a_file_in_place_of_a_folder_of_the_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".staging").write_text("")
    with pytest.raises(UsageError, match=r"\.staging in it cannot be used \(a file, not a folder\)"):
        Store(tmp_path)


def test_a_link_put_there_later_is_refused_too(tmp_path: Path) -> None:
    runs, precious = elsewhere(tmp_path)
    store = Store(runs)
    for name in (".staging", ".locks"):
        (runs / name).rmdir()
        (runs / name).symlink_to(precious)
    with pytest.raises(UsageError, match=r"\.locks in it cannot be used"), store.lock(SPEC):
        pass
    with pytest.raises(UsageError, match=r"\.staging in it cannot be used"), store.staged(SPEC):
        pass
    assert [path.name for path in precious.iterdir()] == [SPEC.id]
    assert (precious / SPEC.id / "results.csv").read_text() == "rows"


def test_a_link_put_there_while_staging_is_not_followed(tmp_path: Path) -> None:
    runs, precious = elsewhere(tmp_path)
    store = Store(runs)

    def fail() -> None:
        with store.staged(SPEC) as stage:
            stage.rmdir()
            stage.parent.rmdir()
            stage.parent.symlink_to(precious)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert (precious / SPEC.id / "results.csv").read_text() == "rows"


@pytest.mark.parametrize("suffix", ["", ".old"])
def test_links_in_the_staging_folder_are_deleted_and_not_what_they_lead_to(suffix: str, tmp_path: Path) -> None:
    runs, precious = elsewhere(tmp_path)
    store = Store(runs)
    (runs / ".staging" / f"{SPEC.id}{suffix}").symlink_to(precious)
    publish(store)
    (runs / SPEC.id / "results.csv").unlink()
    (runs / SPEC.id / "notes").symlink_to(precious)
    publish(store)
    assert [path.name for path in (runs / SPEC.id).iterdir()] == ["results.csv"]
    assert (precious / SPEC.id / "results.csv").read_text() == "rows"
    assert list((runs / ".staging").iterdir()) == []


def test_a_lock_that_is_a_link_makes_no_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    (tmp_path / "runs" / ".locks" / f"{SPEC.id}.lock").symlink_to(tmp_path / "made")
    with pytest.raises(ResultsError, match=r"\.lock: cannot be locked \(a link, not a file\)"), store.lock(SPEC):
        pass
    assert not (tmp_path / "made").exists()


def put_file(place: Path) -> None:
    place.write_text("mine")


def put_dangling(place: Path) -> None:
    place.symlink_to("nothing")


def put_link(place: Path) -> None:
    (place.parent / "mine").mkdir()
    place.symlink_to("mine")


def put_pipe(place: Path) -> None:
    os.mkfifo(place)


IN_THE_WAY = [(put_file, "a file"), (put_dangling, "a link"), (put_link, "a link"), (put_pipe, "a pipe")]


@pytest.mark.parametrize(("put", "what"), IN_THE_WAY)
@pytest.mark.parametrize("base", [False, True])
def test_what_is_in_the_way_of_a_run_is_told_before_any_training(
    put: Callable[[Path], None], what: str, base: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = asked("digits", method="global", sparsity=0.5)
    store = Store(tmp_path)
    put(store.path(pruned.base.model if base else pruned))

    def train(*_: object) -> None:
        pytest.fail("nothing may be trained")

    monkeypatch.setattr(execution, "_applied", train)
    with pytest.raises(ResultsError, match=f"{what}, not a folder, where the run's files belong; move it away"):
        Sweep(store, None, Observer()).run([pruned])
    assert not list(tmp_path.glob("*/results.csv"))


def test_a_finished_run_behind_a_link_is_found(tmp_path: Path) -> None:
    runs, precious = elsewhere(tmp_path)
    store = Store(runs)
    store.path(SPEC).symlink_to(precious / SPEC.id)
    assert Sweep(store, None, Observer()).run([SPEC]).finished == [SPEC]


def test_what_cannot_be_cleared_away_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.fail(SPEC, TrainingError("first"))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ResultsError, match=r"cannot be made anew \(Permission denied\)"), store.staged(SPEC):
        pytest.fail("nothing may be done")
    assert (store.path(SPEC) / "error.json").exists()


def test_nothing_fails_after_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    replace = os.replace

    def last(source: Path, target: Path) -> None:
        """Let no file operation succeed after the run is in its place."""
        replace(source, target)
        if Path(target) == store.path(SPEC):
            for module, name in ((os, "open"), (os, "fsync"), (os, "rmdir"), (os, "unlink"), (os, "lstat")):
                monkeypatch.setattr(module, name, refuse)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with store.lock(SPEC):
        monkeypatch.setattr(os, "replace", last)
        with store.staged(SPEC) as stage:
            (stage / "results.csv").write_text("rows")
        monkeypatch.undo()
    assert store.results(SPEC).read_text() == "rows"


def test_a_failure_that_cannot_be_stored_does_not_hide_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    class Ear(Observer):
        def warned(self, spec: object, warning: str) -> None:
            told.append(warning)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(execution, "_applied", full)
    monkeypatch.setattr(Store, "fail", full)
    outcome = Sweep(Store(tmp_path), None, Ear()).run([SPEC])
    assert [str(error) for error in outcome.failed.values()] == ["[Errno 28] No space left on device"]
    assert len(told) == 1
    assert told[0].startswith("that it failed cannot be stored (OSError: ")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that all users may write, made by root; the test goes on as another user."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can be two users")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "runs").mkdir()
        (folder / "runs").chmod(0o777)
        Store(folder / "runs")
        yield folder / "runs"


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_another_users_lock_is_told_before_any_training(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (".locks", ".staging"):
        (shared / name).chmod(0o777)
    with Store(shared).lock(SPEC):
        pass
    monkeypatch.setattr(execution, "_applied", lambda *_: pytest.fail("nothing may be trained"))
    with nobody(), pytest.raises(ResultsError, match=r"\.lock: cannot be locked \(another user's\); choose another"):
        Sweep(Store(shared), None, Observer()).run([SPEC])
    locking = pytest.raises(ResultsError, match=r"\.lock: cannot be locked \(another user's\)")
    with nobody(), locking, Store(shared).lock(SPEC):
        pass


def test_another_users_folders_are_told_at_once(shared: Path) -> None:
    with nobody(), pytest.raises(UsageError, match=r"--output .*\.locks: cannot be written \(Permission denied\)"):
        Store(shared)


def test_another_users_run_that_is_kept_secret_is_told(shared: Path) -> None:
    publish(Store(shared))
    (shared / SPEC.id).chmod(0o700)
    for name in (".locks", ".staging"):
        (shared / name).chmod(0o777)
    with nobody(), pytest.raises(ResultsError, match=r"cannot be read \(Permission denied\); choose another --output"):
        Store(shared).finished(SPEC)


@pytest.mark.parametrize("put", [put_pipe, Path.mkdir, put_dangling, lambda place: place.symlink_to("/dev/zero")])
@pytest.mark.parametrize("name", ["spec.json", "results.csv"])
def test_what_is_no_file_is_refused_without_waiting(put: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    put(tmp_path / name)
    read: Callable[[], object] = (
        (lambda: read_spec(tmp_path)) if name == "spec.json" else (lambda: read_metrics(tmp_path / name))
    )
    with pytest.raises(ResultsError, match=rf"{name}: cannot be read"):
        read()


@pytest.mark.parametrize("text", [b"[1]", b"3", b"{" * 9, b"[" * 200_000, b'{"a":' * 200_000, b"\xff\xfe", b"\0"])
def test_a_spec_that_is_none_is_named(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_bytes(text)
    with pytest.raises(ResultsError, match=r"spec\.json: cannot be read") as raised:
        read_spec(tmp_path)
    assert "\n" not in str(raised.value)
