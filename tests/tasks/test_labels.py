from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gnncompress.errors import TaskError
from gnncompress.tasks.labels import absent_classes, class_numbers


@pytest.mark.parametrize("y", [torch.tensor([0, 2, 1]), torch.tensor([[0.0], [2.0], [1.0]]), torch.tensor([0, 2, 1.0])])
def test_class_numbers_of_any_form(y: Tensor) -> None:
    got = class_numbers(y, 3, "node")
    assert got.dtype == torch.long
    assert got.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "the data has no labels y; node classification needs one class number a node"),
        (torch.zeros(4), r"labels y have shape \[4\]; node classification needs \[3\]"),
        (torch.zeros(3, 2), r"labels y have shape \[3, 2\]"),
        (torch.tensor([0, math.nan, 1]), "1 of 3 nodes have no label"),
        (torch.tensor([0, 0.5, 1]), "labels y are real numbers such as 0.5; classes are 0, 1"),
        (torch.tensor([-1, 0, 1]), "1 of 3 nodes have a negative label"),
        (torch.tensor([0, 1, 1000]), "label 1000 is out of range for 3 nodes"),
    ],
)
def test_labels_that_cannot_be_learnt(y: Tensor | None, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        class_numbers(y, 3, "node")


def test_absent_classes_are_named() -> None:
    absent_classes(torch.tensor([0, 1, 2]), 3, "graph")
    with pytest.raises(TaskError, match="class 1, 3 has no training graph"):
        absent_classes(torch.tensor([0, 2]), 4, "graph")


def test_labels_that_are_infinite_are_called_so() -> None:
    with pytest.raises(TaskError, match=r"infinite|inf "):
        class_numbers(torch.tensor([0, math.inf, 1]), 3, "node")


def test_yes_or_no_labels_are_classes() -> None:
    assert class_numbers(torch.tensor([True, False, True]), 3, "graph").tolist() == [1, 0, 1]


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(TaskError, match="every graph has the same label; there is nothing to classify"):
        absent_classes(torch.tensor([0, 0]), 1, "graph")
