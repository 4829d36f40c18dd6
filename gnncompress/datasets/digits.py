"""scikit-learn's handwritten digits as a graph: real data that needs no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import euclidean_distances
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

NEIGHBOURS = 8


def load(data_root: Path | None = None) -> Data:
    """Build the digits graph: an edge joins two images when either is among the other's 8 nearest.

    Distances are Euclidean on the 64 pixel intensities; of images equally far the first in the data set is
    nearer. The intensities are small integers, so squared distances are exact, many are equal, and a neighbour
    search that leaves ties to chance gives another graph from time to time. ``data_root`` is not used: the images
    come with scikit-learn.

    Shapes: x [1797, 64] float32 in [0, 1]; edge_index [2, E] with both directions; y [1797] in 0..9.

    Source: graph construction of Franceschi et al., ICML 2019, section 5.
    """
    images, labels = load_digits(return_X_y=True)
    distances = np.rint(euclidean_distances(images, squared=True)).astype(np.int64)
    np.fill_diagonal(distances, np.iinfo(np.int64).max)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]
    edges = np.stack([nearest.ravel(), np.repeat(np.arange(len(images)), NEIGHBOURS)])
    return Data(
        x=torch.from_numpy(images / 16).float(),
        edge_index=to_undirected(torch.from_numpy(edges), num_nodes=len(images)),
        y=torch.from_numpy(labels).long(),
    )
