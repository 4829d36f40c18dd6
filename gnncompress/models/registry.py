"""The models by name, and what each asks of its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gnncompress.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelEntry(Entry):
    """A model: its default arguments and the data transforms it wants, by name."""

    arguments: Mapping[str, int | float] = field(default_factory=dict)
    transforms: tuple[str, ...] = ()


MODELS = Registry(
    "model",
    [
        ModelEntry(
            name="gcn",
            summary="two graph convolutions with ReLU and dropout",
            target="gnncompress.models.gcn:GCN",
            citation="Kipf and Welling, Semi-Supervised Classification with GCNs, ICLR 2017",
            arguments={"hidden": 16, "dropout": 0.5},
            transforms=("sparse_features",),
        ),
        ModelEntry(
            name="spline",
            summary="SplineCNN: two B-spline convolutions of degree 1, kernel size 2, with ELU and dropout",
            target="gnncompress.models.spline:SplineNet",
            citation="Fey et al., SplineCNN, CVPR 2018",
            arguments={"hidden": 16, "dropout": 0.5},
            transforms=("target_indegree", "sparse_features"),
        ),
    ],
)


def build_model(name: str, features: int, classes: int, arguments: Mapping[str, int | float]) -> nn.Module:
    """Build a freshly initialized model for ``features`` inputs and ``classes`` outputs a node.

    Raises:
        UsageError: if no model has that name.
    """
    model: nn.Module = MODELS[name].load()(features, classes, **arguments)
    return model
