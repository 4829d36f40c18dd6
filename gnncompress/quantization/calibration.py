"""``calibrate``: the ranges of a prepared model's quantizers from data, in the way that its scheme asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gnncompress.errors import QuantizationError, UsageError
from gnncompress.global_state import RandomState, random_state_kept
from gnncompress.quantization.comparison import Comparison
from gnncompress.quantization.context import Context
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.outermost import OutermostCall, OutermostCalls
from gnncompress.quantization.preparing import context_of, is_prepared, quantizers
from gnncompress.quantization.quantizer import Quantizer, Recorder
from gnncompress.quantization.records import Ignored, RangeKind, Record
from gnncompress.quantization.weights import activations, is_frozen, unreached
from gnncompress.schemes import AUTO, OBSERVER, Scheme

Candidate = tuple[RangeKind, RangeKind]  # of activations, of weights
Ranges = dict[Quantizer, Tensor]

_ALONE: dict[str, Candidate] = {
    "minmax": ("minmax", "minmax"),
    # Percentiles of weights would cut off what is there in every call.
    "percentile": ("percentile", "minmax"),
    "mse": ("mse", "mse"),
}
# What auto compares: each way alone, with the paper's observers, and mixtures that were found to win at few bits. Of
# equally good ones it takes the first.
CANDIDATES: tuple[Candidate, ...] = (
    *_ALONE.values(),
    ("mom", "mom"),
    ("per", "per"),
    ("mse", "minmax"),
    ("minmax", "per"),
    ("mse", "per"),
    ("mom", "per"),
)


@dataclass(frozen=True)
class Calibrated:
    """How ``calibrate`` made the ranges of activations and of weights.

    ``error`` is the relative error of the model's output on the data of calibration, |q - f| / |f| over all its values,
    q with these ranges and f in floats; None where nothing was compared.
    """

    activations: RangeKind
    weights: RangeKind
    error: float | None = None


@random_state_kept()
def calibrate(model: nn.Module, run: Callable[[], Any]) -> Calibrated | None:
    """Give the quantizers of a prepared model the ranges of the values that pass while ``run`` calls the model.

    Nothing is rounded meanwhile, and the model is in evaluation mode. All batches count. The scheme's ``calibration``
    says how ranges are made of them: minmax, percentile, mse, observer (as the scheme's own one makes them), or auto:
    ``run`` is called a second time, from the same state of the random generators; what it calls, the model or parts of
    it, is repeated with the ranges of each of ``CANDIDATES``, and those whose outputs have the least squared error
    against the float model's are taken. Ranges that were there before are replaced.

    A2Q has no ranges: its steps take their first values from the first that pass, and nothing is returned.

    Raises:
        UsageError: if the model is not prepared, or frozen.
        QuantizationError: naming the quantizers that were not reached: their layers were called in ways that pass hooks
            by, or not at all; or if ``run`` does not make the same calls a second time.
    """
    if not is_prepared(model):
        raise UsageError(f"{type(model).__name__} has no quantizers to calibrate; prepare it first")
    if is_frozen(model):
        raise UsageError("the model is frozen: its ranges stay as they are; load a checkpoint, or calibrate before")
    candidates = _candidates(context_of(model).scheme)
    before = RandomState()
    with _evaluating(model), torch.no_grad():
        found, calls = _observed(model, run, candidates)
        missed = unreached(model)
        if missed:
            raise QuantizationError(missed)
        if len(candidates) < 2:
            return Calibrated(*candidates[0]) if candidates else None
        before.restore()
        errors = _errors(model, run, found, calls)
    best = min(range(len(errors)), key=errors.__getitem__)
    _give(found[best])
    return Calibrated(*candidates[best], math.sqrt(errors[best]))


def _candidates(scheme: Scheme) -> tuple[Candidate, ...]:
    if scheme.kind == "a2q":
        return ()
    if scheme.calibration == AUTO:
        return CANDIDATES
    if scheme.calibration == OBSERVER:
        return ((scheme.observer, scheme.observer),)  # type: ignore[return-value]
    return (_ALONE[scheme.calibration],)


def _observed(model: nn.Module, run: Callable[[], Any], candidates: Sequence[Candidate]) -> tuple[list[Ranges], int]:
    """Return the ranges of each candidate, and how many calls ``run`` made; the model is given the first."""
    of_activations = set(activations(model))
    place = {quantizer: int(quantizer not in of_activations) for quantizer in _affine(model)}
    records = {
        quantizer: Record(quantizer, {pair[which] for pair in candidates}, weight=bool(which))
        for quantizer, which in place.items()
    }
    with _in_floats(model, records), OutermostCalls(model) as calls:
        run()
    known = {quantizer: record.ranges() for quantizer, record in records.items() if record.seen}
    found = [{quantizer: ranges[pair[place[quantizer]]] for quantizer, ranges in known.items()} for pair in candidates]
    for ranges in found[:1]:
        _give(ranges)
    return found, calls.count


def _errors(model: nn.Module, run: Callable[[], Any], found: Sequence[Ranges], calls: int) -> list[float]:
    """Return the squared relative error of the outputs with each of the ranges.

    Raises:
        QuantizationError: if ``run`` makes other than so many ``calls``, or none that return a tensor.
    """
    comparison = Comparison([partial(_give, ranges) for ranges in found])
    ignored = dict.fromkeys(_affine(model), Ignored())

    def compare(call: OutermostCall) -> None:
        with _recording(dict.fromkeys(ignored)):
            comparison.add(call)

    with _in_floats(model, ignored), OutermostCalls(model, compare) as again:
        run()
    once = "or prepare(..., calibration='minmax'), which calls it once"
    if again.count != calls:
        raise QuantizationError(
            f"calibration auto calls run twice, and it called the model {calls} times, then {again.count}: let it "
            f"go over the same data each time, {once}"
        )
    errors = comparison.errors()
    if not errors:
        raise QuantizationError(
            f"calibration auto compares outputs, and what run calls returns no tensor: let it call the model, {once}"
        )
    return errors


def _affine(model: nn.Module) -> list[Quantizer]:
    return [quantizer for _, quantizer in quantizers(model) if isinstance(quantizer, Quantizer)]


def _give(ranges: Ranges) -> None:
    for quantizer, found in ranges.items():
        quantizer.observer.range.copy_(found)


@contextmanager
def _in_floats(model: nn.Module, recorders: Mapping[Quantizer, Recorder]) -> Iterator[None]:
    """Let a model compute in floats, and its quantizers show what passes to their recorders."""
    told: list[Context | LearnedQuantizer] = [context_of(model)]
    told += [quantizer for _, quantizer in quantizers(model) if isinstance(quantizer, LearnedQuantizer)]
    try:
        for one in told:
            one.calibrating = True
        with _recording(recorders):
            yield
    finally:
        for one in told:
            one.calibrating = False


@contextmanager
def _recording(recorders: Mapping[Quantizer, Recorder | None]) -> Iterator[None]:
    before = {quantizer: quantizer.recorder for quantizer in recorders}
    try:
        for quantizer, recorder in recorders.items():
            quantizer.recorder = recorder
        yield
    finally:
        for quantizer, recorder in before.items():
            quantizer.recorder = recorder


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, then each of its modules back into the one that it was in."""
    before = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, training in before.items():
            module.training = training
