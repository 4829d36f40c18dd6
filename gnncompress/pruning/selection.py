"""Choosing the smallest scores, exactly as many as asked, the same ones every time.

A quick-select finds the k-th smallest score without sorting; weights tied with it go in the order in which
they stand, so that a tie is never decided by how a library happens to sort.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def keep_mask(scores: Tensor, remove: int) -> Tensor:
    """Return True for the scores that stay when the ``remove`` smallest go.

    Shapes: scores [n], no NaN -> bool [n] with exactly n - remove True.
    """
    if remove == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    values = scores.detach().cpu().numpy()
    threshold = np.partition(values, remove - 1)[remove - 1]
    keep = values > threshold
    surplus = (values.size - remove) - int(np.count_nonzero(keep))
    if surplus:
        tied = np.flatnonzero(values == threshold)
        keep[tied[tied.size - surplus :]] = True
    return torch.from_numpy(keep).to(scores.device)
