"""Any command from outside: its exit status, output and signals are untouched, its costs are all counted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from gnncompress.errors import CommandError, MeasurementError, UsageError
from gnncompress.measurements import Measurement
from gnncompress.profiling import command
from gnncompress.profiling.command import Ended, profile_command
from tests.profiling.counters import zone

pytestmark = pytest.mark.skipif(not hasattr(os, "wait4"), reason="a POSIX system's wait4")
SPIN = "import time\nwhile time.process_time() < 0.3: pass\n"


@pytest.fixture(autouse=True)
def counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for counters, empty at first, whatever this machine has."""
    folder = tmp_path / "powercap"
    folder.mkdir()
    monkeypatch.setenv("GNNCOMPRESS_POWERCAP", str(folder))
    return folder


def rows(ended: Ended) -> dict[str, Measurement]:
    found = {row.metric: row for row in ended.measurements}
    assert len(found) == len(ended.measurements), "a metric twice"
    return found


def value(ended: Ended, metric: str) -> float:
    found = rows(ended)[metric].value
    assert found is not None
    return found


def python(code: str, **options: Any) -> Ended:
    return profile_command([sys.executable, "-c", code], "profile", **{"energy": "none", **options})


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exit_status_is_kept(status: int) -> None:
    ended = profile_command(["sh", "-c", f"exit {status}"], "build", "none")
    assert ended.status == status
    assert rows(ended)["exit_status"] == Measurement("build", "exit_status", status, "status")
    assert {row.phase for row in ended.measurements} == {"build"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_command_killed_by_a_signal_ends_as_in_a_shell(number: signal.Signals) -> None:
    ended = profile_command(["sh", "-c", f"ulimit -c 0; kill -{number.value} $$"], "x", "none")
    assert ended.status == value(ended, "exit_status") == 128 + number


def test_a_command_that_is_not_there_is_refused() -> None:
    with pytest.raises(CommandError, match="no-such-command-here: no such command") as raised:
        profile_command(["no-such-command-here", "--option"], "x", "none")
    assert raised.value.exit_code == 127


def test_a_command_that_is_not_executable_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("nothing to run\n")
    for place, why in ((file, "Permission denied"), (tmp_path, "Permission denied")):
        with pytest.raises(CommandError, match=rf"{place}: cannot be run \({why}\)") as raised:
            profile_command([str(place)], "x", "none")
        assert raised.value.exit_code == 126


def test_a_command_that_cannot_be_run_leaves_no_meter_running(counters: Path) -> None:
    zone(counters, "intel-rapl:0")
    before = threading.active_count()
    with pytest.raises(CommandError):
        profile_command(["no-such-command-here"], "x", "rapl")
    assert threading.active_count() == before


def test_output_passes_through_untouched(capfd: pytest.CaptureFixture[str]) -> None:
    python("import sys\nprint('to out', end='')\nprint('to err', end='', file=sys.stderr)")
    assert capfd.readouterr() == ("to out", "to err")


def test_processor_time_of_grandchildren_is_counted() -> None:
    ended = python(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {SPIN!r}])")
    assert value(ended, "cpu_duration") >= 0.29
    assert rows(ended)["cpu_duration"].unit == "s"
    assert value(ended, "cpu") == pytest.approx(100 * value(ended, "cpu_duration") / value(ended, "duration"))


def test_a_command_that_waits_takes_no_processor() -> None:
    ended = profile_command(["sleep", "0.3"], "x", "none")
    assert value(ended, "duration") >= 0.3
    assert value(ended, "cpu_duration") < 0.1
    assert value(ended, "context_switches_voluntary") >= 1


def test_memory_of_the_tree_is_seen() -> None:
    # Some megabytes are the interpreter's; long enough for the samples of a machine that has other things to do.
    ended = python("import time\nblock = b'x' * 100_000_000\ntime.sleep(1)")
    assert 100e6 < value(ended, "memory_peak") < 140e6
    assert 100e6 < value(ended, "memory_peak_process") < 140e6


def test_memory_of_grandchildren_is_counted() -> None:
    hold = "import time\nblock = b'x' * 50_000_000\ntime.sleep(1)"
    code = f"import subprocess, sys\np = [subprocess.Popen([sys.executable, '-c', {hold!r}]) for _ in range(2)]\n"
    ended = python(code + "for one in p: one.wait()")
    assert 100e6 < value(ended, "memory_peak") < 180e6


def test_the_profiler_s_own_memory_is_not_the_command_s() -> None:
    ended = profile_command(["sleep", "0.2"], "x", "none")
    for metric in ("memory_peak", "memory_peak_process"):
        assert value(ended, metric) < 10e6


