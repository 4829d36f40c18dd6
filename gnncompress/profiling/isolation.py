"""A measured phase runs alone: in a process of its own, under a lock that covers the machine.

That process itself holds the lock, so that none can begin while another still measures, whatever became of the one that
started it. It ends, in silence, as soon as that one does.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gnncompress.errors import GnncompressError, MeasurementError
from gnncompress.files import locked


def start_server(preload: Sequence[str]) -> None:
    """Start the process that measured children are forked from, importing ``preload`` there meanwhile.

    A child then begins within milliseconds, with the imports done and nothing of the caller's memory. Where
    the system cannot fork, each child is a fresh interpreter and this does nothing.
    """
    if sys.platform != "win32":
        multiprocessing.set_forkserver_preload(list(preload))
        forkserver.ensure_running()


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function(*arguments)`` in a child process while no other measurement runs; return its result.

    The caller blocks without polling. ``function`` must be a module's own, its arguments and result picklable.

    Raises:
        GnncompressError: what ``function`` raised, if it was one of ours.
        ResultsError: if the machine's lock cannot be had.
        MeasurementError: if it raised anything else, or the child died; the message says how.
    """
    try:
        return _isolated(function, arguments)
    except OSError as error:
        raise MeasurementError(f"the measuring process cannot be run ({error})") from error


def _isolated(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_serve, args=(sender, function, arguments), daemon=True)
    with _without_callers_script():
        child.start()
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        child.join()
        raise MeasurementError(
            f"the measuring process ended without a result (exit code {child.exitcode}); "
            "was it killed for want of memory?"
        ) from None
    except BaseException:
        child.terminate()
        raise
    finally:
        receiver.close()
    child.join()
    if isinstance(outcome, GnncompressError):
        raise outcome
    return outcome


@contextlib.contextmanager
def _without_callers_script() -> Iterator[None]:
    """Hide the running script while a child starts.

    A child would otherwise run the caller's script again as its own main module, and a script that calls us
    without an ``if __name__ == "__main__"`` guard would start children without end.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def machine_lock() -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a measured phase, one a machine and user; wait for it.

    Raises:
        ResultsError: if it cannot be had.
    """
    if os.name == "nt":
        return locked(Path(tempfile.gettempdir()) / f"gnncompress-measure-{os.environ.get('USERNAME', 'user')}.lock")
    # Not the folder for temporary files, of which each job of a cluster may have another.
    return locked(Path("/tmp") / f"gnncompress-measure-{os.getuid()}.lock")


def _serve(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with machine_lock():
            outcome = function(*arguments)
        sender.send(outcome)
    except GnncompressError as error:
        sender.send(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sender.send(MeasurementError(f"the measuring process failed: {type(error).__name__}: {error}"))
        raise


def _end_with_parent() -> None:
    """Wait, without polling, for the process that started this one to end, however it does; then end this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
