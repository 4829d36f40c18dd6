"""What is not alike in two state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnncompress.checkpoints.dtypes import name_of, to_words, why_not_packed


@dataclass(frozen=True)
class Difference:
    """A tensor that is not the same, bit for bit, on both sides: ``what`` says how it differs."""

    name: str
    what: str


def differences(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[Difference]:
    """Return the tensors that differ, in the order of ``one``, then those that only ``other`` has."""
    found = []
    for name, tensor in one.items():
        what = _difference(tensor, other[name]) if name in other else "only in the first"
        if what:
            found.append(Difference(name, what))
    return found + [Difference(name, "only in the second") for name in other if name not in one]


def _difference(one: Tensor, other: Tensor) -> str:
    kinds = [f"{name_of(tensor)} {list(tensor.shape)}" for tensor in (one, other)]
    if kinds[0] != kinds[1]:
        return f"{kinds[0]} and {kinds[1]}"
    why = why_not_packed(one) or why_not_packed(other)
    if why:
        return f"cannot be compared: {why}"
    words = to_words(one) != to_words(other)
    count = int(np.count_nonzero(words.reshape(one.numel(), -1).any(axis=1))) if one.numel() else 0
    if not count:
        return ""
    text = f"{count:,} of {one.numel():,} values"
    if one.is_complex() or one.dtype.is_floating_point:
        wide = torch.complex128 if one.is_complex() else torch.float64
        apart = (one.to(wide) - other.to(wide)).abs()
        text += f", by {float(apart[apart.isfinite()].max()):.3g} at most" if bool(apart.isfinite().any()) else ""
    return text
