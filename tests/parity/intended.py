"""The differences from the older version that are meant, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.parity.comparing import Difference


@dataclass(frozen=True)
class Intended:
    """A difference that is meant. All patterns are those of fnmatch; what is not said matches everything.

    ``reason``: why, in one sentence. ``item``: run, row, model, tensor, out, err, exit or file. ``kind``: value,
    only-old or only-new. ``place``: phase/metric of a row, a tensor's name, a field or line, the method of a run.
    ``run``: the labels of the run, as they are printed. Name as little as possible: an entry hides all that it matches.
    """

    reason: str
    spec: str = "*"
    item: str = "*"
    kind: str = "*"
    place: str = "*"
    run: str = "*"

    def matches(self, found: Difference) -> bool:
        """Say whether the difference is this one."""
        pairs = (
            (found.spec, self.spec),
            (found.item, self.item),
            (found.kind, self.kind),
            (found.place, self.place),
            (found.run, self.run),
        )
        return all(fnmatchcase(value, pattern) for value, pattern in pairs)

    def __str__(self) -> str:
        said = {name: getattr(self, name) for name in ("spec", "item", "kind", "place", "run")}
        return " ".join(f"{name}={value}" for name, value in said.items() if value != "*")


INTENDED: tuple[Intended, ...] = ()


@dataclass(frozen=True)
class Judged:
    """Differences told apart: ``meant`` by which entry, ``unmeant`` by none, and entries that match nothing."""

    meant: tuple[tuple[Difference, Intended], ...]
    unmeant: tuple[Difference, ...]
    stale: tuple[Intended, ...]


def judge(found: Sequence[Difference], entries: Sequence[Intended]) -> Judged:
    """Tell intended differences from others: the first entry that matches one is its reason.

    An entry is stale if it matches no difference at all, be it that another entry comes first.
    """
    meant, unmeant = [], []
    for difference in found:
        reason = next((entry for entry in entries if entry.matches(difference)), None)
        if reason is None:
            unmeant.append(difference)
        else:
            meant.append((difference, reason))
    stale = tuple(entry for entry in entries if not any(entry.matches(difference) for difference in found))
    return Judged(tuple(meant), tuple(unmeant), stale)
