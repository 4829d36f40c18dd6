"""The programs of one model: which inputs are None, and how they are laid out, decides which branches it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature

import torch
from torch import nn

from gnncompress.errors import QuantizationError
from gnncompress.quantization.lowering.tracing import lower, may_be_input
from gnncompress.runtime.program import Program

# Inputs that may be left out, but are taken to be given when a model is first lowered.
_DATA = ("batch", "edge_weight", "edge_attr", "pseudo")


class Variants:
    """Lowers a model for each kind of call; each program is finished by ``finish`` and kept.

    Raises:
        QuantizationError: when a program is asked for, if its forward cannot be followed.
    """

    def __init__(self, model: nn.Module, finish: Callable[[Program], Program]) -> None:
        self._model, self._finish = model, finish
        self._made: dict[frozenset[str], list[tuple[dict[str, torch.layout], Program]]] = {}
        self.parameters = [one for one in signature(model.forward).parameters.values() if may_be_input(one)]

    @property
    def optional(self) -> frozenset[str]:
        """The inputs that may be left out."""
        return frozenset(one.name for one in self.parameters if one.default is not Parameter.empty)

    def first(self) -> Program:
        """Return the program of calls with all data, or if there is none, of calls without what may be left out."""
        try:
            return self.program(self.optional - set(_DATA), {})
        except QuantizationError as error:
            try:
                return self.program(self.optional, {})
            except QuantizationError:
                raise error from None

    def program(self, absent: frozenset[str], layouts: Mapping[str, torch.layout]) -> Program:
        """Return the program of calls in which the inputs ``absent`` are None, and others have ``layouts``."""
        known = self._made.setdefault(absent, [])
        for asked, program in known:
            if all(layouts.get(name, torch.strided) == layout for name, layout in asked.items()):
                return program
        made, names = lower(self._model, absent, layouts)
        program = self._finish(made)
        known.append(({name: layouts.get(name, torch.strided) for name in names}, program))
        return program
