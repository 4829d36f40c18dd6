"""Which of several settings of a model keeps its outputs nearest to those that it gave before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gnncompress.quantization.outermost import OutermostCall


class Comparison:
    """Adds up the squared errors that each setting makes, over calls of a model or of its parts.

    ``settings`` are functions that give the model one setting each. The errors of each module and of each tensor that
    it returns are relative to that tensor's own squares; then they are added. Of whole numbers and bools, such as
    predicted classes, an error is one for each that differs, relative to how many there are.
    """

    def __init__(self, settings: Sequence[Callable[[], None]]) -> None:
        self._settings = settings
        self._squares: dict[tuple[int, int], float] = {}
        self._errors: dict[tuple[int, int], list[float]] = {}

    def add(self, call: OutermostCall) -> None:
        """Repeat ``call`` with every setting and compare what it returns; the last setting stays."""
        wanted = [tensor.clone() for tensor in _numbers(call.output)]  # a model may write its outputs to one place
        if not wanted:
            return
        keys = [(id(call.module), number) for number in range(len(wanted))]
        for key, tensor in zip(keys, wanted, strict=True):
            self._squares[key] = self._squares.get(key, 0.0) + _size(tensor)
        for number, use in enumerate(self._settings):
            use()
            given = list(_numbers(call.repeated()))
            for place, (key, tensor) in enumerate(zip(keys, wanted, strict=True)):
                errors = self._errors.setdefault(key, [0.0] * len(self._settings))
                errors[number] += _difference(given[place], tensor) if len(given) == len(wanted) else math.inf

    def errors(self) -> list[float]:
        """Return sum (q - f)^2 / sum f^2 of each setting, undivided where all f are zero; none if none was compared."""
        relative = [[error / (self._squares[key] or 1.0) for error in errors] for key, errors in self._errors.items()]
        return [sum(parts) for parts in zip(*relative, strict=True)]


def _difference(found: Tensor, wanted: Tensor) -> float:
    """Return sum (q - f)^2 where f is finite; infinite if q is not, or has another shape or type."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return math.inf
    if not wanted.is_floating_point():
        return float((found != wanted).sum())
    error = _squared(torch.where(wanted.isfinite(), found.double() - wanted.double(), 0))
    return math.inf if math.isnan(error) else error


def _size(wanted: Tensor) -> float:
    """Return what the errors of a tensor are relative to."""
    if not wanted.is_floating_point():
        return float(wanted.numel())
    return _squared(torch.where(wanted.isfinite(), wanted, 0))


def _squared(x: Tensor) -> float:
    return float(x.double().square().sum())


def _numbers(output: Any) -> Iterator[Tensor]:
    """Yield the dense tensors in an output, complex ones as pairs of floats, in their order."""
    if isinstance(output, Tensor) and output.layout == torch.strided:
        yield torch.view_as_real(output) if output.is_complex() else output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _numbers(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _numbers(value)
