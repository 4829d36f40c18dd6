"""Labels that can be learnt from, checked before any training."""

from __future__ import annotations

import torch
from torch import Tensor

from gnncompress.errors import TaskError


def class_numbers(y: Tensor | None, items: int, what: str) -> Tensor:
    """Return labels as int64 class numbers [items].

    ``what`` names an item: node or graph.

    Raises:
        TaskError: if labels are missing, of another number than the items, negative, NaN or no whole numbers.
    """
    if y is None:
        raise TaskError(f"the data has no labels y; {what} classification needs one class number a {what}")
    if y.dim() == 2 and y.size(1) == 1:
        y = y.squeeze(1)
    if y.dim() != 1 or y.numel() != items:
        raise TaskError(f"labels y have shape {list(y.shape)}; {what} classification needs [{items}], one a {what}")
    if y.is_floating_point():
        missing = int(y.isnan().sum())
        if missing:
            raise TaskError(f"{missing} of {items} {what}s have no label (NaN); leave them out of the data")
        if bool(y.isinf().any()):
            raise TaskError(f"{int(y.isinf().sum())} of {items} {what}s have an infinite label; classes are 0, 1, ...")
        if not torch.equal(y, y.round()):
            raise TaskError(f"labels y are real numbers such as {float(y[y != y.round()][0]):g}; classes are 0, 1, ...")
    y = y.long()
    if int(y.min()) < 0:
        raise TaskError(f"{int((y < 0).sum())} of {items} {what}s have a negative label; classes are 0, 1, ...")
    if int(y.max()) >= max(items, 2):
        raise TaskError(f"label {int(y.max())} is out of range for {items} {what}s; number the classes 0, 1, ...")
    return y


def absent_classes(training: Tensor, classes: int, what: str) -> None:
    """Check that every class has a training item.

    Raises:
        TaskError: naming the classes that have none, or that there is only one class.
    """
    if classes < 2:
        raise TaskError(f"every {what} has the same label; there is nothing to classify")
    missing = (torch.bincount(training, minlength=classes) == 0).nonzero().flatten().tolist()
    if missing:
        raise TaskError(
            f"class {', '.join(map(str, missing))} has no training {what}, so it cannot be learnt; "
            "use another --seed, hold back less, or number the classes without gaps"
        )
