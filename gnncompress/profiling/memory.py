"""Memory of this process and of a process tree, now and at its peak.

What is told is anonymous memory: library code, which is read from disk on first use, is not memory of a model. Its
peak is the kernel's where the kernel tells (VmHWM, which a process may reset), exact after a warm-up; samples see the
warm-up, too, and other processes, but miss what is shorter than the time between two of them.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from gnncompress.profiling.sampling import Sampler

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_INTERVAL = 0.001
# Seconds between two searches for processes that are new in a tree: all of the machine's are looked at.
_SEARCH_EVERY = 0.5


def current_memory() -> int:
    """Return the memory this process uses now, in bytes: anonymous pages if known (Linux), else its resident set."""
    return _status("RssAnon") or int(psutil.Process().memory_info().rss)


def resident_memory() -> int:
    """Return the resident set of this process, in bytes."""
    return _status("VmRSS") or int(psutil.Process().memory_info().rss)


def resident_peak() -> int | None:
    """Return the largest resident set of this process since ``reset_peak``, or since it began; None if unknown.

    Source: proc_pid_status(5), VmHWM.
    """
    return _status("VmHWM")


def exact_peak() -> int | None:
    """Return the largest memory of this process since ``reset_peak`` without pages of files, in bytes; None if unknown.

    That is the kernel's resident peak less the pages of files, which after a warm-up are what they were at the peak.
    """
    peak, files, shared = _status("VmHWM"), _status("RssFile"), _status("RssShmem")
    return None if peak is None or files is None or shared is None else peak - files - shared


def reset_peak() -> bool:
    """Let the resident peak begin anew; say whether the kernel did it.

    Source: proc_pid_clear_refs(5), value 5.
    """
    try:
        _RESET.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def release() -> None:
    """Give back what is no longer used, so that what was needed to build something is not counted to it."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def peak_memory(call: Callable[[], object]) -> int:
    """Run ``call`` and return the highest memory seen meanwhile, in bytes.

    Memory is read every millisecond (less often, should that take too much), and once before and after; a peak shorter
    than that may be missed.
    """
    peak = current_memory()

    def sample() -> None:
        nonlocal peak
        peak = max(peak, current_memory())

    with Sampler(sample, _INTERVAL):
        call()
    return max(peak, current_memory())


class TreeMemory:
    """The resident memory of a process and, with its ``children``, all below it; shared pages are counted for each."""

    def __init__(self, pid: int | None = None, children: bool = True) -> None:
        self._root, self._children = psutil.Process(pid), children
        self._tree = [self._root]
        self._next = 0.0
        self.peak, self.largest = 0, 0

    def sample(self) -> None:
        """Look once; ``peak`` is the largest sum seen, ``largest`` the largest process."""
        if self._children and time.perf_counter() >= self._next:
            self._search()
            self._next = time.perf_counter() + _SEARCH_EVERY
        sizes = [size for process in self._tree if (size := _resident(process)) is not None]
        self.peak, self.largest = max(self.peak, sum(sizes)), max(self.largest, *sizes, 0)

    def _search(self) -> None:
        try:
            self._tree = [self._root, *self._root.children(recursive=True)]
        except (psutil.Error, OSError):
            self._tree = [self._root]


def _resident(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_info().rss)
    except (psutil.Error, OSError):  # it has ended, or nothing may be opened now
        return None


def _status(name: str) -> int | None:
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
