from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.tasks.splits import random_split


@given(items=st.integers(3, 300), seed=st.integers(0, 1000), data=st.data())
def test_parts_are_disjoint_and_cover_everything(items: int, seed: int, data: st.DataObject) -> None:
    validation = data.draw(st.integers(0, items - 2))
    test = data.draw(st.integers(0, items - 1 - validation))
    split = random_split(items, validation, test, seed)
    assert (len(split.validation), len(split.test)) == (validation, test)
    assert sorted((*split.train, *split.validation, *split.test)) == list(range(items))
    assert split == random_split(items, validation, test, seed)


def test_seed_makes_the_split() -> None:
    assert random_split(100, 20, 20, 0) != random_split(100, 20, 20, 1)
    # Stored runs are found again by their split: it must never change.
    assert random_split(10, 2, 3, 0).test == (2, 3, 7)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="5 validation and 5 test items leave none of 10 to train on"):
        random_split(10, 5, 5, 0)
