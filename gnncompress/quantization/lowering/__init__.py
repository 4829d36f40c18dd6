"""From a quantized model to a program of whole numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gnncompress.errors import QuantizationError, UsageError
from gnncompress.masks import make_permanent
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.lowering.fusing import fuse
from gnncompress.quantization.lowering.known import of_quantization
from gnncompress.quantization.lowering.variants import Variants
from gnncompress.quantization.lowering.verifying import Verifier
from gnncompress.quantization.preparing import is_prepared, quantizers
from gnncompress.quantization.weights import freeze, is_frozen, unreached
from gnncompress.reparametrizations import computed_weights
from gnncompress.runtime.aggregation import Aggregate, Weighted
from gnncompress.runtime.floating import FloatAggregate, FloatLinear
from gnncompress.runtime.model import ProgramModel
from gnncompress.runtime.operations import Linear
from gnncompress.runtime.program import Program

__all__ = ["to_compiled", "to_integer"]


def to_compiled(model: nn.Module, verify: bool = True) -> ProgramModel:
    """Return a model that computes what one of floats does, through compiled kernels; ``model`` stays as it is.

    Neighbours are added up without a tensor of messages; CSR features, and weights of which most are zero, take the
    time of what is not zero; pruning's masks are made permanent. What no rule is known for torch computes. The order of
    sums is another, so the last bits may differ. With ``verify`` the first calls are compared with the model, see
    ``lowering.verifying``; such a call costs several of the model's.

    Raises:
        UsageError: if the model is quantized; that is what ``to_integer`` is for.
        QuantizationError: if its forward cannot be followed, or there are no kernels for any of its layers.
    """
    if isinstance(model, ProgramModel):
        return model
    if not isinstance(model, nn.Module):
        raise UsageError(f"to_compiled takes a torch.nn.Module, not a {type(model).__name__}")
    if is_prepared(model):
        raise UsageError(f"{type(model).__name__} is quantized: gnncompress.to_integer runs it in whole numbers")
    kind = type(model).__name__
    for path, module in model.named_modules():
        for weight in computed_weights(module):
            raise QuantizationError(
                f"layer {path} ({type(module).__name__}): torch.nn.utils computes its {weight.name} by a hook; make it "
                "a plain parameter first, e.g. with gnncompress.make_permanent for masks"
            )

    def finish(program: Program) -> Program:
        if not any(isinstance(operation, (FloatLinear, FloatAggregate)) for operation in program.operations):
            raise QuantizationError(f"{kind}: there are no kernels for any of its layers ({_why(program)})")
        return program

    return _made(model, _in_float32(make_permanent(copy.deepcopy(model)).eval()), finish, verify)


def _in_float32(own: nn.Module) -> nn.Module:
    """Return a model in float32, as programs are, if none of its parameters is."""
    dtypes = {one.dtype for one in own.parameters() if one.is_floating_point()}
    return own.float() if dtypes and torch.float32 not in dtypes else own


def _made(model: nn.Module, own: nn.Module, finish: Callable[[Program], Program], verify: bool) -> ProgramModel:
    """Return the programs of ``own``, a copy of ``model``, as a model with the same hooks."""
    made = ProgramModel(Variants(own, finish), Verifier(_without_hooks(own)) if verify else None)
    for identity, hook in model._forward_pre_hooks.items():
        if not of_quantization(hook):
            made.register_forward_pre_hook(
                _hook_of(own, hook), with_kwargs=identity in model._forward_pre_hooks_with_kwargs
            )
    for identity, hook in model._forward_hooks.items():
        if not of_quantization(hook):
            made.register_forward_hook(
                _hook_of(own, hook),
                with_kwargs=identity in model._forward_hooks_with_kwargs,
                always_call=identity in model._forward_hooks_always_called,
            )
    return made


def _without_hooks(model: nn.Module) -> nn.Module:
    """Return a copy of a model, with the same parameters, without the hooks that the programs' model has itself."""
    known = {id(parameter): parameter for parameter in model.parameters()}  # which no one changes
    made = copy.deepcopy(model, known)
    for placed in (made._forward_pre_hooks, made._forward_hooks):
        for identity in [identity for identity, hook in placed.items() if not of_quantization(hook)]:
            del placed[identity]
    return made


def _hook_of(module: nn.Module, hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook that is given the model it was made for: it may look at its class and layers."""
    return lambda _, *given: hook(module, *given)


def _why(program: Program) -> str:
    found = "; ".join(f"{layer}: {why}" for layer, why in program.floats)
    takes = any("more than tensors" in why for _, why in program.floats)
    return found + ("; write its forward as forward(x, edge_index, ...) and give its layers those" if takes else "")


def to_integer(model: nn.Module, verify: bool = True) -> ProgramModel:
    """Return a model that computes what a quantized one simulates, in whole numbers; ``model`` stays as it is.

    Activations between layers are bytes, weights bytes, sums 32 bits. Normalizations, activations and biases are part
    of the rounding that follows them; attention's softmax, and layers that no rule is known for or that were kept in
    floats, run in floats: ``program.floats`` names them. Sums are exact where the simulation rounds them, so both may
    differ by a step where the simulation is on the verge of rounding the other way. With ``verify`` the first calls are
    compared with the simulation, operation by operation, see ``lowering.verifying``; such a call takes the time and the
    memory of the simulated model.

    Raises:
        UsageError: if the model was never quantized.
        QuantizationError: if its quantizers are A2Q's, which have a step for every row, or have seen nothing; if its
            forward cannot be followed, or nothing of it can run in whole numbers.
    """
    if isinstance(model, ProgramModel):
        return model
    if not isinstance(model, nn.Module):
        raise UsageError(f"to_integer takes a torch.nn.Module, not a {type(model).__name__}")
    if not is_prepared(model):
        raise UsageError(
            f"{type(model).__name__} was never quantized: gnncompress.prepare it, calibrate or train it first"
        )
    if any(isinstance(quantizer, LearnedQuantizer) for _, quantizer in quantizers(model)):
        raise QuantizationError(
            "A2Q has steps and bits of its own for every row; integer execution takes ptq, qat or dq"
        )
    found = [quantizer for _, quantizer in quantizers(model)]
    if not any(quantizer.seen for quantizer in found):
        raise UsageError(f"{type(model).__name__} has seen no data yet: gnncompress.calibrate it, or train it, first")
    missed = unreached(model)
    if missed:
        raise QuantizationError(missed)
    own = copy.deepcopy(model)  # what runs in floats is the model's own layers, and must stay as it is
    frozen = own.eval() if is_frozen(own) else freeze(own)
    kind = type(model).__name__

    def finish(program: Program) -> Program:
        if not any(isinstance(operation, (Linear, Aggregate, Weighted)) for operation in program.operations):
            raise QuantizationError(f"{kind}: nothing of it can run in whole numbers ({_why(program)})")
        return fuse(program)

    return _made(model, frozen, finish, verify)
