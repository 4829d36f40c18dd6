"""A program as a model that can be called."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, Signature
from threading import Event, Timer
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnncompress.errors import ExecutionError, UsageError
from gnncompress.measurements import Measurement
from gnncompress.runtime.executor import Context, Plan
from gnncompress.runtime.program import Program

_NOT_SAVED = (
    "a program is not saved: save the model that it was made of, and load that with "
    "gnncompress.load_model(path, execute=...), or call to_integer or to_compiled again"
)


class ProgramModel(nn.Module):
    """Runs a program on what the model it was made of takes, on a CPU; it cannot be trained, and gradients end here.

    Values of the inputs beyond the range that was calibrated saturate and are counted. The first call compiles the
    kernels that it needs, once on a machine.

    Raises:
        ExecutionError: for input that does not fit: features of another width, NaN or infinite values, node numbers
            outside the features' rows, a node with more than 8,388,607 neighbours, tensors of an accelerator.
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.context = Context()
        self._plan = Plan(program, self.context)
        self._without = None if program.without is None else Plan(program.without, self.context)
        self.__signature__ = Signature(
            [
                Parameter(
                    name,
                    Parameter.POSITIONAL_OR_KEYWORD,
                    default=None if name in program.optional else Parameter.empty,
                )
                for name in program.inputs
            ]
        )
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return what the model would, for the same arguments."""
        given = self._given(args, kwargs)
        for name, value in given.items():
            if isinstance(value, Tensor):
                given[name] = _plain(name, value)
            elif (value is None and name not in self.program.optional) or isinstance(value, np.ndarray):
                raise ExecutionError(f"{name} must be a tensor, not {type(value).__name__}")
        plan = self._chosen(given)
        if _announced.is_set() and not torch.is_grad_enabled():
            result = plan.run(given)
        else:
            with torch.no_grad() if _announced.is_set() else announced():
                result = plan.run(given)
        return result

    def _given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name; those that are all there need no binding, which takes a while."""
        if len(args) == len(self.program.inputs) and not kwargs:
            return dict(zip(self.program.inputs, args, strict=True))
        bound = self.__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse to be saved: a checkpoint is that of the quantized model.

        Raises:
            UsageError: saying what to do instead.
        """
        raise UsageError(_NOT_SAVED)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise UsageError(_NOT_SAVED)

    def __deepcopy__(self, memo: dict[int, Any]) -> ProgramModel:
        return ProgramModel(self.program)

    def _chosen(self, given: Mapping[str, Any]) -> Plan:
        """Return the program for the inputs that are given."""
        if self._without is None:
            return self._plan
        tested = [name for name in self.program.inputs if name not in self._without.program.inputs]
        missing = [name for name in tested if given[name] is None]
        if missing and len(missing) < len(tested):
            raise ExecutionError(
                f"{', '.join(missing)} left out while {len(tested) - len(missing)} of its kind are given"
            )
        return self._without if missing else self._plan

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


def _plain(name: str, value: Tensor) -> Tensor:
    """Return a tensor, floats as float32, of which no gradient is followed."""
    if not value.is_cpu:
        raise ExecutionError(f"{name} is on {value.device}: kernels run on the CPU alone; give it {name}.cpu()")
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
