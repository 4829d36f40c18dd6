"""Measured children: in processes of their own, which touch nothing of the caller's and end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from filelock import FileLock, Timeout

from gnncompress.errors import DatasetError, MeasurementError
from gnncompress.profiling import isolation
from gnncompress.profiling.isolation import isolated, start_server
from gnncompress.profiling.machine_lock import machine_lock

LOCK = f"/tmp/gnncompress-measure-{os.getuid() if hasattr(os, 'getuid') else 0}.lock"


posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and forks")


@pytest.fixture(params=["forked", "fresh"])
def child(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have children forked, and started as where nothing can be forked."""
    monkeypatch.setattr(isolation, "_CAN_FORK", request.param == "forked")


def process(*_: object) -> int:
    return os.getpid()


def refuse() -> None:
    raise DatasetError("files missing")


def fail() -> None:
    raise RuntimeError("boom")


def die(how: str) -> None:
    if how == "by a signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "politely":
        sys.exit(4)
    os._exit(3)


def return_what_cannot_be_sent() -> object:
    return lambda: None


def say(text: str) -> None:
    print(text)
    print(f"{text}!", file=sys.stderr)


def surroundings() -> tuple[str, str | None, list[str], bool]:
    return os.getcwd(), os.environ.get("OF_THE_CALLER"), sys.path, sys.stdin.read() == ""


def is_imported(module: str) -> bool:
    return module in sys.modules


def warning_options() -> list[str]:
    return sys.warnoptions


@pytest.mark.usefixtures("child")
def test_runs_in_another_process() -> None:
    assert isolated(process, 1, "a") != os.getpid()


@pytest.mark.usefixtures("child")
def test_our_errors_come_back_as_they_are() -> None:
    with pytest.raises(DatasetError, match="files missing"):
        isolated(refuse)


@pytest.mark.usefixtures("child")
def test_other_errors_are_told_and_where_they_were_raised(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MeasurementError, match=r"^the measuring process failed: RuntimeError: boom$") as caught:
        isolated(fail)
    assert 'raise RuntimeError("boom")' in str(caught.value.__cause__)
    assert capfd.readouterr() == ("", ""), "who catches the error says what is said"


@pytest.mark.usefixtures("child")
def test_a_result_that_cannot_be_sent_is_told() -> None:
    with pytest.raises(MeasurementError, match=r"the measuring process failed: .*pickle"):
        isolated(return_what_cannot_be_sent)


@posix
@pytest.mark.usefixtures("child")
@pytest.mark.parametrize(("how", "code"), [("at once", 3), ("politely", 4), ("by a signal", -9)])
def test_death_is_told(how: str, code: int) -> None:
    with pytest.raises(MeasurementError, match=rf"ended without a result \(exit code {code}\)"):
        isolated(die, how)


@pytest.mark.usefixtures("child")
def test_the_surroundings_are_the_callers_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolated(process)  # so that what children are forked from has begun elsewhere
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OF_THE_CALLER", "set")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    assert isolated(surroundings) == (str(tmp_path), "set", sys.path, True)
    monkeypatch.delenv("OF_THE_CALLER")
    assert isolated(surroundings)[1] is None


@pytest.mark.usefixtures("child")
def test_a_module_that_was_made_meanwhile_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    isolated(process)
    (tmp_path / "made_meanwhile.py").write_text("def answer(): return 42\n")
    import made_meanwhile  # type: ignore[import-not-found]

    assert isolated(made_meanwhile.answer) == 42


@posix
def test_what_a_child_prints_goes_where_the_caller_prints(capfd: pytest.CaptureFixture[str]) -> None:
    for text in ("once", "twice"):
        isolated(say, text)
        assert capfd.readouterr() == (f"{text}\n", f"{text}!\n")


@posix
def test_children_begin_with_the_imports_done() -> None:
    start_server(["colorsys"])
    assert isolated(is_imported, "colorsys")
    assert not isolated(is_imported, "antigravity")
    start_server(["sndhdr", "cmd"])  # although it runs already
    assert isolated(is_imported, "cmd")


@posix
def test_a_server_that_somebody_killed_is_started_again() -> None:
    isolated(process)
    assert isolation._server is not None
    isolation._server.process.kill()
    isolation._server.process.wait()
    assert isolated(process) != os.getpid()


