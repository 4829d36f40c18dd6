from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gnncompress.errors import DatasetError, MeasurementError
from gnncompress.profiling.isolation import isolated, machine_lock


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
