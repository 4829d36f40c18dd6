"""What every loader returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass(frozen=True)
class Loaded:
    """A data set in memory: one graph, or many, and what the user must be told of it (a line each)."""

    graphs: Data | Sequence[Data]
    notes: tuple[str, ...] = ()

    def as_list(self) -> Sequence[Data]:
        """Return the graphs as a sequence, also when there is one."""
        return self.graphs if isinstance(self.graphs, Sequence) else [self.graphs]
