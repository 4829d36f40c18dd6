"""A quantizer: an observer with the grid of its range, one module for each place in a network."""

from __future__ import annotations

from typing import get_args

from torch import Tensor, nn

from gnncompress.errors import QuantizationError, UsageError
from gnncompress.quantization.affine import Codes, Gradient, Grid, fake_quantize, grid_of
from gnncompress.quantization.observers import Observer, ObserverKind, finite_sum
from gnncompress.registry import unknown


class Quantizer(nn.Module):
    """Rounds what passes to a grid of b-bit codes; in training it first lets its observer see the batch.

    ``name`` is the place in the model that messages speak of. In evaluation the range stays as it is.

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

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` on the grid, of the same shape.

        Raises:
            QuantizationError: naming the place: a value is NaN or infinite, or nothing was observed before evaluation.
        """
        if not x.numel():
            return x
        if self.training:
            self.observe(x)
        elif not finite_sum(x):
            raise QuantizationError(f"{self.name}: a value is NaN or infinite")
        return fake_quantize(x, self.grid(x.dim()), self.gradient)

    def observe(self, x: Tensor) -> None:
        """Show a batch to the observer.

        Raises:
            QuantizationError: naming the place, if a value is NaN or infinite.
        """
        try:
            self.observer.observe(x)
        except QuantizationError as error:
            raise QuantizationError(f"{self.name}: {error}") from error

    def grid(self, dims: int = 0) -> Grid:
        """Return the grid of the range seen so far; one a channel broadcasts against tensors of ``dims`` dimensions.

        Raises:
            QuantizationError: naming the place, if no batch was observed.
        """
        seen = self.observer
        if not seen.seen:
            raise QuantizationError(f"{self.name}: its quantizer has seen nothing; train or calibrate the model first")
        if seen.channel is None:
            return grid_of(float(seen.low), float(seen.high), self.codes, self.symmetric)
        shape = [-1 if dim == seen.channel % dims else 1 for dim in range(dims)]
        return grid_of(seen.low.reshape(shape), seen.high.reshape(shape), self.codes, self.symmetric)

    def extra_repr(self) -> str:
        """Say what the quantizer is, for ``print(model)``."""
        kind = "symmetric" if self.symmetric else "asymmetric"
        sign = "signed" if self.codes.signed else "unsigned"
        return f"{self.codes.bits} bits, {sign}, {kind}, {self.observer.kind}, {self.gradient}"
