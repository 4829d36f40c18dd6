"""A quantizer: an observer with the grid of its range, one module for each place in a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, get_args

import torch
from torch import Tensor, nn

from gnncompress.errors import QuantizationError, UsageError
from gnncompress.quantization import kernels
from gnncompress.quantization.affine import Codes, Gradient, Grid, fake_quantize, from_codes, grid_of, to_codes
from gnncompress.quantization.observers import Observer, ObserverKind, finite
from gnncompress.registry import unknown

# What is rounded as it is. Halves have eleven bits, which between codes of eight leaves three.
_EXACT = (torch.float32, torch.float64)
UNSEEN = "its quantizer has seen nothing; train or calibrate the model first"


@dataclass(frozen=True)
class Rows:
    """Which rows of a tensor a quantizer treats how, in training.

    ``kept`` are the numbers of those that stay as they are; ``seen`` of those that the observer sees, all if None; each
    of the seen counts ``counts`` times, once if None.
    """

    kept: Tensor | None = None
    seen: Tensor | None = None
    counts: Tensor | None = None


class Recorder(Protocol):
    """What is shown the batches of calibration in the observer's place."""

    def observe(self, x: Tensor, counts: Tensor | None = None) -> None: ...  # noqa: D102


class Quantizer(nn.Module):
    """Rounds what passes to a grid of b-bit codes; in training it first lets its observer see the batch.

    ``name`` is the place in the model that messages speak of. In evaluation the range stays as it is. While there is a
    ``recorder``, in calibration, that is shown all values and nothing is rounded, in either mode; once ``frozen``,
    nothing is observed.

    Raises:
        UsageError: for bits outside 2 to 8, or an observer or gradient of another name.

    Source: Tailor et al., Degree-Quant, ICLR 2021, official code (order of observing and quantizing).
    """

    def __init__(
        self,
        name: str,
        bits: int = 8,
        signed: bool = True,
        symmetric: bool = False,
        observer: ObserverKind = "abs",
        gradient: Gradient = "gc",
        channel: int | None = None,
        channels: int = 1,
    ) -> None:
        super().__init__()
        if gradient not in get_args(Gradient):
            raise UsageError(unknown("gradient", gradient, get_args(Gradient)))
        self.name = name
        self.codes = Codes(bits, signed)
        self.symmetric = symmetric
        self.gradient = gradient
        self.observer = Observer(observer, bits, channel, channels)
        self.recorder: Recorder | None = None
        self.frozen = False
        self._grids: dict[tuple[float, float], Grid] = {}  # at most one; changed in place, which a Module does faster

    def forward(self, x: Tensor, rows: Rows | None = None) -> Tensor:
        """Return ``x``, dense or CSR, on the grid, but for the rows that are kept; whole numbers become floats.

        Raises:
            QuantizationError: naming the place: a value is NaN or infinite, or complex, or nothing was observed before
                evaluation.
        """
        if x.dtype not in _EXACT:
            return self._converted(x, rows)
        if not x.numel():
            return x
        if x.layout == torch.sparse_csr:
            return self._sparse(x, rows)
        kept = rows.kept if rows is not None else None
        if x.layout != torch.strided:
            raise QuantizationError(f"{self.name}: sparse features must be CSR: x.to_sparse_csr()")
        if self.watches:
            self.observe(x, rows)
            if not self.seen or (kept is not None and len(kept) == len(x)):
                return x  # nothing of it is sent on, or all of it is protected
        elif not torch.is_grad_enabled() and kernels.fits(x) and (constants := self.grid(x.dim()).constants):
            y = torch.empty_like(x)
            if not kernels.grid_rounded(x, constants, y):
                raise QuantizationError(f"{self.name}: a value is NaN or infinite")
            return y
        elif not finite(x):
            raise QuantizationError(f"{self.name}: a value is NaN or infinite")
        return x if self.calibrating else fake_quantize(x, self.grid(x.dim()), self.gradient, kept)

    def _converted(self, x: Tensor, rows: Rows | None) -> Tensor:
        """Quantize numbers that are no floats, or too short to tell codes apart: these are given back as short."""
        if x.is_complex():
            raise QuantizationError(f"{self.name}: values are {x.dtype}, and must be real")
        rounded = self.forward(x.float(), rows)
        return rounded.to(x.dtype) if x.is_floating_point() else rounded

    @property
    def calibrating(self) -> bool:
        """Whether values pass as they are and are recorded."""
        return self.recorder is not None

    @property
    def watches(self) -> bool:
        """Whether the observer, or the recorder, is shown what passes."""
        return (self.training or self.calibrating) and not self.frozen

    def observe(self, x: Tensor, rows: Rows | None = None) -> None:
        """Show a batch to the observer, or to the recorder.

        Raises:
            QuantizationError: naming the place, if a value is NaN or infinite.
        """
        if rows is not None and rows.seen is not None:
            self._observe(x.index_select(0, rows.seen), rows.counts)
        else:
            self._observe(x, None)

    def _observe(self, x: Tensor, counts: Tensor | None) -> None:
        try:
            (self.recorder or self.observer).observe(x, counts)
        except QuantizationError as error:
            raise QuantizationError(f"{self.name}: {error}") from error

    def grid(self, dims: int = 0) -> Grid:
        """Return the grid of the range seen so far; one a channel broadcasts against tensors of ``dims`` dimensions.

        Raises:
            QuantizationError: naming the place, if no batch was observed.
        """
        observer = self.observer
        if observer.channel is not None:
            return self._grid_by_channel(dims)
        low, high = observer.bounds()
        known = self._grids.get((low, high))
        if known is None:
            if math.isnan(low):
                raise QuantizationError(f"{self.name}: {UNSEEN}")
            self._grids.clear()
            known = self._grids[low, high] = grid_of(low, high, self.codes, self.symmetric)
        return known

    def _grid_by_channel(self, dims: int) -> Grid:
        observer = self.observer
        if not observer.seen:
            raise QuantizationError(f"{self.name}: {UNSEEN}")
        shape = [-1 if dim == (observer.channel or 0) % dims else 1 for dim in range(dims)]
        low, high = (part.reshape(shape) for part in observer.range)
        return grid_of(low, high, self.codes, self.symmetric)

    def state(self) -> tuple[float, ...]:
        """Return what changes whenever the grid does."""
        return self.observer.bounds() if self.observer.channel is None else (self.observer.range._version,)

    def _sparse(self, x: Tensor, rows: Rows | None) -> Tensor:
        """Quantize the stored values; zero has a code, so the others stay zero. The observer sees the zeros, too."""
        rows = rows or Rows()
        values, height = x.values(), len(x)
        owner = torch.arange(height, device=x.device).repeat_interleave(x.crow_indices().diff())
        if self.watches:
            seen = values if rows.seen is None else values[_entries(owner, rows.seen, height)]
            zeros = (height if rows.seen is None else len(rows.seen)) * x.size(1) - len(seen)
            counts = torch.ones(len(seen) + min(zeros, 1), dtype=torch.long, device=x.device)
            counts[len(seen) :] = zeros
            self._observe(torch.cat([seen, seen.new_zeros(min(zeros, 1))]).unsqueeze(1), counts)
            if rows.kept is not None and len(rows.kept) == height:
                return x
        elif not finite(values):
            raise QuantizationError(f"{self.name}: a value is NaN or infinite")
        if self.calibrating:
            return x
        kept = None if rows.kept is None else _entries(owner, rows.kept, height)
        values = fake_quantize(values, self.grid(1), self.gradient, kept)
        return torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), values, x.shape, check_invariants=False)

    @property
    def seen(self) -> bool:
        """Whether a batch was observed."""
        return self.observer.seen

    def quantized(self, x: Tensor) -> Tensor:
        """Return ``x`` on the grid, unseen by the observer."""
        return x if self.calibrating else fake_quantize(x, self.grid(x.dim()), self.gradient)

    def codes_of(self, x: Tensor) -> Tensor:
        """Return the codes of ``x``, int8 or uint8."""
        return to_codes(x, self.grid(x.dim())).to(torch.int8 if self.codes.signed else torch.uint8)

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for, as ``forward`` gives them."""
        return from_codes(codes.to(self.observer.range.dtype), self.grid(codes.dim()))

    def extra_repr(self) -> str:
        """Say what the quantizer is, for ``print(model)``."""
        kind = "symmetric" if self.symmetric else "asymmetric"
        sign = "signed" if self.codes.signed else "unsigned"
        return f"{self.codes.bits} bits, {sign}, {kind}, {self.observer.kind}, {self.gradient}"


def _entries(owner: Tensor, rows: Tensor, height: int) -> Tensor:
    """Return which entries belong to ``rows``, given the row that owns each."""
    chosen = torch.zeros(height, dtype=torch.bool, device=owner.device)
    chosen[rows] = True
    return chosen[owner].nonzero().squeeze(1)
