"""The kernel's account of this process's memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ACCOUNT = Path("/proc/self/status")
needs_account = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the kernel's account of memory")


def memory(line: str) -> int:
    """Return the bytes that a line of the account names: VmSize addressed, VmRSS resident, VmHWM at its peak."""
    return int(ACCOUNT.read_text().partition(f"{line}:")[2].split()[0]) * 1024


@contextmanager
def growth() -> Iterator[Callable[[], int]]:
    """Give what returns the bytes that the process has grown by since, at the peak."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before = memory("VmRSS")
    yield lambda: memory("VmHWM") - before
