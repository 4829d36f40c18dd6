"""Names to things, without importing the things.

A registry maps a name to an entry that says in a line what it is and where its code lives
(``package.module:attribute``). Listing names imports nothing heavy; an unknown name is answered with the
nearest known ones. Installed packages add entries of their own through an entry-point group.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from gnncompress.errors import UsageError
from gnncompress.factories import load_reference


@dataclass(frozen=True)
class Entry:
    """A registered thing: its name, a line about it, where its code is, and the paper it comes from."""

    name: str
    summary: str
    target: str
    citation: str

    def load(self) -> Any:
        """Import and return what ``target`` names: ``package.module:name``, or a user's ``file.py:name``."""
        return load_reference(self.target)


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """The entries of one kind, such as data sets or methods."""

    def __init__(self, kind: str, entries: Iterable[E]) -> None:
        self.kind = kind
        self.group = f"gnncompress.{kind.replace(' ', '')}s"
        self._entries = {entry.name: entry for entry in entries}

    def __iter__(self) -> Iterator[E]:
        return iter({**self._installed(), **self._entries}.values())

    def __getitem__(self, name: str) -> E:
        """Return the entry called ``name``, in any case of letters; its own name is the one to write down.

        Raises:
            UsageError: with near-miss suggestions, when there is none.
        """
        found = self.get(name)
        if found is None:
            raise UsageError(unknown(self.kind, name, {**self._installed(), **self._entries}))
        return found

    def get(self, name: str) -> E | None:
        """Return the entry called ``name``, in any case of letters, or None."""
        found = self._entries.get(name) or _in_any_case(name, self._entries)
        if found is not None:
            return found
        installed = self._installed()
        return installed.get(name) or _in_any_case(name, installed)

    def _installed(self) -> dict[str, E]:
        return {point.name: point.load() for point in entry_points(group=self.group)}


def _in_any_case(name: str, entries: dict[str, E]) -> E | None:
    return next((entry for known, entry in entries.items() if known.casefold() == name.casefold()), None)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that ``name`` is not a known ``kind``, with the nearest names, or all of them if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there is: {', '.join(names)}"
    return f"unknown {kind} {name!r}; {hint}"
