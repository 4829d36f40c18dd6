"""Data sets that are read once while a command works, however many of its runs need them.

Nothing is kept outside ``kept()``: a library that holds on to a user's memory, or answers with what a file held an
hour ago, is no good guest. No torch here.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gnncompress.datasets.loaded import Loaded

# A command compares runs on one data set, or goes from one to the next.
MOST_SETS = 2
MOST_FILES = 64
# A file system's clock may stand still for some milliseconds: a file as young as this may change and show it nowhere.
YOUNG_NS = 2 * 10**9


class _Kept:
    """What one command has read: data sets, each beside its version, and digests of files."""

    def __init__(self) -> None:
        self.sets: OrderedDict[Hashable, tuple[Loaded, Hashable]] = OrderedDict()
        self.digests: OrderedDict[Hashable, str] = OrderedDict()


_current: ContextVar[_Kept | None] = ContextVar("kept data sets", default=None)


@contextmanager
def kept() -> Iterator[None]:
    """Keep the last two data sets that are loaded within, and the digests of files that do not change.

    Everyone who loads gets data of their own: one graph is copied; many are shared, for tasks only read them, and
    read again should somebody have written to them. Within another ``kept()`` this is that one. Threads that are
    started within keep nothing.
    """
    if _current.get() is not None:
        yield
        return
    token = _current.set(_Kept())
    try:
        yield
    finally:
        _current.reset(token)


def loaded(key: Callable[[], Hashable], load: Callable[[], Loaded]) -> Loaded:
    """Return the data set that is kept under ``key()``, or what ``load()`` returns, which is kept from now on."""
    here = _current.get()
    if here is None:
        return load()
    name = key()
    found = here.sets.get(name)
    if found is None or found[0].version() != found[1]:
        # The oldest goes before another comes: three at once would need the memory of three.
        here.sets.pop(name, None)
        while len(here.sets) >= MOST_SETS:
            here.sets.popitem(last=False)
        fresh = load()
        found = here.sets[name] = (fresh, fresh.version())
    here.sets.move_to_end(name)
    return found[0].apart()


def digest(path: Path, compute: Callable[[Path], str]) -> str:
    """Return a file's digest by ``compute``, not again for a file that has not changed since."""
    here = _current.get()
    if here is None:
        return compute(path)
    before = os.stat(path)
    key = (path, before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns)
    if key in here.digests:
        return here.digests[key]
    value = compute(path)
    if time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > YOUNG_NS:
        here.digests[key] = value
        while len(here.digests) > MOST_FILES:
            here.digests.popitem(last=False)
    return value
