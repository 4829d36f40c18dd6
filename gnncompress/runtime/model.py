"""A program as a model that can be called."""

from __future__ import annotations

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
        self.phases = phases_of(program)
        self.context = Context()
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits."""
        given: dict[str, Any] = {**dict(zip(self.program.inputs, args, strict=False)), **kwargs}
        with torch.no_grad():
            return tensor_of(run(self.program, self.phases, given, self.context), self.program.width)
