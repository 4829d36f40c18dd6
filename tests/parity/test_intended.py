"""Intended differences are told from others, and entries that match nothing are found."""

from __future__ import annotations

from tests.parity.comparing import Difference
from tests.parity.intended import INTENDED, Intended, judge

LOST = Difference("prune-global", 1, "row", "only-old", "train/cpu", "99 percent (measured)", run="digits gcn global")
OTHER = Difference("quantize-pruned", 1, "tensor", "value", "convs.0.lin.weight", "aa", "bb", run="digits gcn quantize")


def test_a_difference_is_intended_by_an_entry_that_matches_all_of_it() -> None:
    entry = Intended("told by the stage", spec="prune-*", item="row", kind="only-old", place="train/*")
    judged = judge([LOST, OTHER], [entry])
    assert judged.meant == ((LOST, entry),)
    assert judged.unmeant == (OTHER,)
    assert judged.stale == ()


def test_every_pattern_counts() -> None:
    for wrong in ({"spec": "train-*"}, {"item": "run"}, {"kind": "value"}, {"place": "evaluate/*"}, {"run": "cora *"}):
        entry = Intended("no", **wrong)
        assert judge([LOST], [entry]).unmeant == (LOST,)


def test_an_entry_that_matches_nothing_is_stale() -> None:
    stale = Intended("gone", place="inference/*")
    assert judge([LOST], [stale]).stale == (stale,)
    assert judge([], [stale]).stale == (stale,)


def test_an_entry_behind_another_is_not_stale() -> None:
    first, second = Intended("one", spec="prune-*"), Intended("two", item="row")
    judged = judge([LOST], [first, second])
    assert judged.meant == ((LOST, first),)
    assert judged.stale == ()


def test_every_entry_has_a_reason_and_says_what_it_matches() -> None:
    for entry in INTENDED:
        assert len(entry.reason.split()) > 3
        assert str(entry)
