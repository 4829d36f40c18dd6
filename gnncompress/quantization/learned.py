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

from gnncompress.quantization import kernels

Feedback = Literal["global", "local"]
Ranking = tuple[Tensor, Tensor]


def whole_bits(bits: Tensor) -> Tensor:
    """Return the bits that a learnt number of bits stands for: its absolute value, rounded half to even, at least 1."""
    return bits.abs().round().clamp(min=1)


def largest_value(step: Tensor, bits: Tensor) -> Tensor:
    """Return s 2^(b-1), which the nearest neighbour strategy compares with the largest value of a row."""
    return step.abs() * torch.exp2(whole_bits(bits) - 1)


def quantize_steps(
    x: Tensor, step: Tensor, bits: Tensor, step_feedback: Feedback = "global", bits_feedback: Feedback = "global"
) -> Tensor:
    """Return ``x`` quantized row by row, or column by column.

    Shapes: x [rows, width], step and bits [rows, 1] or [1, width]; the result [rows, width].
    """
    if not torch.is_grad_enabled():
        return round_steps(x, step_size(step), half_range(bits) - 1)[0]
    result: Tensor = _Steps.apply(x, step, bits, step_feedback, bits_feedback)
    return result


def step_codes(x: Tensor, step: Tensor, bits: Tensor) -> Tensor:
    """Return the codes of ``x`` as floats, sign(x) floor(min(|x| / s, qmax) + 0.5)."""
    return _codes(x, step_size(step), half_range(bits) - 1)


def step_values(codes: Tensor, step: Tensor) -> Tensor:
    """Return the values that codes stand for."""
    return step_size(step) * codes


def _codes(x: Tensor, size: Tensor, most: Tensor) -> Tensor:
    return x.sign() * torch.floor(torch.minimum(x.abs() / size, most) + 0.5)


def round_steps(x: Tensor, size: Tensor, most: Tensor) -> tuple[Tensor, bool]:
    """Return s sign(x) floor(min(|x| / s, qmax) + 0.5), without gradients, and whether all of ``x`` is finite."""
    if kernels.fits(x):
        return kernels.steps_rounded(x, size, most)
    return size * _codes(x, size, most), bool(torch.isfinite(x).all())


def step_size(step: Tensor) -> Tensor:
    """Return the absolute value of a step."""
    # A step on its way through zero must not divide by it.
    return step.abs().clamp(min=torch.finfo(torch.float32).tiny)


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step: Tensor, bits: Tensor, step_feedback: Feedback, bits_feedback: Feedback
    ) -> Tensor:
        ctx.save_for_backward(x, step, bits)
        ctx.feedback = step_feedback, bits_feedback
        return round_steps(x, step_size(step), half_range(bits) - 1)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, step, bits = ctx.saved_tensors
        size, half = step_size(step), half_range(bits)
        wanted = ctx.needs_input_grad[1:3]
        if not any(wanted):
            return gradient, None, None, None, None
        local = [feedback == "local" for feedback in ctx.feedback]
        if kernels.fits(x) and kernels.fits(gradient):
            of_step, of_bits = kernels.steps_gradients(x, gradient, size, half, *local)
        else:
            of_step, of_bits = _gradients(x, gradient, size, half, local)
        # The absolute value's own slope; the official code leaves it out.
        of_step = torch.where(step < 0, -of_step, of_step)
        return gradient, of_step if wanted[0] else None, of_bits if wanted[1] else None, None, None


def _gradients(x: Tensor, gradient: Tensor, size: Tensor, half: Tensor, local: list[bool]) -> tuple[Tensor, Tensor]:
    """Return the gradients of steps and bits, see the module's text."""
    sign, outside = x.sign(), x.abs() > size * (half - 1)
    codes = _codes(x, size, half - 1)
    error = torch.sign(size * codes - x)
    of_step = torch.where(outside, sign * (half - 1), codes - x / size)
    of_bits = torch.where(outside, sign * half * math.log(2) * size, 0.0)
    along = 1 if kernels.by_row(x, size) else 0
    found = []
    for slope, own in zip((of_step, of_bits), local, strict=True):
        weighted = (error if own else gradient) * slope
        found.append(weighted.mean(along, keepdim=True) if own else weighted.sum(along, keepdim=True))
    return found[0], found[1]


def half_range(bits: Tensor) -> Tensor:
    """Return 2^(b-1), one more than the largest code."""
    return torch.exp2(whole_bits(bits) - 1)


def nearest_group(x: Tensor, ranking: Ranking) -> Tensor:
    """Return the group whose range is nearest to each row's largest value.

    argmin_k (max_j |x_ij| - s_k 2^(b_k-1))^2; of groups equally near the one with the smaller number is taken. The
    groups are sorted, see ``rank_groups``, and each row is searched for among them, in m log m + n log m steps.

    Shapes: x [rows, width]; the result [rows].

    Source: A2Q, section 3.3 (nearest neighbour strategy). The official code compares with 2^(b-1), the paper's
    Algorithm 1 with 2^(b-1) - 1; this is the code's.
    """
    reach, order = ranking
    if kernels.fits(x) and x.size(1):
        return kernels.rows_nearest(x, reach, order)
    largest = x.detach().abs().amax(1)
    above = torch.searchsorted(reach, largest).clamp(max=len(reach) - 1)
    below = (above - 1).clamp(min=0)
    far_above, far_below = (largest - reach[above]) ** 2, (largest - reach[below]) ** 2
    tie = (far_above == far_below) & (order[below] < order[above])
    return torch.where((far_below < far_above) | tie, order[below], order[above])


def rank_groups(step: Tensor, bits: Tensor) -> Ranking:
    """Return the groups' ranges in ascending order, and whose they are; of equal ones the first stands for all."""
    reach, order = torch.sort(largest_value(step, bits).detach().reshape(-1), stable=True)
    reach, counts = torch.unique_consecutive(reach, return_counts=True)
    return reach, order[torch.cumsum(counts, 0) - counts]
