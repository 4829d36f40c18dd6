"""Peak memory of this process above a baseline.

The peak is sampled by a thread. What is sampled is the anonymous memory of the process where the system tells
it (Linux), else its resident set: library pages that are read from disk on first use would otherwise be counted
as memory of the model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_INTERVAL = 0.001


def current_memory() -> int:
    """Return the memory this process uses now, in bytes: anonymous pages if known, else its resident set."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)


def peak_memory(call: Callable[[], object]) -> int:
    """Run ``call`` and return the highest memory seen meanwhile, in bytes.

    Memory is read every millisecond, and once before and after; a peak shorter than that may be missed.
    """
    peak = current_memory()
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(_INTERVAL):
            peak = max(peak, current_memory())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        call()
    finally:
        done.set()
        sampler.join()
    return max(peak, current_memory())
