"""A2Q's quantizer: symmetric codes whose step and number of bits are learnt, one pair a row.

With b bits, rounded half to even and without its sign, qmax = 2^(b-1) - 1 and s = |step|:

    y = s sign(x) floor(min(|x| / s, qmax) + 0.5)

so halves are rounded away from zero. Gradients, e = sign(y - x), a value being inside if |x| <= s qmax:

    dy/ds = (q - x / s) inside, sign(x) qmax outside
    dy/db = 0 inside, sign(x) 2^(b-1) ln(2) s outside

The gradient of x passes unchanged. That of step and bits is *global*, the sum over the row of g dy/ds, g the gradient
of the loss, or *local*, the mean over the row of e dy/ds, which lessens the rounding error whatever the loss is.

Source: Zhu et al., Aggregation-Aware Quantization for Graph Neural Networks, ICLR 2023, sections 3.1 and 3.2, and its
official code, commit 9024148. Deviations: fewer than half a bit counts as none there, with which qmax is -0.5 and a row
becomes +-s; here bits are at least 1, with which a row is zero. A step that has become negative receives there the
gradient of its absolute value with the wrong sign; here with the right one.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

Feedback = Literal["global", "local"]


def whole_bits(bits: Tensor) -> Tensor:
    """Return the bits that a learnt number of bits stands for: its absolute value, rounded half to even, at least 1."""
    return bits.abs().round().clamp(min=1)


def largest_value(step: Tensor, bits: Tensor) -> Tensor:
    """Return s 2^(b-1), which the nearest neighbour strategy compares with the largest value of a row."""
    return step.abs() * torch.exp2(whole_bits(bits) - 1)


def quantize_rows(
    x: Tensor, step: Tensor, bits: Tensor, step_feedback: Feedback = "global", bits_feedback: Feedback = "global"
) -> Tensor:
    """Return ``x`` quantized row by row.

    Shapes: x [rows, width], step and bits [rows, 1]; the result [rows, width].
    """
    result: Tensor = _Rows.apply(x, step, bits, step_feedback, bits_feedback)
    return result


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, bits: Tensor, step_feedback: Feedback, bits_feedback: Feedback
    ) -> Tensor:
        size = step.abs()
        most = torch.exp2(whole_bits(bits) - 1) - 1
        codes = x.sign() * torch.floor(torch.minimum(x.abs() / size, most) + 0.5)
        y = size * codes
        ctx.save_for_backward(x, step, bits, codes, y)
        ctx.feedback = step_feedback, bits_feedback
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, step, bits, codes, y = ctx.saved_tensors
        step_feedback, bits_feedback = ctx.feedback
        size, half = step.abs(), torch.exp2(whole_bits(bits) - 1)
        sign, outside = x.sign(), x.abs() > size * (half - 1)
        error = torch.sign(y - x)
        of_step = of_bits = None
        if ctx.needs_input_grad[1]:
            slope = torch.where(outside, sign * (half - 1), codes - x / size)
            # The absolute value's own slope; the official code leaves it out.
            of_step = _fed_back(slope, gradient, error, step_feedback) * torch.where(step < 0, -1.0, 1.0)
        if ctx.needs_input_grad[2]:
            slope = torch.where(outside, sign * half * math.log(2) * size, 0.0)
            of_bits = _fed_back(slope, gradient, error, bits_feedback)
        return gradient, of_step, of_bits, None, None


def _fed_back(slope: Tensor, gradient: Tensor, error: Tensor, feedback: Feedback) -> Tensor:
    if feedback == "local":
        return (error * slope).mean(1, keepdim=True)
    return (gradient * slope).sum(1, keepdim=True)


def nearest_group(x: Tensor, step: Tensor, bits: Tensor) -> Tensor:
    """Return the group whose range is nearest to each row's largest value.

    argmin_k (max_j |x_ij| - s_k 2^(b_k-1))^2; of groups equally near the one with the smaller number is taken. The
    groups are sorted once and each row is searched for among them, in m log m + n log m steps.

    Shapes: x [rows, width], step and bits [groups, 1]; the result [rows].

    Source: A2Q, section 3.3 (nearest neighbour strategy). The official code compares with 2^(b-1), the paper's
    Algorithm 1 with 2^(b-1) - 1; this is the code's.
    """
    largest = x.detach().abs().amax(1)
    reach, order = torch.sort(largest_value(step, bits).detach().reshape(-1), stable=True)
    # Of equal reaches the first one in the order of the groups stands for all.
    reach, first = torch.unique_consecutive(reach, return_counts=True)
    order = order[torch.cumsum(first, 0) - first]
    above = torch.searchsorted(reach, largest).clamp(max=len(reach) - 1)
    below = (above - 1).clamp(min=0)
    far_above, far_below = (largest - reach[above]) ** 2, (largest - reach[below]) ** 2
    tie = (far_above == far_below) & (order[below] < order[above])
    return torch.where((far_below < far_above) | tie, order[below], order[above])