def test_a_command_too_short_for_a_look_has_no_memory_of_nothing() -> None:
    found = rows(profile_command(["true"], "x", "none"))["memory_peak"]
    assert found.value is None or found.value > 0
    assert (found.value is None) == (found.source == "unavailable")


def test_energy_and_grams_of_a_command(counters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = zone(counters, "intel-rapl:0")
    script = f"import os, pathlib\np = pathlib.Path({str(package.path)!r})\n(p / 'n').write_text('3000000')\n"
    ended = python(script + "os.replace(p / 'n', p / 'energy_uj')", energy="rapl", country="FRA")
    assert rows(ended)["energy"] == Measurement("profile", "energy", 3.0, "J", "rapl")
    assert value(ended, "power") == pytest.approx(3 / value(ended, "duration"))
    assert rows(ended)["co2"].source == "computed"


def test_without_counters_energy_is_unavailable_and_says_why() -> None:
    ended = python("", energy="auto")
    assert rows(ended)["energy"] == Measurement("profile", "energy", None, "J", "unavailable")
    assert any(line.startswith("energy of cpu: no energy counters") for line in ended.warnings)
    with pytest.raises(MeasurementError, match="no energy counters"):
        python("", energy="rapl")


def test_a_country_is_checked_before_the_command_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown country 'XXX'"):
        profile_command(["touch", str(tmp_path / "ran")], "x", "none", "XXX")
    assert not (tmp_path / "ran").exists()


def test_handlers_of_signals_are_put_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    profile_command(["true"], "x", "none")
    with pytest.raises(CommandError):
        profile_command(["no-such-command-here"], "x", "none")
    assert [signal.getsignal(number) for number in numbers] == before


def test_it_works_in_a_thread() -> None:
    found: list[Ended] = []
    thread = threading.Thread(target=lambda: found.append(profile_command(["sh", "-c", "exit 4"], "x", "none")))
    thread.start()
    thread.join()
    assert found[0].status == 4


# Says that it is ready, and ends with a status of its own for the signal that it got.
CATCH = """
import pathlib, signal, sys, time
def end(number, frame):
    pathlib.Path(sys.argv[2]).write_text(str(number))
    sys.exit(number + 40)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, end)
pathlib.Path(sys.argv[1]).touch()
time.sleep(20)
"""


def cli(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "gnncompress", "profile", *map(str, arguments)]


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command line in a session of its own, which has no terminal."""
    return subprocess.Popen(
        cli(*arguments), start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def wait_for(file: Path, seconds: float = 20) -> None:
    until = time.perf_counter() + seconds
    while not file.exists() and time.perf_counter() < until:
        time.sleep(0.01)
    assert file.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_sent_to_the_profiler_reach_the_command_and_the_rows_are_kept(
    tmp_path: Path, number: signal.Signals
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup, and so by what is started")
    ready, got, file = tmp_path / "ready", tmp_path / "got", tmp_path / "costs.csv"
    process = start("-q", "--energy", "none", "-o", file, "--", sys.executable, "-c", CATCH, ready, got)
    try:
        wait_for(ready)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert got.read_text() == str(number.value)
    assert process.returncode == number + 40, err
    table = pd.read_csv(file).set_index("metric")
    assert table.loc["exit_status", "value"] == number + 40


@pytest.mark.parametrize("grouped", [False, True])
def test_the_command_ends_with_a_profiler_that_is_killed(grouped: bool, tmp_path: Path) -> None:
    """Also one that ignores signals; and, but for a terminal, what it has started."""
    ready = tmp_path / "ready"
    script = "import os, pathlib, signal, subprocess, sys, time\n"
    script += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    script += "out = None if sys.argv[2] == 'True' else subprocess.DEVNULL\n"
    script += "started = subprocess.Popen(['sleep', '20'], stdout=out, stderr=out).pid\n"
    script += "pathlib.Path(sys.argv[1] + '.new').write_text(f'{os.getpid()} {started}')\n"
    script += "os.replace(sys.argv[1] + '.new', sys.argv[1])\ntime.sleep(60)"
    profiler = "import sys\nfrom gnncompress.profiling import command\n"
    profiler += f"command._in_foreground = lambda: {not grouped}\n"
    measured = f"[sys.executable, '-c', {script!r}, {str(ready)!r}, '{grouped}']"
    profiler += f"command.profile_command({measured}, 'x', 'none')"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", profiler], stdout=pipe, stderr=pipe)
    try:
        wait_for(ready, 60)
        pids = [int(pid) for pid in ready.read_text().split()]
        process.kill()
        assert process.communicate(timeout=10) == (b"", b"")  # all that may not go on holds the pipes open
        assert ended(pids[0])
        assert ended(pids[1]) if grouped else psutil.pid_exists(pids[1])
    finally:
        process.kill()
    if not grouped:
        os.kill(pids[1], signal.SIGKILL)


def ended(pid: int) -> bool:
    """Say whether a process ends within seconds, waited for by anyone or not."""
    until = time.perf_counter() + 5
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.perf_counter() > until:
                return False
            time.sleep(0.01)
    return True


@pytest.mark.parametrize("what", [["true"], ["no-such-command-here"]])
def test_the_guard_ends_with_the_command(what: list[str]) -> None:
    before = psutil.Process().children()
    with contextlib.suppress(CommandError):
        profile_command(what, "x", "none")
    assert psutil.Process().children() == before


def test_a_guard_that_was_killed_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(command._Guard):
        """Is killed as soon as it is there."""

        def __init__(self) -> None:
            super().__init__()
            self._process.kill()
            self._process.wait()

    monkeypatch.setattr(command, "_Guard", Killed)
    assert profile_command(["sh", "-c", "exit 3"], "x", "none").status == 3


def test_a_signal_sent_while_the_command_starts_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    started = command._started

    def slow(arguments: list[str], group: bool) -> subprocess.Popen[bytes]:
        process = started(arguments, group)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(command, "_started", slow)
    began = time.perf_counter()
    ended = profile_command(["sleep", "1.5"], "x", "none")
    assert ended.status == 128 + signal.SIGTERM
    assert time.perf_counter() - began < 1.4


def test_what_is_ignored_stays_ignored_as_nohup_wants_it(tmp_path: Path) -> None:
    ready, script = tmp_path / "ready", "import pathlib, signal, sys\n"
    script += "pathlib.Path(sys.argv[1]).write_text(str(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN))\n"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        profile_command([sys.executable, "-c", script, str(ready)], "x", "none")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ready.read_text() == "True"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(cli(*arguments), capture_output=True, text=True, timeout=60)


def test_the_command_line_appends_rows_and_keeps_output_and_status(tmp_path: Path) -> None:
    file = tmp_path / "new" / "costs.csv"
    done = [
        run("--energy", "none", "-o", file, *label, "--", "sh", "-c", "echo hello; exit 3")
        for label in ([], ["--label", "baseline"])
    ]
    assert [one.returncode for one in done] == [3, 3]
    assert [one.stdout for one in done] == ["hello\n", "hello\n"], "the table is not among it"
    assert "exit_status" in done[0].stderr
    table = pd.read_csv(file)
    assert table["model"].unique().tolist() == ["sh", "baseline"]
    assert set(table["phase"]) == {"profile"}
    assert table[table["metric"] == "exit_status"]["value"].tolist() == [3, 3]
    assert {"duration", "cpu", "cpu_duration", "memory_peak", "energy"} < set(table["metric"])


def test_options_after_the_dashes_are_the_command_s() -> None:
    code = "import sys\nprint(sys.argv[1:])"
    done = run("-q", "--energy", "none", "--", sys.executable, "-c", code, "--output", "x", "-q", "--", "--help")
    assert done.stdout == "['--output', 'x', '-q', '--', '--help']\n"
    assert done.returncode == 0, done.stderr


def test_options_of_the_command_need_no_dashes_before_it() -> None:
    done = run("-q", "--energy", "none", "printf", "%s,", "--energy", "-o", "--", "x")
    assert done.stdout == "--energy,-o,--,x,", done.stderr


@pytest.mark.parametrize(("content", "why"), [("a,b\n1,2\n", "has not the columns"), (None, "a folder, not a file")])
def test_a_file_that_cannot_be_used_is_found_before_the_command_runs(
    tmp_path: Path, content: str | None, why: str
) -> None:
    file, ran = tmp_path / "costs", tmp_path / "ran"
    if content is None:
        file.mkdir()
    else:
        file.write_text(content)
    done = run("-o", file, "--energy", "none", "--", "touch", ran)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not ran.exists()


def test_the_command_line_ends_as_a_shell_does_with_what_cannot_be_run(tmp_path: Path) -> None:
    done = run("--energy", "none", "--", "no-such-command-here")
    assert (done.returncode, done.stderr) == (127, "error: no-such-command-here: no such command\n")
    done = run("--energy", "none", "--", tmp_path)
    assert done.returncode == 126
    assert done.stderr.startswith(f"error: {tmp_path}: cannot be run (")


def test_an_unknown_option_is_not_taken_for_the_command() -> None:
    done = run("--ouput", "x.csv", "--", "true")
    assert done.returncode == 2
    assert "--ouput: no such option of profile" in done.stderr


def test_an_unknown_source_of_energy_is_refused(tmp_path: Path) -> None:
    done = run("--energy", "rappl", "--", "touch", tmp_path / "ran")
    assert done.returncode == 2
    assert "unknown energy source 'rappl'" in done.stderr
    assert not (tmp_path / "ran").exists()
