from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from filelock import FileLock, Timeout

from gnncompress.errors import DatasetError, MeasurementError, ResultsError
from gnncompress.profiling import isolation
from gnncompress.profiling.isolation import isolated, machine_lock

LOCK = f"/tmp/gnncompress-measure-{os.getuid() if hasattr(os, 'getuid') else 0}.lock"


def process(*_: object) -> int:
    return os.getpid()


def refuse() -> None:
    raise DatasetError("files missing")


def fail() -> None:
    raise RuntimeError("boom")


def die() -> None:
    os._exit(3)


def test_runs_in_another_process() -> None:
    assert isolated(process, 1, "a") != os.getpid()


def test_our_errors_come_back_as_they_are() -> None:
    with pytest.raises(DatasetError, match="files missing"):
        isolated(refuse)


def test_other_errors_are_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MeasurementError, match="the measuring process failed: RuntimeError: boom"):
        isolated(fail)


def test_death_is_told() -> None:
    with pytest.raises(MeasurementError, match=r"ended without a result \(exit code 3\)"):
        isolated(die)


def test_one_measurement_at_a_time() -> None:
    order = []
    with machine_lock():
        thread = threading.Thread(target=lambda: order.append(isolated(process)))
        thread.start()
        time.sleep(0.3)
        assert order == [], "it must wait for the lock"
        order.append(0)
    thread.join()
    assert order[0] == 0
    assert len(order) == 2


def test_script_without_a_guard_does_not_run_twice(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom gnncompress.profiling.isolation import isolated\nprint('once')\n"
        "print(isolated(os.getpid) > 0)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["once", "True"], done.stderr


def measure_long(file: str, how: str) -> None:
    """Say which process measures, then go on for a minute."""
    Path(f"{file}.new").write_text(str(os.getpid()))
    os.replace(f"{file}.new", file)
    end = time.monotonic() + 60
    while how == "at work" and time.monotonic() < end:
        pass
    time.sleep(60)


def ended(process: psutil.Process) -> bool:
    """Say whether a process ends within seconds, waited for by anyone or not."""
    until = time.monotonic() + 5
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
    return True


MEASURING = """
import sys
from gnncompress.profiling.isolation import isolated
from tests.profiling.test_isolation import measure_long
isolated(measure_long, *sys.argv[1:])
"""


@contextlib.contextmanager
def measuring(folder: Path, how: str) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """Start a process that measures; yield it and the one that measures for it."""
    file = folder / "pid"
    command = [sys.executable, "-c", MEASURING, str(file), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120  # others may be measuring
        while not file.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        child = psutil.Process(int(file.read_text()))
        try:
            yield process, child
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("how", ["at work", "asleep"])
def test_what_measures_ends_with_the_process_that_it_measures_for(how: str, number: str, tmp_path: Path) -> None:
    with measuring(tmp_path, how) as (process, child):
        assert child.pid != process.pid
        process.send_signal(getattr(signal, number))
        # Everything that was started holds the pipes open as long as it lives.
        assert process.communicate(timeout=10) == (b"", b"")
        assert ended(child)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_no_other_measurement_begins_before_the_last_one_has_ended(tmp_path: Path) -> None:
    with measuring(tmp_path, "asleep") as (process, child):
        assert LOCK in [file.path for file in child.open_files()]
        child.suspend()  # so that it cannot end yet
        process.kill()
        process.wait()
        with pytest.raises(Timeout):
            FileLock(LOCK).acquire(timeout=0.2)
        child.resume()
        assert process.communicate(timeout=10) == (b"", b"")
    with machine_lock():
        pass


def test_a_lock_that_cannot_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another user made a file of that name."""
    (tmp_path / f"gnncompress-measure-{os.getuid()}.lock").symlink_to("made")
    monkeypatch.setattr(isolation, "Path", lambda _: tmp_path)
    refused = pytest.raises(ResultsError, match=r"measure-\d+\.lock: cannot be locked \(a link, not a file\)")
    with refused, machine_lock():
        pytest.fail("nothing is held")
    assert not (tmp_path / "made").exists()
