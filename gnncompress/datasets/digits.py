"""scikit-learn's handwritten digits as graphs: real data that needs no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from gnncompress.datasets.collated import Collated, Field
from gnncompress.datasets.loaded import Loaded

NEIGHBOURS = 8
SIDE = 8
FILE = "datasets/data/digits.csv.gz"


def load(source: str = "", data_root: Path | None = None) -> Loaded:
    """Build the digits graph: an edge joins two images when either is among the other's 8 nearest.

    Distances are Euclidean on the 64 pixel intensities; of images equally far the first in the data set is
    nearer. The intensities are small integers, so squared distances are exact, many are equal, and a neighbour
    search that leaves ties to chance gives another graph from time to time. Neither argument is used: the images
    come with scikit-learn.

    Shapes: x [1797, 64] float32 in [0, 1]; edge_index [2, E] with both directions; y [1797] in 0..9.

    Source: graph construction of Franceschi et al., ICML 2019, section 5.
    """
    images, labels = _images()
    squares = (images**2).sum(1)
    distances = (squares[:, None] + squares - 2 * images @ images.T).astype(np.int64)
    np.fill_diagonal(distances, np.iinfo(np.int32).max)
    # Of equal distances the lower number is nearer: as one number they are a total order, whose least need no sort.
    keys = distances * len(images) + np.arange(len(images))
    nearest = np.sort(np.partition(keys, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]) % len(images)
    edges = np.stack([nearest.ravel(), np.repeat(np.arange(len(images)), NEIGHBOURS)])
    return Loaded(
        Data(
            x=torch.from_numpy(images / 16).float(),
            edge_index=to_undirected(torch.from_numpy(edges), num_nodes=len(images)),
            y=torch.from_numpy(labels).long(),
        )
    )


def load_grid(source: str = "", data_root: Path | None = None) -> Loaded:
    """Build one graph a digit: its 8 x 8 pixels, each joined to those above, below, left and right.

    Neither argument is used.

    Shapes: each graph has x [64, 3] float32, intensity, row and column in [0, 1]; edge_index [2, 224]; y [1].
    """
    images, labels = _images()
    pixel = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    beside = np.stack([pixel[:, :-1].ravel(), pixel[:, 1:].ravel()])
    below = np.stack([pixel[:-1].ravel(), pixel[1:].ravel()])
    edge_index = to_undirected(torch.from_numpy(np.concatenate([beside, below], axis=1)), num_nodes=SIDE * SIDE)
    place = torch.from_numpy(np.stack(np.divmod(pixel.ravel(), SIDE), axis=1) / (SIDE - 1)).float()
    graphs = len(images)
    intensities = torch.from_numpy(images / 16).float()
    x = torch.cat([intensities.view(-1, 1), place.repeat(graphs, 1)], dim=1)
    return Loaded(
        Collated(
            {
                "x": Field(x, torch.arange(graphs + 1) * SIDE * SIDE),
                "edge_index": Field(edge_index.repeat(1, graphs), torch.arange(graphs + 1) * edge_index.size(1), dim=1),
                "y": Field(torch.from_numpy(labels).long(), torch.arange(graphs + 1)),
            },
            torch.full((graphs,), SIDE * SIDE),
        )
    )


def _images() -> tuple[NDArray, NDArray]:
    """Return the images [1797, 64] of 0 to 16 and their labels [1797].

    From the file that scikit-learn's ``load_digits`` reads, but without the import, which takes a second: also each
    process that measures would pay it. A release that has the file elsewhere is asked for them.
    """
    package = find_spec("sklearn")
    file = Path(package.origin).parent / FILE if package and package.origin else Path(FILE)
    if not file.is_file():
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return images, labels
    numbers = np.loadtxt(file, delimiter=",")
    return numbers[:, :-1], numbers[:, -1].astype(np.int64)
