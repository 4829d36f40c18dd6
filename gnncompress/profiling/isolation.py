"""A measured phase runs alone: in a process of its own, under a lock that covers the machine.

That process itself holds the lock, so that none can begin while another still measures, whatever became of the one that
started it. It ends, in silence, as soon as that one does.

Nothing of the caller's is touched for it: not its main module, nor what multiprocessing is told to do. Children are
forked from a process of ours, see ``server``; any thread may ask for one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import util
from typing import IO, Any

from gnncompress.errors import MeasurementError
from gnncompress.profiling.server import IMPORT, REQUEST

_CAN_FORK = sys.platform != "win32"
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from gnncompress.profiling import server; server.{}()"


class ChildTraceback(Exception):  # noqa: N818
    """Where in the measuring process an error was raised: the cause of what ``isolated`` raises."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass
class _Server:
    """The process that children are forked from, the socket to it, and the modules that it was told to import."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    imported: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Child:
    """A process that waits for one request: how to send it, where the answer comes, and what waits for its end."""

    send: Callable[[bytes], object]
    answers: IO[bytes]
    wait: Callable[[], int | None]


_lock = threading.Lock()
_server: _Server | None = None
# Our ends of the sockets to the server and to children: while one is open, what is at the other end goes on.
_ends: set[socket.socket] = set()


def start_server(preload: Sequence[str]) -> None:
    """Start the process that measured children are forked from, if need be, and let it import ``preload`` meanwhile.

    A child then begins within milliseconds, with the imports done and nothing of the caller's memory. Where
    the system cannot fork, each child is a fresh interpreter and this does nothing.

    Raises:
        MeasurementError: if it cannot be started.
    """
    if _CAN_FORK:
        with _refused(), _lock:
            _running(preload)


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function(*arguments)`` in a child process while no other measurement runs; return its result.

    The caller blocks without polling. ``function`` must be a module's own, its arguments and result picklable. The
    child has the caller's import path, folder, environment and outputs of this moment. What libraries read
    from the environment as they are imported, such as OMP_NUM_THREADS, is that of the first call.

    Raises:
        GnncompressError: what ``function`` raised, if it was one of ours.
        ResultsError: if the machine's lock cannot be had.
        MeasurementError: if it raised anything else, or the child died; the message says how.
    """
    call = pickle.dumps((function, arguments))
    with _refused(), _forked([function.__module__]) if _CAN_FORK else _fresh() as child:
        surroundings = (sys.path, sys.argv, os.getcwd(), dict(os.environ))
        with contextlib.suppress(BrokenPipeError):  # it has ended; how is told below
            child.send(pickle.dumps((surroundings, call)))
        try:
            outcome, error, trace = pickle.load(child.answers)
        except (EOFError, ConnectionResetError, pickle.UnpicklingError):
            code = child.wait()
            raise MeasurementError(
                f"the measuring process ended without a result (exit code {'unknown' if code is None else code}); "
                "was it killed for want of memory?"
            ) from None
        child.wait()
    if error is not None:
        raise error from ChildTraceback(trace)
    return outcome


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MeasurementError(f"the measuring process cannot be run ({error})") from error


@contextlib.contextmanager
def _forked(preload: Sequence[str]) -> Iterator[_Child]:
    """Have a child forked; it ends when the block is left."""
    outputs = [number if _is_open(number) else os.open(os.devnull, os.O_WRONLY) for number in (1, 2)]
    ours, theirs = socket.socketpair()
    _ends.add(ours)
    told, tell = os.pipe()

    def exit_code() -> int | None:
        return int(code) if (code := os.read(told, 16)) else None

    try:
        try:
            with _lock:
                control = _running(preload).control
                socket.send_fds(control, [REQUEST], [theirs.fileno(), tell, *outputs])
        finally:
            theirs.close()
            os.close(tell)
            for output, number in zip(outputs, (1, 2), strict=True):
                if output != number:
                    os.close(output)
        with open(ours.fileno(), "rb", closefd=False) as answers:
            yield _Child(ours.sendall, answers, exit_code)
    finally:
        _close(ours)
        os.close(told)


@contextlib.contextmanager
def _fresh() -> Iterator[_Child]:
    """Start a fresh interpreter as the child; it is ended when the block is left."""
    process = _started("once", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout

    def send(request: bytes) -> None:
        requests.write(request)
        requests.flush()

    try:
        yield _Child(send, answers, process.wait)
    finally:
        process.kill()
        process.wait()
        answers.close()
        with contextlib.suppress(BrokenPipeError):
            requests.close()


def _running(preload: Sequence[str]) -> _Server:
    """Return the server, started if there is none, and told to import what it was not told of yet."""
    global _server
    if _server is None or _server.process.poll() is not None:
        _stop()
        ours, theirs = socket.socketpair()
        with theirs:
            _server = _Server(_started("main", stdin=theirs, stdout=subprocess.DEVNULL), ours)
        _ends.add(ours)
    for module in preload:
        if module not in _server.imported:
            _server.control.sendall(IMPORT + module.encode() + b"\n")
            _server.imported.add(module)
    return _server


def _started(what: str, **streams: Any) -> subprocess.Popen[bytes]:
    """Start an interpreter with our flags and import path that does ``what`` of the server's."""
    if not sys.executable:
        raise MeasurementError("the measuring process cannot be run: sys.executable does not say what to run")
    flags = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = [entry for entry in sys.path if isinstance(entry, str)]
    command = [sys.executable, *flags, "-c", _PROGRAM.format(what), *path]
    with _interrupts_held():
        return subprocess.Popen(command, stderr=None if _is_open(2) else subprocess.DEVNULL, **streams)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let a process that is started meanwhile begin with SIGINT blocked, until it has chosen what to do with it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _close(end: socket.socket) -> None:
    _ends.discard(end)
    with contextlib.suppress(OSError):  # the other end has been closed
        end.shutdown(socket.SHUT_RDWR)  # also where a process that was forked meanwhile has a copy
    end.close()


@atexit.register
def _stop() -> None:
    """End the server, if there is one."""
    global _server
    if _server is not None:
        _close(_server.control)
        _server.process.kill()
        _server.process.wait()
        _server = None


def _leave_to_parent() -> None:
    """In a process that was forked from the caller: have nothing to do with its server and children."""
    global _lock, _server
    for end in _ends:
        end.close()
    _ends.clear()
    if _server is not None:
        _server.process.returncode = 0  # it is not this process's to wait for
    _lock, _server = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
