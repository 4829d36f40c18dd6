from __future__ import annotations

from collections import Counter
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
    # From the rarest scaffold up (the first seen first among equals, as MoleculeNet's splitter has it): test until it
    # is full, then validation.
    scaffolds = sorted(dict.fromkeys(names), key=lambda name: (names.count(name), names.index(name)), reverse=True)
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
    assert 203 <= len(split.validation) <= 210
    common = Counter(scaffolds)
    sizes = [[common[scaffolds[item]] for item in part] for part in (split.test, split.validation, split.train)]
    assert max(sizes[0]) <= min(sizes[1])
    assert max(sizes[1]) <= min(sizes[2])
    assert max(sizes[0]) == 1 < max(sizes[2])


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


def test_small_splits_never_change() -> None:
    assert random_split(10, 2, 3, 7) == Split((2, 4, 5, 6, 9), (0, 8), (1, 3, 7))
    assert grouped_split(list("aabbccddee"), 2, 2, 1) == Split((2, 3, 4, 5, 6, 7), (8, 9), (0, 1))
    # No two scaffolds are equally common here: d is the rarest, then c.
    assert scaffold_split(list("abacabdcba"), 2, 1) == Split((0, 1, 2, 4, 5, 8, 9), (3, 7), (6,))
    rest = (0, 1, 3, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
    assert stratified_kfold([0, 1] * 10, 13) == Split(rest, (4, 9), (2, 5))
    assert hgpsl_split(10, 777) == Split((0, 1, 3, 4, 5, 7, 8, 9), (6,), (2,))


@given(items=st.integers(10, 400), seed=st.integers(0, 1000))
def test_hgpsl_split_is_of_80_10_10_percent(items: int, seed: int) -> None:
    split = hgpsl_split(items, seed)
    assert_partition(split, items)
    assert (len(split.train), len(split.validation)) == (items * 8 // 10, items // 10)
    before = torch.get_rng_state()
    assert hgpsl_split(items, seed) == split
    assert torch.equal(torch.get_rng_state(), before), "torch's own generator is left alone"


@given(sizes=st.lists(st.integers(10, 40), min_size=2, max_size=5), seed=st.integers(0, 40))
def test_folds_keep_the_shares_of_the_classes(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    split = stratified_kfold(labels, seed)
    assert_partition(split, labels.size)
    for part in (split.validation, split.test):
        counts = np.bincount(labels[list(part)], minlength=len(sizes))
        assert (np.abs(counts - np.array(sizes) / 10) <= 1).all()


@given(items=st.integers(10, 60), seed=st.integers(0, 100))
def test_groups_of_one_are_split_to_the_item(items: int, seed: int) -> None:
    split = grouped_split([f"molecule {number}" for number in range(items)], items // 5, items // 4, seed)
    assert_partition(split, items)
    assert (len(split.validation), len(split.test)) == (items // 5, items // 4)


def test_every_item_can_be_drawn_to_every_side() -> None:
    for draw in (lambda seed: random_split(8, 2, 2, seed), lambda seed: grouped_split(list("abcdefgh"), 2, 2, seed)):
        splits = [draw(seed) for seed in range(400)]
        for side, expected in (("train", 200), ("validation", 100), ("test", 100)):
            counts = np.bincount([item for split in splits for item in getattr(split, side)], minlength=8)
            assert (np.abs(counts - expected) < 45).all(), (side, counts)


def test_nothing_in_whole_scaffolds_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="1 and 5 items in whole groups leave none of 6 to train on"):
        scaffold_split(list("aaaaab"), 5, 1)


def test_scaffold_split_of_bbbp_is_moleculenets(data_root: Path) -> None:
    graphs = load_dataset("bbbp", data_root).as_list()
    split = scaffold_split([graph.scaffold for graph in graphs], 203, 203)
    labels = np.array([int(graph.y) for graph in graphs])
    # The file is sorted in part by class: of equally rare scaffolds, test must take the first seen, as MoleculeNet
    # does, where 52 % of the test molecules are of class 1. The last seen are all of class 1: nothing to rank.
    for part in (split.train, split.validation, split.test):
        assert 0.4 < labels[list(part)].mean() < 0.9
