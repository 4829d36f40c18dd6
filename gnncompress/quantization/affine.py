"""Affine quantization on b-bit integers, its rounding written as floats, and the two gradients that it is trained with.

x is divided by the scale s, moved by the zero point z, rounded half to even and clamped to the codes; the value is then
s (code - z). Zero always has a code. A range [lo, hi], widened to hold zero, gives:

asymmetric: s = (hi - lo) / (qmax - qmin), z = round(qmin - lo / s) clamped to the codes;
symmetric: s = 2 max(|lo|, hi) / (qmax - qmin), z = 0 for signed codes, 2^(b-1) for unsigned ones.

Source: Tailor et al., Degree-Quant, ICLR 2021, and its official code, commit 257d6bc, which two things deviate from:
there the zero point of unsigned symmetric codes is 128 for any number of bits, so that every 4-bit value becomes the
largest, and a value that is not a number passes in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from gnncompress.errors import UsageError
from gnncompress.quantization import kernels

Gradient = Literal["ste", "gc"]

# The smallest scale: that of float32's resolution.
EPSILON = torch.finfo(torch.float32).eps
LEAST_BITS, MOST_BITS = 2, 8


@dataclass(frozen=True)
class Codes:
    """The integers of ``bits`` bits, from -2^(b-1) if they are ``signed``, else from 0."""

    bits: int
    signed: bool = True

    def __post_init__(self) -> None:
        if not LEAST_BITS <= self.bits <= MOST_BITS:
            raise UsageError(f"{self.bits} bits: use {LEAST_BITS} to {MOST_BITS}")

    @property
    def lowest(self) -> int:
        """The smallest code."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The largest code."""
        return self.lowest + 2**self.bits - 1


@dataclass(frozen=True)
class Grid:
    """The values that codes stand for: scale * (code - zero_point).

    Scale and zero point are numbers, or tensors of float64 and float32 that broadcast against what is quantized, one a
    channel.
    """

    codes: Codes
    scale: float | Tensor
    zero_point: float | Tensor

    @cached_property
    def constants(self) -> tuple[float, ...] | None:
        """What the compiled kernels need of the grid of a tensor; there are none for grids of channels.

        The reciprocal is taken in double precision and rounded once, which decides ties as the official code does.
        """
        if isinstance(self.scale, Tensor) or isinstance(self.zero_point, Tensor):
            return None
        return 1 / self.scale, self.zero_point, self.codes.lowest, self.codes.highest, self.scale


def grid_of(low: float | Tensor, high: float | Tensor, codes: Codes, symmetric: bool = False) -> Grid:
    """Return the grid of a range, see the module's text. A range of zero width has scale 1 and zero point 0.

    Shapes: numbers for one grid, tensors of any one shape for one a channel.
    """
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return _grid_of_tensors(torch.as_tensor(low).double(), torch.as_tensor(high).double(), codes, symmetric)
    low, high = min(0.0, low), max(0.0, high)
    if low == high:
        return Grid(codes, 1.0, 0.0)
    steps = codes.highest - codes.lowest
    if symmetric:
        scale = max(2 * max(-low, high) / steps, EPSILON)
        return Grid(codes, scale, 0.0 if codes.signed else float(2 ** (codes.bits - 1)))
    scale = max((high - low) / steps, EPSILON)
    return Grid(codes, scale, float(min(max(codes.lowest - round(low / scale), codes.lowest), codes.highest)))


def _grid_of_tensors(low: Tensor, high: Tensor, codes: Codes, symmetric: bool) -> Grid:
    low, high = low.clamp(max=0), high.clamp(min=0)
    steps = codes.highest - codes.lowest
    width = 2 * torch.maximum(-low, high) if symmetric else high - low
    scale = torch.where(low == high, torch.ones_like(low), (width / steps).clamp(min=EPSILON))
    if symmetric:
        zero = torch.full_like(scale, 0 if codes.signed else 2 ** (codes.bits - 1))
    else:
        zero = (codes.lowest - (low / scale).round()).clamp(codes.lowest, codes.highest)
    return Grid(codes, scale, torch.where(low == high, torch.zeros_like(zero), zero).float())


def fake_quantize(x: Tensor, grid: Grid, gradient: Gradient = "gc", kept: Tensor | None = None) -> Tensor:
    """Return ``x`` rounded to the grid, s (clamp(round(x / s + z), qmin, qmax) - z), but for the rows ``kept``.

    The gradient passes unchanged with ``ste``. With ``gc`` it is zero where x / s + z, rounded, is at or beyond an end
    of the codes: the end codes themselves are among them, as in the official code and unlike torch's own operator.

    Shapes: x [rows, ...], kept [k] numbers of rows; the result as x.

    Source: Degree-Quant, section 3 and official code (both gradients).
    """
    if not torch.is_grad_enabled() or not x.requires_grad:
        return _rounded(x, grid, kept, torch.empty_like(x))
    if gradient == "ste":
        # A copy passes the gradient on as it is; its values are then changed without autograd taking notice.
        return _rounded(x, grid, kept, x.clone())
    result: Tensor = _ClippedGradient.apply(x, grid, kept)
    return result


def from_codes(codes: Tensor, grid: Grid) -> Tensor:
    """Return the values of ``codes``, floats, s (code - z), bit for bit as ``fake_quantize`` gives them."""
    scale = grid.scale.to(codes.dtype) if isinstance(grid.scale, Tensor) else grid.scale
    return (codes - grid.zero_point).mul_(scale)


class _ClippedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Grid, kept: Tensor | None) -> Tensor:
        if grid.constants is not None and kernels.fits(x):
            codes, y = kernels.grid_codes(x, grid.constants)
        else:
            codes = to_codes(x, grid)
            y = from_codes(codes, grid)
        # Not y is saved but the codes: what follows may change y in place, as ReLU(inplace=True) does.
        ctx.save_for_backward(codes)
        ctx.kept, ctx.clip = kept, (grid.codes.lowest + 0.5, grid.codes.highest - 0.5)
        return _kept(y, x, kept)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        # The gradient where the codes are between the two bounds, else zero, in one pass.
        clipped = torch.ops.aten.hardtanh_backward(gradient, ctx.saved_tensors[0], *ctx.clip)
        return _kept(clipped, gradient, ctx.kept), None, None


def to_codes(x: Tensor, grid: Grid) -> Tensor:
    """Return the codes of ``x``, as floats: clamp(round(x / s + z), qmin, qmax)."""
    inverse = _inverse(grid.scale)
    return (x * inverse).add_(grid.zero_point).round_().clamp_(grid.codes.lowest, grid.codes.highest)


def _rounded(x: Tensor, grid: Grid, kept: Tensor | None, out: Tensor) -> Tensor:
    """Write ``x`` rounded into ``out``, which may be taken as it is."""
    fused = grid.constants is not None and kernels.fits(x) and out.is_contiguous()
    if fused:
        kernels.grid_rounded(x, grid.constants or (), out)
        if kept is None:
            return out
    with torch.no_grad():
        if not fused:
            out.copy_(from_codes(to_codes(x, grid), grid))
        return _kept(out, x, kept)


def _inverse(scale: float | Tensor) -> float | Tensor:
    return (1 / scale).float() if isinstance(scale, Tensor) else 1 / scale


def _kept(new: Tensor, old: Tensor, kept: Tensor | None) -> Tensor:
    """Put the rows ``kept`` of ``old`` into ``new``."""
    return new if kept is None else new.index_copy_(0, kept, old.index_select(0, kept))
