"""What every loader returns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
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

    def apart(self) -> Loaded:
        """Return the same data set for somebody else: one graph is copied, those of one block are shared."""
        from gnncompress.datasets.collated import Collated

        if isinstance(self.graphs, Collated):
            return self
        one = not isinstance(self.graphs, Sequence)
        copies = [graph.clone() for graph in self.as_list()]
        return replace(self, graphs=copies[0] if one else copies)

    def version(self) -> Hashable:
        """Return what changes when somebody writes into a tensor that ``apart`` shares."""
        from gnncompress.datasets.collated import Collated

        return self.graphs.version() if isinstance(self.graphs, Collated) else ()
