from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.datasets import load_dataset
from gnncompress.tasks.splits import (
    Split,
    count,
    grouped_split,
    hgpsl_split,
    random_split,
    scaffold_split,
    stratified_kfold,
)


def assert_partition(split: Split, items: int) -> None:
    assert sorted((*split.train, *split.validation, *split.test)) == list(range(items))
    for part in (split.train, split.validation, split.test):
        assert list(part) == sorted(part)


@given(items=st.integers(3, 300), seed=st.integers(0, 1000), data=st.data())
def test_parts_are_disjoint_and_cover_everything(items: int, seed: int, data: st.DataObject) -> None:
    validation = data.draw(st.integers(0, items - 2))
    test = data.draw(st.integers(0, items - 1 - validation))
    split = random_split(items, validation, test, seed)
    assert (len(split.validation), len(split.test)) == (validation, test)
    assert_partition(split, items)
    assert split == random_split(items, validation, test, seed)


def test_seed_makes_the_split() -> None:
    assert random_split(100, 20, 20, 0) != random_split(100, 20, 20, 1)
    # Stored runs are found again by kind and seed: what these mean must never change.
    assert random_split(10, 2, 3, 0).test == (2, 3, 7)
    assert grouped_split(list("aabbccddee"), 2, 2, 0) == Split((0, 1, 2, 3, 6, 7), (4, 5), (8, 9))
    assert hgpsl_split(10, 777).test == (2,)
    assert stratified_kfold([0, 1] * 10, 0).test == (0, 3)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="5 validation and 5 test items leave none of 10 to train on"):
        random_split(10, 5, 5, 0)
    with pytest.raises(ValueError, match="in whole groups leave none of 6 to train on"):
        grouped_split(["a"] * 6, 1, 1, 0)


def test_amounts_are_fractions_or_counts() -> None:
    assert [count(2039, 0.1), count(2708, 500), count(10, 0.0), count(5278, 0.05)] == [203, 500, 0, 263]


@given(groups=st.lists(st.integers(0, 30), min_size=20, max_size=200), seed=st.integers(0, 100))
def test_a_group_is_never_on_two_sides(groups: list[int], seed: int) -> None:
    largest = max(groups.count(group) for group in groups)
    validation = test = len(groups) // 10
    if 2 * (validation + largest) + 1 >= len(groups):
        return
    split = grouped_split([str(group) for group in groups], validation, test, seed)
    assert_partition(split, len(groups))
    sides = [{groups[item] for item in part} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, sides)) == len(set().union(*sides))
    for part, wanted in ((split.validation, validation), (split.test, test)):
        assert wanted <= len(part) < wanted + largest


@given(names=st.lists(st.sampled_from("abcdefghijklmnop"), min_size=30, max_size=200))
def test_scaffolds_by_a_slow_version(names: list[str]) -> None:
    validation = test = len(names) // 10
    # From the rarest scaffold up (the last seen first among equals): test until it is full, then validation.
    scaffolds = sorted(dict.fromkeys(names), key=lambda name: (-names.count(name), names.index(name)))
    expected: dict[str, str] = {}
    held = {"test": 0, "validation": 0}
    for name in reversed(scaffolds):
        side = "test" if held["test"] < test else "validation" if held["validation"] < validation else "train"
        expected[name] = side
        if side != "train":
            held[side] += names.count(name)
    if "train" not in expected.values():
        return
    split = scaffold_split(names, validation, test)
    assert_partition(split, len(names))
    for side in ("train", "validation", "test"):
        assert {names[item] for item in getattr(split, side)} == {n for n, s in expected.items() if s == side}


def test_scaffolds_of_bbbp(data_root: Path) -> None:
    graphs = load_dataset("bbbp", data_root).as_list()
    scaffolds = [graph.scaffold for graph in graphs]
    split = scaffold_split(scaffolds, 203, 203)
    assert_partition(split, 2039)
    assert 203 <= len(split.test) <= 210
    sizes = [max(scaffolds.count(scaffolds[item]) for item in part) for part in (split.test, split.train)]
    assert sizes[0] == 1 < sizes[1]


@pytest.mark.parametrize("labels", [[0] * 60 + [1] * 40, [0, 1, 2] * 25])
def test_ten_folds_cover_every_item_once(labels: list[int]) -> None:
    folds = [stratified_kfold(labels, seed) for seed in range(10)]
    assert sorted(item for fold in folds for item in fold.test) == list(range(len(labels)))
    for number, fold in enumerate(folds):
        assert_partition(fold, len(labels))
        assert fold.validation == folds[number - 1].test
        for label in set(labels):
            share = sum(labels[item] == label for item in fold.test)
            assert abs(share - labels.count(label) / 10) <= 1
    assert stratified_kfold(labels, 10) not in folds


def test_too_small_a_class_for_folds_is_refused() -> None:
    with pytest.raises(ValueError, match="a class has 9 items, too few for 10 folds"):
        stratified_kfold([0] * 50 + [1] * 9, 0)


def test_hgpsl_split_is_the_published_one(data_root: Path) -> None:
    torch.manual_seed(777)
    parts = torch.utils.data.random_split(range(1113), [890, 111, 112])
    split = hgpsl_split(1113, 777)
    for ours, theirs in zip((split.train, split.validation, split.test), parts, strict=True):
        assert list(ours) == sorted(theirs.indices)
    labels = np.array([int(graph.y) for graph in load_dataset("proteins", data_root).as_list()])
    assert max(np.bincount(labels[list(split.test)])) == 78
