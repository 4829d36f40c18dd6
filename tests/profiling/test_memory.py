"""Memory of this process and of a tree of processes, against blocks of known sizes."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from gnncompress.profiling import memory
from gnncompress.profiling.memory import (
    TreeMemory,
    current_memory,
    peak_memory,
    release,
    reset_peak,
    resident_memory,
    resident_peak,
)

BLOCK = 64_000_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def fill() -> np.ndarray:
    """Return a block of new pages, whatever the heap has to spare."""
    block = np.frombuffer(mmap.mmap(-1, BLOCK, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=np.uint8)
    block[:] = 1
    return block


def test_a_block_is_seen_while_it_is_there() -> None:
    before, resident = current_memory(), resident_memory()
    block = fill()
    assert current_memory() - before == pytest.approx(BLOCK, rel=0.1)
    assert resident_memory() - resident == pytest.approx(BLOCK, rel=0.1)
    del block
    assert current_memory() - before < 0.3 * BLOCK


def test_peak_sees_memory_that_is_gone_again() -> None:
    before = current_memory()

    def call() -> None:
        block = fill()
        time.sleep(0.05)
        del block

    peak = peak_memory(call)
    assert 60e6 < peak - before < 90e6
    assert current_memory() - before < 30e6


def test_peak_passes_errors_on() -> None:
    def fail() -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        peak_memory(fail)


@linux
def test_resident_peak_sees_a_block_that_was_never_sampled() -> None:
    if not reset_peak():
        pytest.skip("the kernel does not let the peak begin anew")
    before = resident_peak()
    assert before is not None
    assert before == pytest.approx(resident_memory(), abs=8e6)
    block = fill()
    del block
    peak = resident_peak()
    assert peak is not None
    assert 60e6 < peak - before < 90e6
    assert resident_memory() - before < 30e6
    assert reset_peak()
    assert resident_peak() < peak - 30e6, "it begins anew"  # type: ignore[operator]


def test_a_peak_that_cannot_begin_anew_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_RESET", tmp_path / "nothing" / "clear_refs")
    assert reset_peak() is False


def test_without_proc_the_resident_set_is_taken_and_the_peak_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    rss = psutil.Process().memory_info().rss
    assert current_memory() == pytest.approx(rss, abs=8e6)
    assert resident_memory() == pytest.approx(rss, abs=8e6)
    assert resident_peak() is None


def test_status_is_read_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t     300 kB\nVmRSS:\t     200 kB\nRssAnon:\t     100 kB\nRssFile:\t 5 kB\n")
    monkeypatch.setattr(memory, "_STATUS", status)
    assert (current_memory(), resident_memory(), resident_peak()) == (102_400, 204_800, 307_200)


@linux
def test_release_returns_the_memory_of_freed_blocks() -> None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("not glibc")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    # Too small for mappings of their own, and one more on top, so that free alone gives nothing back.
    blocks = [libc.malloc(64_000) for _ in range(1000)]
    top = libc.malloc(64_000)
    for block in blocks:
        ctypes.memset(block, 1, 64_000)
    full = current_memory()
    for block in blocks:
        libc.free(block)
    kept = current_memory()
    release()
    assert full - current_memory() > 50e6
    if kept < full - 30e6:
        pytest.skip("this allocator gives memory back by itself")
    libc.free(top)


def test_release_collects_cycles() -> None:
    import weakref

    class Node:
        pass

    node = Node()
    node.itself = node  # type: ignore[attr-defined]
    gone = weakref.ref(node)
    del node
    release()
    assert gone() is None


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code that prints a line when it is ready, and waits for its end of input."""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.communicate("")


HOLD = f"import sys\nblock = b'x' * {BLOCK}\nprint(flush=True)\nsys.stdin.read()\n"
HOLD_BELOW = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {HOLD!r}])\n"


def test_a_tree_is_its_processes_together() -> None:
    before = TreeMemory()  # other tests may have left children
    before.sample()
    with child(HOLD) as process:
        tree = TreeMemory()
        tree.sample()
        there = psutil.Process(process.pid).memory_info().rss
        assert there > BLOCK
        assert tree.peak - before.peak == pytest.approx(there, abs=16e6)
        assert tree.largest == pytest.approx(max(there, before.largest), abs=8e6)
    later = TreeMemory()
    later.sample()
    assert later.peak < tree.peak - 0.8 * BLOCK, "what has ended holds nothing"


def test_a_grandchild_is_in_the_tree() -> None:
    before = TreeMemory()
    before.sample()
    with child(HOLD_BELOW) as process:
        ours, below, only = TreeMemory(), TreeMemory(process.pid), TreeMemory(process.pid, children=False)
        for tree in (ours, below, only):
            tree.sample()
    assert only.peak < BLOCK < below.peak
    assert ours.peak - before.peak == pytest.approx(below.peak, abs=16e6)


def test_a_process_that_has_ended_holds_nothing_and_keeps_its_peak() -> None:
    with child(HOLD) as process:
        tree = TreeMemory(process.pid)
        tree.sample()
        peak = tree.peak
    for _ in range(12):
        tree.sample()
    assert tree.peak == tree.largest == peak > BLOCK


def test_new_processes_are_searched_for_every_half_second(monkeypatch: pytest.MonkeyPatch) -> None:
    searches, now = 0, 100.0

    def search(tree: TreeMemory) -> None:
        nonlocal searches
        searches += 1

    monkeypatch.setattr(TreeMemory, "_search", search)
    tree = TreeMemory(os.getpid())
    monkeypatch.setattr("gnncompress.profiling.memory.time.perf_counter", lambda: now)
    for _ in range(21):
        tree.sample()
        now += 0.0625
    assert searches == 3
