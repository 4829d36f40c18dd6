"""Operations of the parts of a model that run in floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gnncompress.runtime import kernels
from gnncompress.runtime.arrays import values
from gnncompress.runtime.program import Operation

if TYPE_CHECKING:
    from gnncompress.runtime.executor import Context


@dataclass(frozen=True, eq=False)
class Call(Operation):
    """What ``function`` makes of the registers ``sources``; floats are tensors for it, ``widths`` columns wide.

    ``what`` is its name in print. A program with such an operation is no file.
    """

    sources: tuple[str, ...]
    widths: tuple[int, ...]
    function: Callable[..., Any]
    what: str

    by_row: ClassVar[bool] = False
    WHOLE: ClassVar[tuple[str, ...]] = ("sources",)

    def run(self, env: Mapping[str, Any], context: Context) -> Any:
        """Return what the function returns."""
        given = [tensor_of(env.get(name), width) for name, width in zip(self.sources, self.widths, strict=True)]
        return self.function(*given)

    def __str__(self) -> str:
        return f"{self.out} = call {self.what}({', '.join(self.sources)}) in floats"


@dataclass(frozen=True, eq=False)
class Pad(Operation):
    """Floats as rows of whole vectors, so that kernels can add them to codes."""

    source: str
    width: int

    by_row: ClassVar[bool] = False
    WHOLE: ClassVar[tuple[str, ...]] = ("source",)

    def run(self, env: Mapping[str, Any], context: Context) -> np.ndarray:
        """Return the padded copy."""
        x: Tensor = env[self.source]
        made = values(len(x), self.width)
        kernels.pad(x.detach().float().contiguous().numpy(), made)
        return made


def tensor_of(value: Any, width: int) -> Any:
    """Return rows of floats as a tensor without what pads them; anything else as it is."""
    return torch.from_numpy(value)[:, :width] if isinstance(value, np.ndarray) else value
