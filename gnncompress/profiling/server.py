"""The process that measured children are forked from, and what a child does: a program of its own.

Its standard input is a socket to the process that it was started for. Over that come names of modules to import, and
requests: four file descriptors each, for a child's channel, for its exit code, and for its two outputs. A child gets
where its caller is and what to call over the channel, answers there, and ends, in silence, as soon as the other end of
the channel is closed; this process ends as soon as the other end of the socket is. The kernel closes both, however the
caller ends. ``isolation`` is the other side.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import threading
import traceback
import warnings
from typing import Any, BinaryIO, NoReturn

from gnncompress.errors import GnncompressError, MeasurementError
from gnncompress.profiling.machine_lock import machine_lock

# What is sent over the socket: a byte that says what follows.
IMPORT, REQUEST = b"i", b"r"
_DESCRIPTORS = 4


def main() -> NoReturn:
    """Import and fork as asked, until the other end of standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whether a Ctrl-C ends a measurement is for the caller to say
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    control = socket.socket(fileno=os.dup(0))
    _leave_standard_input()
    threading.Thread(target=_end_after_hang_up, args=(control,), daemon=True).start()
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    tells: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _tell_of_ended(tells)
        if control in ready:
            kind, descriptors, _, _ = socket.recv_fds(control, 1, _DESCRIPTORS)
            if kind == IMPORT:
                _import(_line(control))
            elif kind == REQUEST:
                channel, tell, out, err = descriptors
                pid = _fork()
                if not pid:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for inherited in (control, woken, wake):
                        inherited.close()
                    for other in (tell, *tells.values()):
                        os.close(other)
                    _be_child(channel, out, err)
                tells[pid] = tell
                for given in (channel, out, err):
                    os.close(given)
            else:
                os._exit(0)


def once() -> NoReturn:
    """Serve one request that comes over standard input and answer over standard output, where nothing can be forked.

    What is printed meanwhile goes to standard error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    _leave_standard_input()
    os.dup2(2, 1)
    _serve(requests, answers)


def _leave_standard_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _end_after_hang_up(control: socket.socket) -> None:
    """End this process when the other end is closed, also amid an import, and with requests that are still to come."""
    watched = select.poll()
    watched.register(control, 0)  # that alone is told of unasked
    watched.poll()
    os._exit(0)


def _tell_of_ended(tells: dict[int, int]) -> None:
    for pid in list(tells):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            tell = tells.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
                os.write(tell, b"%d" % os.waitstatus_to_exitcode(status))
            os.close(tell)


def _line(control: socket.socket) -> str:
    read = bytearray()
    while (byte := control.recv(1)) not in (b"\n", b""):
        read += byte
    return read.decode()


def _import(module: str) -> None:
    with contextlib.suppress(Exception):  # a child that needs it meets the same again, and tells its caller
        importlib.import_module(module)


def _fork() -> int:
    with warnings.catch_warnings():
        # Of threads: the one here holds nothing while it waits, those of BLAS libraries know of forks.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _be_child(channel: int, out: int, err: int) -> NoReturn:
    for given, standard in ((out, 1), (err, 2)):
        os.dup2(given, standard)
        os.close(given)
    _serve(os.fdopen(channel, "rb"), os.fdopen(os.dup(channel), "wb"))


def _serve(requests: BinaryIO, answers: BinaryIO) -> NoReturn:
    """Do what is asked, answer, and end this process: with 0 if there is an answer."""
    code = 1
    try:
        surroundings, call = pickle.load(requests)
        threading.Thread(target=_end_after, args=(requests,), daemon=True).start()
        answer = _answer(surroundings, call)
        _flush()
        answers.write(answer)
        answers.flush()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (EOFError, BrokenPipeError):
        pass  # the caller has ended, or wants no answer any more
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(code)


def _end_after(requests: BinaryIO) -> None:
    """Wait, without polling, for the caller to end or to want no answer any more; then end this process."""
    with contextlib.suppress(OSError):
        requests.read(1)
    os._exit(1)


def _answer(surroundings: tuple[Any, ...], call: bytes) -> bytes:
    """Return, pickled, what a call returns, the error to be raised instead, and that error's traceback."""
    try:
        sys.path[:], sys.argv[:], folder, environment = surroundings
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        importlib.invalidate_caches()  # modules may be there that were not when this process began
        function, arguments = pickle.loads(call)
        with machine_lock():
            outcome = function(*arguments)
        return pickle.dumps((outcome, None, ""))
    except GnncompressError as error:
        return pickle.dumps((None, error, traceback.format_exc()))
    except Exception as error:
        told = MeasurementError(f"the measuring process failed: {type(error).__name__}: {error}")
        return pickle.dumps((None, told, traceback.format_exc()))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none at all
            stream.flush()
