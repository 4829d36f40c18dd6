"""What any command costs, seen from outside: its output, its exit status and Ctrl-C pass through untouched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from gnncompress.errors import CommandError, UsageError
from gnncompress.measurements import Measurement, measured
from gnncompress.profiling.energy import open_meter
from gnncompress.profiling.joules import co2_rows, energy_rows, reasons
from gnncompress.profiling.load import Load, Usage
from gnncompress.profiling.memory import TreeMemory, resident_memory, resident_peak
from gnncompress.profiling.sampling import Sampler

_INTERVAL = 0.02
_CANNOT_RUN, _NOT_FOUND = 126, 127
_OF_TERMINALS = (signal.SIGINT, signal.SIGQUIT) if sys.platform != "win32" else ()
_RELAYED = (
    (*_OF_TERMINALS, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2) if sys.platform != "win32" else ()
)
# There where an NVIDIA driver is; without one a command uses no GPU, and there is nothing to say of it.
_NVIDIA = Path("/dev/nvidiactl")
_PAGE = 4096
_GUARDING = """
import os, signal, sys
print(flush=True)
whom = int(sys.stdin.readline() or 0)
if whom and not sys.stdin.readline():
    os.kill(whom, signal.SIGKILL)
"""
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit status (128 + the number of the signal that killed it), rows and warnings."""

    status: int
    measurements: list[Measurement]
    warnings: list[str]


def profile_command(command: Sequence[str], phase: str, energy: str = "auto", country: str = "") -> Ended:
    """Run ``command`` and measure it, with all the processes that it starts and waits for.

    CPU time, its largest process's peak and its switches are the kernel's own figures (wait4); ``memory_peak`` is the
    resident memory of the whole tree, sampled every 20 ms (new processes are looked for every half second), pages that
    are shared counted for each. Energy is the machine's. Meanwhile this process sleeps but for the samples, and holds
    no lock: the command may measure, too. Should this process itself be killed (SIGKILL), the command is killed, too,
    with what it has started unless it was started from a terminal.

    Raises:
        CommandError: if the command cannot be started (exit code 127 or 126, as in a shell).
        MeasurementError: if the source of energy that was asked for by name reads nothing here.
        UsageError: for an unknown country, or where the system has no wait4.
    """
    if not hasattr(os, "wait4"):
        raise UsageError("profiling a command needs a POSIX system; use 'with gnncompress.profile(...)' in Python")
    co2_rows([], country)
    meter = open_meter(energy, gpu=_NVIDIA.exists())
    with _relayed() as relay:
        guard = _Guard()
        meter.start()
        before = Usage.now()
        try:
            process = _started(command, relay.group)
        except CommandError:
            meter.stop()
            guard.end()
            raise
        guard.watch(process.pid, relay.group)
        relay.to(process.pid)
        memory = _Tree(process.pid)
        with Sampler(memory.sample, _INTERVAL):
            _, status, used = os.wait4(process.pid, 0)
            load = Load.between(before, Usage.now())
        relay.end()
        guard.end()
        readings = meter.stop()
        code = os.waitstatus_to_exitcode(status)
        process.returncode = code  # it has been waited for
    seconds = used.ru_utime + used.ru_stime
    rows = energy_rows(phase, readings, load.seconds)
    ended = [
        Measurement(phase, "duration", load.seconds, "s"),
        Measurement(phase, "exit_status", code if code >= 0 else 128 - code, "status"),
        Measurement(phase, "cpu", 100 * seconds / load.seconds, "percent"),
        Measurement(phase, "cpu_duration", seconds, "s"),
        measured(phase, "cpu_foreign", load.foreign, "percent"),
        Measurement(phase, "context_switches_voluntary", used.ru_nvcsw, "switches"),
        Measurement(phase, "context_switches_involuntary", used.ru_nivcsw, "switches"),
        *memory.measurements(phase, used.ru_maxrss * _MAXRSS_BYTES),
        *rows,
        *co2_rows(rows, country),
    ]
    said = [*load.warnings(), *reasons(readings), *memory.warnings()]
    return Ended(code if code >= 0 else 128 - code, ended, said)


