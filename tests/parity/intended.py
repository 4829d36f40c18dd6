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


_COSTS = "a run's rows hold what all stages that led to its model have cost, by phase"
_CARD = "the metadata of a packed model name every method of its chain, so a file has a few other bytes"
_BASE = "a base model is measured where a table shows it, and a stage that nobody asked for is not"
_WHOLE = "whole numbers stay whole when the rows of a stage are read back"

# From 86ee0cb on: runs became chains of stages.
INTENDED: tuple[Intended, ...] = (
    Intended(_COSTS, item="row", kind="only-new", place="train/*"),
    Intended(_COSTS, item="row", kind="only-new", place="finetune/*"),
    Intended(_COSTS, item="row", kind="only-new", place="compress/cpu*"),
    Intended(_COSTS, item="row", kind="only-new", place="compress/context_switches_*"),
    Intended(_COSTS, item="row", kind="only-new", place="compress/memory_*"),
    Intended(_COSTS, item="row", kind="only-new", place="compress/energy*"),
    Intended(_COSTS, item="row", kind="value", place="train/epochs", run="* lottery *"),
    Intended(_CARD, item="row", kind="value", place="checkpoint/checkpoint_size"),
    Intended(_CARD, item="row", kind="value", place="checkpoint/size_ratio"),
    Intended(_CARD, item="out", place="metadata/*"),
    Intended(_CARD, item="out", place="size"),
    Intended(_CARD, spec="checkpoint", item="out", place="line *"),
    Intended(f"{_CARD}; tables show the ratio", item="out", kind="value", place="line *"),
    Intended(_BASE, item="out", kind="only-*", place="line *"),
    Intended(_BASE, item="run", kind="only-*"),
    Intended(_WHOLE, item="row", kind="value", place="finetune/epochs", run="* integer *"),
    Intended(_WHOLE, item="row", kind="value", place="finetune/best_epoch", run="* integer *"),
    Intended(_WHOLE, item="row", kind="value", place="compress/parameters", run="* integer *"),
    Intended(_WHOLE, item="row", kind="value", place="compress/nonzero_parameters", run="* integer *"),
    Intended(_WHOLE, item="row", kind="value", place="compress/collapsed_layers", run="* integer *"),
)


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
