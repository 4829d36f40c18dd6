"""Sparsemax over groups of edges, without sorting.

The textbook algorithm sorts every group. Here a threshold that is too low is raised until nothing more falls below
it (Michelot's method): a few passes over a quickly shrinking list, which takes groups of any size in any order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def sparsemax(values: Tensor, index: Tensor, groups: int) -> Tensor:
    """Project the values of every group onto the probability simplex.

    p_e = max(z_e - tau_g, 0) with tau_g = (sum_{S_g} z - 1) / |S_g| over the support S_g = {e in g : p_e > 0}.
    Its Jacobian is 1 - 1 / |S_g| and -1 / |S_g| on the support, 0 elsewhere.

    Shapes: values [E], index [E] in 0..groups-1, sorted or not -> [E].

    Source: Martins and Astudillo, ICML 2016, equation 2 and proposition 1; the threshold by Michelot, 1986.
    """
    result: Tensor = _Sparsemax.apply(values, index, groups)
    return result


class _Sparsemax(torch.autograd.Function):
    """The projection, with a backward pass that touches nothing but the support."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, groups: int) -> Tensor:
        highest = values.new_zeros(groups).scatter_reduce_(0, index, values, "amax", include_self=False)
        shifted = values - highest[index]
        tau = _thresholds(shifted, index, groups)
        result = (shifted - tau[index]).clamp_(min=0)
        ctx.save_for_backward(result, index)
        ctx.groups = groups
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        result, index = ctx.saved_tensors
        support = (result > 0).to(gradient.dtype)
        masked = gradient * support
        total = masked.new_zeros(ctx.groups).scatter_add_(0, index, masked)
        size = masked.new_zeros(ctx.groups).scatter_add_(0, index, support)
        return masked - support * (total / size)[index], None, None


def _thresholds(shifted: Tensor, index: Tensor, groups: int) -> Tensor:
    """Return tau [groups] for values [E] whose maximum in every group is 0.

    The zero maximum makes rounding harmless: it can never fall below tau <= -1 / |S|, so no support gets empty.
    """
    # tau >= max - 1, because the largest probability is at most 1.
    active = shifted > -1
    values, index = shifted[active], index[active]
    while True:
        size = values.new_zeros(groups).scatter_add_(0, index, torch.ones_like(values))
        tau = (values.new_zeros(groups).scatter_add_(0, index, values) - 1) / size
        kept = values > tau[index]
        if bool(kept.all()):
            return tau
        values, index = values[kept], index[kept]
