"""Multiply-accumulate operations of a model's call, counted as it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_SUMS = ("scatter_add", "scatter_add_", "index_add", "index_add_", "scatter_reduce", "scatter_reduce_")


def count_macs(call: Callable[[], object]) -> int:
    """Return the multiply-accumulates of ``call()`` that a program which skips zero weights would do.

    A product x W counts, for every row of x, the entries of W that are not zero; where x is stored sparse, those that
    meet a stored entry of x. A sum over edges counts one for every number added. Other work (batched and
    matrix-vector products, what runs outside torch) is not counted.
    """
    with torch.no_grad(), _Counter() as counter:
        call()
    return counter.macs


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("mm", "_sparse_mm"):
            self.macs += _product(args[0], args[1])
        elif name in ("addmm", "_sparse_addmm"):
            self.macs += _product(args[1], args[2])
        elif name in _SUMS:
            added = next(argument for argument in reversed(args) if isinstance(argument, Tensor))
            self.macs += added.numel()
        return result


def _product(left: Tensor, right: Tensor) -> int:
    per_row = (right != 0).sum(1)
    if left.layout == torch.strided:
        return int(left.size(0) * per_row.sum())
    columns = left.col_indices() if left.layout == torch.sparse_csr else left.coalesce().indices()[1]
    return int(per_row[columns.long()].sum())
