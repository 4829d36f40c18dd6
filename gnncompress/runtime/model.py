"""A program as a model that can be called."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature
from threading import Event, Timer
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from gnncompress.errors import ExecutionError, UsageError
from gnncompress.measurements import Measurement
from gnncompress.runtime.executor import Context, Plan
from gnncompress.runtime.program import Program

_NOT_SAVED = (
    "a program is not saved: save the model that it was made of, and load that with "
    "gnncompress.load_model(path, execute=...), or call to_integer or to_compiled again"
)
# The kinds and sizes of so many calls are remembered.
_MOST_SETTLED = 64
# What a module keeps its own hooks in.
_HOOKS = (
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
)


class Variants(Protocol):
    """Makes the programs of one model, one for each kind of call."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """The parameters of calls."""

    def first(self) -> Program:
        """Return the program of the usual kind of call."""

    def program(self, absent: frozenset[str], layouts: Mapping[str, torch.layout]) -> Program:
        """Return the program of calls in which the inputs ``absent`` are None, and others have ``layouts``."""


class Verifier(Protocol):
    """Compares programs with the model that they were made of."""

    def is_due(self, given: Mapping[str, Any]) -> bool:
        """Say whether a call is to be compared; once it is not, none of its kind and sizes is."""

    def verify(self, program: Program, given: Mapping[str, Any], random_state: Tensor) -> None:
        """Run program and model on inputs, which no one else uses, and raise an ExecutionError if they differ."""


class One:
    """The only program of what is no model, such as a test's."""

    def __init__(self, program: Program) -> None:
        self._program = program
        kind = Parameter.POSITIONAL_OR_KEYWORD
        default = {name: None if name in program.optional else Parameter.empty for name in program.inputs}
        self.parameters: Sequence[Parameter] = [Parameter(name, kind, default=default[name]) for name in program.inputs]

    def first(self) -> Program:
        """Return the program."""
        return self._program

    def program(self, absent: frozenset[str], layouts: Mapping[str, torch.layout]) -> Program:
        """Return the program."""
        return self._program


