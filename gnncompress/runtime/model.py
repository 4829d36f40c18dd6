"""A program as a model that can be called."""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any

import torch
from torch import Tensor, nn

from gnncompress.runtime.executor import Context, phases_of, run
from gnncompress.runtime.floating import tensor_of
from gnncompress.runtime.program import Program


class IntegerModel(nn.Module):
    """Runs a program on what the model that it was made of takes; it cannot be trained."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.context = Context()
        self._phases = phases_of(program)
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
        given = self.__signature__.bind(*args, **kwargs)
        given.apply_defaults()
        with torch.no_grad():
            result = run(self.program, self._phases, given.arguments, self.context)
            found: Tensor = tensor_of(result, self.program.width)
            return found