def test_a_missing_interpreter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_CAN_FORK", False)
    for executable, why in (("/no/python", "No such file"), ("", "sys.executable does not say what to run")):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(MeasurementError, match=f"the measuring process cannot be run.*{why}"):
            isolated(process)


def test_many_threads_may_measure() -> None:
    found: list[object] = []

    def measure(number: int) -> None:
        try:
            found.append(isolated(divmod, number, number % 3))
        except MeasurementError as error:
            found.append(str(error))

    threads = [threading.Thread(target=measure, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [one for one in found if isinstance(one, str)]
    assert len(failed) == 3
    assert all("ZeroDivisionError" in one for one in failed)
    assert sorted(one for one in found if isinstance(one, tuple)) == [(1, 0), (1, 0), (2, 1), (4, 0), (7, 0)]


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


def run_script(folder: Path, text: str, options: Sequence[str] = (), shell: str = "") -> tuple[list[str], str]:
    """Run a user's script; return the words it prints, and standard error."""
    script = folder / "script.py"
    script.write_text(text)
    command = [sys.executable, *options, str(script)]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout.split(), done.stderr


IMPORTS = "import os, sys\nfrom gnncompress.profiling.isolation import isolated, start_server\n"


def test_script_without_a_guard_does_not_run_twice(tmp_path: Path) -> None:
    script = IMPORTS + "print('once')\nprint(isolated(os.getpid) != os.getpid())\n"
    assert run_script(tmp_path, script) == (["once", "True"], "")


@posix
@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_standard_files_may_be_closed(tmp_path: Path, closed: str) -> None:
    script = IMPORTS + "print(isolated(os.getpid) != os.getpid(), isolated(os.getpid) != os.getpid())\n"
    assert run_script(tmp_path, script, shell=closed) == (["True", "True"], "")


@posix
def test_standard_output_may_be_closed(tmp_path: Path) -> None:
    script = IMPORTS + "print(isolated(os.getpid) != os.getpid(), file=sys.stderr)\n"
    assert run_script(tmp_path, script, shell="<&- >&-") == ([], "True\n")


@pytest.mark.parametrize("options", [["-c"], ["-"]])
def test_without_a_script(options: list[str]) -> None:
    """As in a notebook: the main module has no file."""
    program = IMPORTS + "print(isolated(os.getpid) != os.getpid())\n"
    command = [sys.executable, *options, *([program] if options == ["-c"] else [])]
    given = None if options == ["-c"] else program
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("flags", [["-W", "error::ResourceWarning"], ["-X", "dev"]])
def test_flags_of_the_interpreter_are_the_childs(tmp_path: Path, flags: list[str]) -> None:
    script = IMPORTS + (
        "found = isolated(eval, '__import__(\"sys\").warnoptions')\n"
        "assert found == sys.warnoptions, found\nprint(len(sys.warnoptions))\n"
    )
    out, err = run_script(tmp_path, script, options=flags)
    assert (out, err) == (["1"], "")


@posix
def test_what_multiprocessing_was_told_stays(tmp_path: Path) -> None:
    script = IMPORTS + (
        "import multiprocessing\n"
        "from multiprocessing import forkserver\n"
        "multiprocessing.set_forkserver_preload(['json'])\n"
        "start_server(['csv'])\n"
        "isolated(os.getpid)\n"
        "of_the_users = forkserver._forkserver\n"
        "print(of_the_users._preload_modules, of_the_users._forkserver_pid)\n"
        "print(multiprocessing.get_start_method(allow_none=True), multiprocessing.active_children())\n"
    )
    assert run_script(tmp_path, script) == (["['json']", "None", "None", "[]"], "")


@posix
def test_a_forkserver_of_the_users_own_goes_on(tmp_path: Path) -> None:
    script = IMPORTS + (
        "import multiprocessing\n"
        "def main():\n"
        "    with multiprocessing.get_context('forkserver').Pool(1) as pool:\n"
        "        print(pool.apply(of_the_script))\n"
        "        isolated(os.getpid)\n"
        "        print(pool.apply(of_the_script))\n"
        "    with multiprocessing.get_context('forkserver').Pool(1) as pool:\n"
        "        print(pool.apply(of_the_script))\n"
        "def of_the_script():\n"
        "    return 'there'\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    assert run_script(tmp_path, script) == (["there"] * 3, "")


def test_the_main_module_stays_where_it_is(tmp_path: Path) -> None:
    """Other threads may look for it at any time, as pickling of their functions does."""
    script = IMPORTS + (
        "import threading\n"
        "seen, done = set(), threading.Event()\n"
        "def look():\n"
        "    while not done.is_set():\n"
        "        seen.add(id(sys.modules['__main__']))\n"
        "thread = threading.Thread(target=look)\n"
        "thread.start()\n"
        "sys.setswitchinterval(1e-5)\n"
        "for _ in range(10):\n"
        "    isolated(os.getpid)\n"
        "done.set()\n"
        "thread.join()\n"
        "print(len(seen))\n"
    )
    assert run_script(tmp_path, script) == (["1"], "")


@posix
def test_a_process_that_the_caller_forked_measures_by_itself(tmp_path: Path) -> None:
    script = IMPORTS + (
        "first = isolated(os.getppid)\n"
        "if os.fork():\n"
        "    os.wait()\n"
        "    print(isolated(os.getppid) == first)\n"
        "else:\n"
        "    print(isolated(os.getppid) == first, flush=True)\n"
    )
    assert run_script(tmp_path, script, options=["-X", "dev"]) == (["False", "True"], "")


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


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has made a file."""
    deadline = time.monotonic() + 120  # others may be measuring
    while not file.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert file.exists()


@contextlib.contextmanager
def measuring(
    folder: Path, how: str, program: str = MEASURING
) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """Start a process that measures; yield it and the one that measures for it."""
    file = folder / "pid"
    command = [sys.executable, "-c", program, str(file), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(file, process)
        child = psutil.Process(int(file.read_text()))
        try:
            yield process, child
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    finally:
        process.kill()
        process.communicate()


@posix
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("how", ["at work", "asleep"])
def test_what_measures_ends_with_the_process_that_it_measures_for(how: str, number: str, tmp_path: Path) -> None:
    with measuring(tmp_path, how) as (process, child):
        assert child.pid != process.pid
        process.send_signal(getattr(signal, number))
        # Everything that was started holds the pipes open as long as it lives.
        assert process.communicate(timeout=10) == (b"", b"")
        assert ended(child)


@posix
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


FORKING = """
import os, sys, threading, time
from pathlib import Path
from gnncompress.profiling.isolation import isolated
from tests.profiling.test_isolation import measure_long
def fork():
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    pid = os.fork()
    if not pid:
        time.sleep(60)
    Path(sys.argv[1] + ".made").write_text(str(pid))
    os.replace(sys.argv[1] + ".made", sys.argv[1] + ".fork")
threading.Thread(target=fork).start()
isolated(measure_long, *sys.argv[1:])
"""


@posix
def test_what_measures_ends_although_a_fork_of_the_caller_goes_on(tmp_path: Path) -> None:
    with measuring(tmp_path, "asleep", FORKING) as (process, child):
        file = tmp_path / "pid.fork"
        wait_for(file, process)
        server = child.parent()
        process.kill()
        try:
            assert ended(child)
            assert server is not None
            assert ended(server)
            assert psutil.pid_exists(int(file.read_text())), "the fork is still there"
        finally:
            os.kill(int(file.read_text()), signal.SIGKILL)


IMPORTING = """
from gnncompress.profiling.isolation import isolated, start_server
import os
start_server(["slow_to_import"])
isolated(os.getpid)
"""


@posix
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_nothing_is_left_or_said_when_the_caller_ends_amid_the_imports(tmp_path: Path, number: str) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "slow_to_import.py").write_text(f"import time\nopen({str(begun)!r}, 'x')\ntime.sleep(60)\n")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORTING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
        start_new_session=True,
    )
    wait_for(begun, process)
    if number == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.send_signal(getattr(signal, number))
    # Everything that was started holds the pipes open as long as it lives.
    out, err = process.communicate(timeout=10)
    assert out == b""
    assert err.count(b"Traceback") == (number == "SIGINT"), err.decode()


@posix
def test_an_interrupted_measurement_ends(tmp_path: Path) -> None:
    with measuring(tmp_path, "at work") as (process, child):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert ended(child)
    assert (out, err.count(b"Traceback"), err.strip().rpartition(b"\n")[2]) == (b"", 1, b"KeyboardInterrupt")