class ProgramModel(nn.Module):
    """Runs a program on what the model it was made of takes, on a CPU; it cannot be trained, and gradients end here.

    Values of the inputs beyond the range that was calibrated saturate and are counted. The first call compiles the
    kernels that it needs, once on a machine. A ``verifier`` compares first calls with the model that the program was
    made of; a call that differs raises.

    Raises:
        ExecutionError: for input that does not fit: features of another width, NaN or infinite values, node numbers
            outside the features' rows, a node with more than 8,388,607 neighbours, tensors of an accelerator; if the
            verifier finds that program and model differ.
        QuantizationError: if the forward cannot be followed for this kind of call.
    """

    def __init__(self, program: Program | Variants, verifier: Verifier | None = None) -> None:
        super().__init__()
        self.context = Context()
        self.verifier = verifier
        self._variants: Variants = One(program) if isinstance(program, Program) else program
        self.program = self._variants.first()
        self._plans: dict[tuple[Any, ...], Plan] = {}
        # The programs of calls that are plain and need not be compared any more.
        self._settled: dict[tuple[Any, ...] | None, Plan] = {}
        self.__signature__ = Signature(list(self._variants.parameters))
        kinds = {one.kind for one in self._variants.parameters}
        # Names of the arguments, if all may be given by position.
        self._names = tuple(self.__signature__.parameters) if kinds <= {Parameter.POSITIONAL_OR_KEYWORD} else ()
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return what the model would, for the same arguments."""
        given = self._given(args, kwargs)
        kind = _kind_of(given)
        plan = self._settled.get(kind)
        if plan is not None:
            return self._run(plan, given)
        plain = {name: _plain(name, value) for name, value in given.items()}
        plan = self._plan_for(plain)
        if self.verifier is not None and self.verifier.is_due(plain):
            return self._verified(self.verifier, plan, plain)
        if kind is not None and all(plain[name] is value for name, value in given.items()):
            if len(self._settled) >= _MOST_SETTLED:
                self._settled.clear()
            self._settled[kind] = plan
        return self._run(plan, plain)

    def _run(self, plan: Plan, given: Mapping[str, Any]) -> Tensor:
        if _announced.is_set() and not torch.is_grad_enabled():
            result = plan.run(given)
        else:
            with torch.no_grad() if _announced.is_set() else announced():
                result = plan.run(given)
        return result

    def _verified(self, verifier: Verifier, plan: Plan, given: Mapping[str, Any]) -> Tensor:
        """Return the result of a call after program and model were compared on copies of its inputs."""
        copies = {name: copied(value) for name, value in given.items()}
        random_state = torch.get_rng_state()
        result = self._run(plan, given)
        verifier.verify(plan.program, copies, random_state)
        return result

    def _given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name; those that are all there need no binding, which takes a while."""
        if self._names and len(args) == len(self._names) and not kwargs:
            return dict(zip(self._names, args, strict=True))
        bound = self.__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def _plan_for(self, given: Mapping[str, Any]) -> Plan:
        """Return the program for calls of this kind, ready to run."""
        kind = tuple(value.layout if isinstance(value, Tensor) else type(value) for value in given.values())
        plan = self._plans.get(kind)
        if plan is None:
            absent = frozenset(name for name, value in given.items() if value is None)
            for name in absent:
                if self.__signature__.parameters[name].default is Parameter.empty:
                    raise ExecutionError(f"{name} must be a tensor, not NoneType")
            layouts = {
                name: value.layout
                for name, value in given.items()
                if isinstance(value, Tensor) and value.layout != torch.strided
            }
            program = self._variants.program(absent, layouts)
            known = next((one for one in self._plans.values() if one.program is program), None)
            plan = self._plans[kind] = Plan(program, self.context) if known is None else known
        return plan

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse to be saved: a checkpoint is that of the quantized model.

        Raises:
            UsageError: saying what to do instead.
        """
        raise UsageError(_NOT_SAVED)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise UsageError(_NOT_SAVED)

    def __deepcopy__(self, memo: dict[int, Any]) -> ProgramModel:
        made = ProgramModel(self._variants, copy.copy(self.verifier))
        for name in _HOOKS:
            setattr(made, name, copy.copy(getattr(self, name)))
        return made

    def saturation(self) -> list[Measurement]:
        """Return for each input that is rounded the fraction of values that were beyond its range, over all calls."""
        context = self.context
        return [
            Measurement("evaluate", "saturation", context.clamped[name] / context.seen[name], "ratio", "computed", name)
            for name in context.seen
            if context.seen[name]
        ]

    def warnings(self) -> list[str]:
        """Return a line for each input of which some values were beyond the range."""
        context = self.context
        return [
            f"{name}: {context.clamped[name]:,} of {context.seen[name]:,} values were beyond the calibrated range and "
            "were given its end"
            for name in context.seen
            if context.clamped[name]
        ]

    def extra_repr(self) -> str:
        """Show the program."""
        return str(self.program)


def copied(value: Any) -> Any:
    """Return a copy of an argument, which a call may change."""
    return value.clone() if hasattr(value, "clone") else copy.deepcopy(value)


def _kind_of(given: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return all that a call is asked before it runs, quickly; None if there are arguments that hold others."""
    kind: list[Any] = [len(torch_module._global_forward_hooks), len(torch_module._global_forward_pre_hooks)]
    for value in given.values():
        if isinstance(value, Tensor):
            if value.is_nested:
                return None
            kind.append((value.dtype, value.shape, value.layout, value.requires_grad, value.is_cpu))
        elif value is None:
            kind.append(None)
        else:
            return None
    return tuple(kind)


def _plain(name: str, value: Any) -> Any:
    """Return a tensor, floats as float32, of which no gradient is followed; anything but tensors as it is."""
    if not isinstance(value, Tensor):
        if isinstance(value, np.ndarray):
            raise ExecutionError(f"{name} must be a tensor, not {type(value).__name__}")
        return value
    if not value.is_cpu:
        raise ExecutionError(f"{name} is on {value.device}: kernels run on the CPU alone; give it {name}.cpu()")
    if value.is_nested:
        raise ExecutionError(f"{name} is a nested tensor: kernels take dense and CSR ones alone")
    dtype = value.dtype
    if dtype is not torch.float32 and (dtype.is_floating_point or dtype.is_complex):
        if dtype.is_complex:
            raise ExecutionError(f"{name} is {dtype}: kernels take real numbers alone")
        value = value.float()
    return value.detach() if value.requires_grad else value


@contextmanager
def announced() -> Iterator[None]:
    """Say what is happening if the first call of a process takes more than a second: kernels are being compiled."""
    timer = Timer(1.0, lambda: print("compiling kernels, each once on this machine ...", file=sys.stderr))
    timer.daemon = True
    timer.start()
    try:
        with torch.no_grad():
            yield
    finally:
        timer.cancel()
        _announced.set()


_announced = Event()
