"""B-spline bases, of which SplineCNN makes the weights of its messages."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def spline_basis(
    pseudo: Tensor, kernel_size: Sequence[int], is_open: Sequence[bool], degree: int
) -> tuple[Tensor, Tensor]:
    """Evaluate the B-spline basis at pseudo-coordinates.

    Per dimension with kernel size K and degree m: v = u (K - m) for an open spline, u K for a closed one;
    with i = floor(v) and f = v - i, the m + 1 functions that are not zero sit at kernel indices (i + k) mod K,
    k = 0..m, with the values of the uniform B-spline segments. Dimensions multiply; dimension 0 is fastest in
    the flat kernel index.

    Shapes: pseudo [E, D] in [0, 1] -> basis [E, S] and index [E, S] with S = (m + 1)^D.

    Source: Fey et al., SplineCNN, CVPR 2018, section 3.2.
    """
    basis = pseudo.new_ones(pseudo.size(0), 1)
    index = torch.zeros(pseudo.size(0), 1, dtype=torch.long, device=pseudo.device)
    stride = 1
    for dimension, (size, opened) in enumerate(zip(kernel_size, is_open, strict=True)):
        position = pseudo[:, dimension] * (size - degree if opened else size)
        start = position.floor()
        weights = _segments(position - start, degree)
        offsets = torch.arange(degree + 1, device=pseudo.device)
        local = (start.long().unsqueeze(1) + offsets) % size
        basis = (weights.unsqueeze(2) * basis.unsqueeze(1)).flatten(1)
        index = (local.unsqueeze(2) * stride + index.unsqueeze(1)).flatten(1)
        stride *= size
    return basis, index


def _segments(f: Tensor, degree: int) -> Tensor:
    """Return the values [E, degree + 1] of the B-spline segments at fractional position f [E]."""
    if degree == 1:
        parts = [1 - f, f]
    elif degree == 2:
        parts = [0.5 * f**2 - f + 0.5, -(f**2) + f + 0.5, 0.5 * f**2]
    elif degree == 3:
        parts = [
            (1 - f) ** 3 / 6,
            (3 * f**3 - 6 * f**2 + 4) / 6,
            (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
            f**3 / 6,
        ]
    else:
        raise ValueError(f"spline degree {degree} is not one of 1, 2, 3")
    return torch.stack(parts, dim=1)


def kernel_coefficients(pseudo: Tensor, kernel_size: Sequence[int], is_open: Sequence[bool], degree: int) -> Tensor:
    """Return the weight of each kernel for each edge, zero for all but S of them: [E, prod K]; see ``spline_basis``."""
    basis, index = spline_basis(pseudo, kernel_size, is_open, degree)
    # Small kernels fold onto each other (K = m + 1, closed), so indices may repeat: add, do not assign.
    return basis.new_zeros(basis.size(0), math.prod(kernel_size)).scatter_add(1, index, basis)
