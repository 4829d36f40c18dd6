"""The one seam to torch's product of bytes."""

from __future__ import annotations

import numpy as np
import torch


def multiply(x: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """Write the product of codes [rows, inputs] and a weight [inputs, outputs], int8 both, as int32 [rows, outputs].

    ``torch._int_mm`` runs on oneDNN's kernels of bytes where the processor has them, and on plain loops of torch's
    where it has none.
    """
    if len(x):
        torch._int_mm(torch.from_numpy(x), torch.from_numpy(weight), out=torch.from_numpy(out))