class _Tree:
    """The memory of a command's processes; nothing if it ended before it was looked at."""

    def __init__(self, pid: int) -> None:
        cores = os.cpu_count() or 1
        self._own = (resident_peak() or resident_memory()) + _PAGE * cores * max(32, 2 * cores)
        try:
            self._memory: TreeMemory | None = TreeMemory(pid)
        except psutil.Error:
            self._memory = None

    def sample(self) -> None:
        if self._memory is not None:
            self._memory.sample()

    def warnings(self) -> list[str]:
        """Say what was not seen."""
        seen = self._memory is not None and self._memory.peak
        return [] if seen else ["memory: the command ended before it could be looked at"]

    def measurements(self, phase: str, exact: int) -> list[Measurement]:
        """Return the rows of the tree's peak and of its largest process, of which ``exact`` is the kernel's figure.

        The kernel's begins with the size of the process that was forked, this one (known up to what each core counts by
        itself), and says nothing below that; then the largest process sampled has to do.
        """
        seen, largest = (self._memory.peak, self._memory.largest) if self._memory is not None else (0, 0)
        if exact > self._own:
            largest = exact
        return [
            measured(phase, "memory_peak", seen or None, "bytes"),
            measured(phase, "memory_peak_process", largest or None, "bytes"),
        ]


def _started(command: Sequence[str], group: bool) -> subprocess.Popen[bytes]:
    """Start the command, in a ``group`` of its own if so wanted."""
    options: dict[str, Any] = {}
    if group:
        options = {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
    try:
        return subprocess.Popen(command, **options)
    except FileNotFoundError as error:
        raise CommandError(f"{command[0]}: no such command", _NOT_FOUND) from error
    except OSError as error:
        raise CommandError(f"{command[0]}: cannot be run ({error.strerror})", _CANNOT_RUN) from error


class _Guard:
    """A process that kills the command should this one be killed; it sleeps until either of the two has ended.

    It is told whom by a line, and by another that the command has ended; the end of the file before that is the end of
    this process. (To let the kernel do so, a command would have to be forked, which takes some 20 ms of its duration.)
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-IS", "-c", _GUARDING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what a terminal sends is not for it
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it is ready, and takes nothing from what is measured

    def watch(self, pid: int, group: bool) -> None:
        """Let it kill a process, or its ``group``, if need be."""
        self._tell(-pid if group else pid)

    def end(self) -> None:
        """Let it end: there is nothing to kill, or not any more."""
        self._tell(0)
        self._process.communicate()

    def _tell(self, number: int) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody killed it
            self._process.stdin.write(b"%d\n" % number)
            self._process.stdin.flush()


class _Relay:
    """Sends on to the command what is sent to end this process, or to tell it something.

    Where a terminal sends Ctrl-C to everything in the foreground, the command is in the same group and gets it from
    there. Elsewhere it has a group of its own, so that it gets each signal once, from here.
    """

    def __init__(self) -> None:
        self.group = not _in_foreground()
        self._pid: int | None = None
        self._early: list[int] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._pid is None:
            self._early.append(number)
        elif self.group or number not in _OF_TERMINALS:
            _send(self._pid, number, self.group)

    def to(self, pid: int) -> None:
        """Send on to a process, also what came before it."""
        self._pid = pid
        for number in self._early:
            _send(pid, number, self.group)

    def end(self) -> None:
        """Send nothing on any more: the process has been waited for."""
        self._pid = None


def _send(pid: int, number: int, group: bool) -> None:
    # Not through Popen, which would wait for the process and leave nothing to wait for.
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, number)


@contextlib.contextmanager
def _relayed() -> Iterator[_Relay]:
    """Outlive the signals that end programs; those that are ignored, as under nohup, stay so for the command, too."""
    relay = _Relay()
    main = threading.current_thread() is threading.main_thread()
    ignored = (signal.SIG_IGN, None)
    # A handler, not SIG_IGN, which the command would inherit.
    numbers = [number for number in (_RELAYED if main else ()) if signal.getsignal(number) not in ignored]
    before = {number: signal.signal(number, relay) for number in numbers}
    try:
        yield relay
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
