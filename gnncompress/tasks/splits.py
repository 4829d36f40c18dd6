"""Which items train, which choose the model, which judge it; needs numpy only.

A split depends on the number of items and a seed and on nothing else, so every method that is compared on a
(data set, seed) sees the same one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Disjoint item indices, ascending."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def random_split(items: int, validation: int, test: int, seed: int) -> Split:
    """Draw ``validation`` and ``test`` items at random; the others train.

    Raises:
        ValueError: if nothing would be left to train on.
    """
    if validation + test >= items:
        raise ValueError(f"{validation} validation and {test} test items leave none of {items} to train on")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(items)
    parts = np.split(order, [validation, validation + test])
    validation_items, test_items, train_items = (tuple(np.sort(part).tolist()) for part in parts)
    return Split(train=train_items, validation=validation_items, test=test_items)
