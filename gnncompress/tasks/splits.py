"""Which items train, which choose the model, which judge it.

A split depends on the data set, its kind and its seed and on nothing else, so every method that is compared on a
(data set, seed) sees the same one. Items are nodes, graphs or undirected edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnncompress.measurements import GRAPHS, LINKS, MULTILABEL, NODES

FOLDS = 10
# The kinds of split that a task has.
SPLITS = {
    NODES: ("random", "public", "stratified-kfold"),
    LINKS: ("random",),
    GRAPHS: ("random", "stratified-kfold", "scaffold", "hgpsl"),
    MULTILABEL: ("random", "scaffold", "hgpsl"),
}


@dataclass(frozen=True)
class SplitSpec:
    """How to split: a kind, a seed, and how much is held back.

    Units: ``validation`` and ``test`` are fractions of the items below 1, counts from 1; kinds that fix their own
    sizes (public, stratified-kfold, hgpsl) do not read them. Source of a kind: its function below.
    """

    kind: str
    seed: int
    validation: float = 0.1
    test: float = 0.1


@dataclass(frozen=True)
class Split:
    """Disjoint item indices, ascending."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def count(items: int, amount: float) -> int:
    """Return ``amount`` of ``items`` as a count: a fraction is rounded down, a count is taken as it is."""
    return int(amount * items) if amount < 1 else int(amount)


def random_split(items: int, validation: int, test: int, seed: int) -> Split:
    """Draw ``validation`` and ``test`` items at random; the others train.

    Raises:
        ValueError: if nothing would be left to train on.
    """
    if validation + test >= items:
        raise ValueError(f"{validation} validation and {test} test items leave none of {items} to train on")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(items)
    held_back, chosen, rest = np.split(order, [validation, validation + test])
    return _split(rest, held_back, chosen)


def grouped_split(groups: Sequence[str], validation: int, test: int, seed: int) -> Split:
    """Draw whole groups at random until ``validation``, then ``test`` items are reached; the others train.

    Items of one group, such as copies of a molecule, never end on two sides.

    Raises:
        ValueError: if nothing would be left to train on.
    """
    members = _numbered(groups)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(int(members.max()) + 1)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return _filled(np.argsort(rank[members], kind="stable"), members, validation, test)


def scaffold_split(scaffolds: Sequence[str], validation: int, test: int) -> Split:
    """Put the molecules of the most common scaffolds in training, of rarer ones in validation, of the rarest in test.

    Deterministic: of equally common scaffolds the one seen first is the first to be held back, as in the splitter of
    MoleculeNet; some files are sorted by class, and the other order would hold back one class only. A scaffold is
    never on two sides. A molecule without rings has the empty scaffold, which is one like any other.

    Source: Wu et al., MoleculeNet, Chem. Sci. 2018, section 3.3 (Bemis-Murcko scaffolds).

    Raises:
        ValueError: if nothing would be left to train on.
    """
    members = _numbered(scaffolds)
    sizes = np.bincount(members)
    rank = np.empty_like(sizes)
    rank[np.lexsort((np.arange(sizes.size), sizes))] = np.arange(sizes.size)
    # The rarest are drawn first: they are the test set, as the first to be filled from the far end.
    order = np.argsort(rank[members], kind="stable")
    split = _filled(order, members, test, validation)
    return Split(train=split.train, validation=split.test, test=split.validation)


def stratified_kfold(labels: ArrayLike, seed: int) -> Split:
    """Return fold ``seed`` mod 10 of 10 stratified folds as test set, the fold before it as validation set.

    Every tenth seed draws new folds.

    Source: the protocol of Tailor et al., Degree-Quant, ICLR 2021 (10 folds, random state 12345).

    Raises:
        ValueError: if a class has fewer than 10 items.
    """
    from sklearn.model_selection import StratifiedKFold

    labels = np.asarray(labels)
    rarest = int(np.unique(labels, return_counts=True)[1].min())
    if rarest < FOLDS:
        raise ValueError(f"a class has {rarest} items, too few for {FOLDS} folds")
    folder = StratifiedKFold(FOLDS, shuffle=True, random_state=12345 + seed // FOLDS)
    folds = [test for _, test in folder.split(np.zeros(labels.size), labels)]
    fold = seed % FOLDS
    held_back = (fold - 1) % FOLDS
    rest = np.concatenate([part for index, part in enumerate(folds) if index not in (fold, held_back)])
    return _split(rest, folds[held_back], folds[fold])


def hgpsl_split(items: int, seed: int) -> Split:
    """Return the split of HGP-SL's published experiments, which draw it with torch: 80 / 10 / 10 percent.

    Source: Zhang et al., HGP-SL, arXiv 1911.05954; their seed is 777.
    """
    import torch

    order = torch.randperm(items, generator=torch.Generator().manual_seed(seed)).numpy()
    rest, held_back, chosen = np.split(order, [int(items * 0.8), int(items * 0.8) + int(items * 0.1)])
    return _split(rest, held_back, chosen)


def _numbered(names: Sequence[str]) -> NDArray:
    """Return the number of each name, by first appearance: [n]."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names])


def _filled(order: NDArray, members: NDArray, first: int, second: int) -> Split:
    """Fill two sides with whole groups in ``order`` until each has what is asked for; the others train.

    ``order`` keeps the items of a group together.
    """
    boundaries = np.flatnonzero(np.diff(members[order], append=-1)) + 1
    one = _reach(boundaries, first)
    two = _reach(boundaries, one + second)
    if two >= order.size:
        raise ValueError(f"{first} and {second} items in whole groups leave none of {order.size} to train on")
    return _split(order[two:], order[:one], order[one:two])


def _reach(boundaries: NDArray, wanted: int) -> int:
    return (
        0
        if wanted == 0
        else int(boundaries[np.searchsorted(boundaries, wanted)])
        if wanted <= boundaries[-1]
        else int(boundaries[-1])
    )


def _split(train: NDArray, validation: NDArray, test: NDArray) -> Split:
    rest, held_back, chosen = (tuple(np.sort(part).tolist()) for part in (train, validation, test))
    return Split(train=rest, validation=held_back, test=chosen)
