"""The data sets by name, with the statistics that a loaded one is held to.

The statistics are declared so that listing, splitting and resuming need no data and no torch; loading checks
them, so a wrong or damaged file cannot pass for the real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gnncompress.errors import DatasetError
from gnncompress.registry import Entry, Registry

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass(frozen=True)
class DatasetEntry(Entry):
    """A data set: its task and statistics, and how many nodes its random splits hold back.

    Units: ``edges`` counts directed edges; ``validation`` and ``test`` are node counts.
    """

    task: str
    nodes: int
    edges: int
    features: int
    classes: int
    validation: int
    test: int

    @property
    def statistics(self) -> dict[str, int]:
        """The numbers a loaded data set must show."""
        return {
            "nodes": self.nodes,
            "edges": self.edges,
            "features": self.features,
            "classes": self.classes,
        }


DATASETS = Registry(
    "dataset",
    [
        DatasetEntry(
            name="digits",
            summary="handwritten digits as a k-nearest-neighbour graph; embedded, no download",
            target="gnncompress.datasets.digits:load",
            citation="Franceschi et al., Learning Discrete Structures for GNNs, ICML 2019 (kNN graphs)",
            task="node-classification",
            nodes=1797,
            edges=19858,
            features=64,
            classes=10,
            validation=400,
            test=400,
        ),
        DatasetEntry(
            name="cora",
            summary="citation network; nodes are papers, features binary words, classes topics",
            target="gnncompress.datasets.planetoid:load_cora",
            citation="Yang et al., Revisiting Semi-Supervised Learning with Graph Embeddings, ICML 2016",
            task="node-classification",
            nodes=2708,
            edges=10556,
            features=1433,
            classes=7,
            validation=500,
            test=500,
        ),
    ],
)


def load_dataset(name: str, data_root: Path | None = None) -> Data:
    """Load the graph called ``name``, from under ``data_root`` if its raw files are there.

    Raises:
        UsageError: if no data set has that name.
        DatasetError: if it cannot be found or read, or its statistics are not the declared ones.
    """
    entry = DATASETS[name]
    data = entry.load()(data_root)
    found = {
        "nodes": data.num_nodes,
        "edges": data.num_edges,
        "features": data.num_features,
        "classes": int(data.y.max()) + 1,
    }
    for what, expected in entry.statistics.items():
        if found[what] != expected:
            raise DatasetError(
                f"data set {name}: {found[what]:,} {what} loaded where {expected:,} are expected; "
                "its raw files are not the published ones, restore them"
            )
    return data
