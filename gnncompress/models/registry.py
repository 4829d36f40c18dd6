"""The models by name, what each is for, and what it asks of its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gnncompress.errors import UsageError
from gnncompress.factories import call_factory, is_reference
from gnncompress.measurements import GRAPHS, LINKS, MULTILABEL, NODES, TASKS
from gnncompress.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import nn

Argument = str | int | float


@dataclass(frozen=True)
class ModelEntry(Entry):
    """A model: its tasks, its arguments for each of them, and the data transforms it wants, by name.

    ``integer`` says whether its forward is known to become a program of whole numbers once it is quantized.
    """

    tasks: Mapping[str, Mapping[str, Argument]] = field(default_factory=dict)
    transforms: tuple[str, ...] = ()
    integer: bool = True

    def arguments(self, task: str) -> Mapping[str, Argument]:
        """Return the model's own arguments for ``task``.

        Raises:
            UsageError: if the model is not for that task.
        """
        if is_reference(self.name):
            return {}
        if task not in self.tasks:
            others = " or ".join(model.name for model in MODELS if task in model.tasks)
            raise UsageError(f"model {self.name} is for {' and '.join(self.tasks)}, not for {task}; use {others}")
        return self.tasks[task]


def _usual(hidden: int = 16, dropout: float = 0.5) -> dict[str, dict[str, Argument]]:
    """Return the arguments of a network that serves every task."""
    graphs: dict[str, Argument] = {"hidden": 64, "layers": 3, "dropout": 0.0, "readout": "mean"}
    return {
        NODES: {"hidden": hidden, "dropout": dropout},
        LINKS: {"hidden": 128, "dropout": 0.0},
        GRAPHS: graphs,
        MULTILABEL: graphs,
    }


def _attention() -> dict[str, dict[str, Argument]]:
    """Return the same for eight heads of eight channels."""
    return {task: {**arguments, "hidden": 8} for task, arguments in _usual(8, 0.6).items()}


_GIN: dict[str, Argument] = {"hidden": 64, "layers": 5, "dropout": 0.5, "readout": "sum"}
_HGPSL: dict[str, Argument] = {"hidden": 128, "ratio": 0.5, "dropout": 0.0}
_GNNNET: dict[str, Argument] = {"hidden": 128, "layers": 3}

MODELS = Registry(
    "model",
    [
        ModelEntry(
            name="gcn",
            summary="graph convolutions with ReLU and dropout",
            target="gnncompress.models.convnet:GCN",
            citation="Kipf and Welling, Semi-Supervised Classification with GCNs, ICLR 2017",
            tasks=_usual(),
            transforms=("sparse_features",),
        ),
        ModelEntry(
            name="graphconv",
            summary="graph convolutions without self loops, as DGL's GraphConv",
            target="gnncompress.models.convnet:GraphConvNet",
            citation="Kipf and Welling, ICLR 2017; arXiv 2510.22058, table 2",
            tasks=_usual(),
            transforms=("sparse_features",),
        ),
        ModelEntry(
            name="graphsage",
            summary="GraphSAGE with mean aggregation",
            target="gnncompress.models.convnet:GraphSAGE",
            citation="Hamilton et al., Inductive Representation Learning on Large Graphs, NeurIPS 2017",
            tasks=_usual(),
        ),
        ModelEntry(
            name="gat",
            summary="graph attention, 8 heads of 8 channels",
            target="gnncompress.models.convnet:GAT",
            citation="Velickovic et al., Graph Attention Networks, ICLR 2018",
            tasks=_attention(),
        ),
        ModelEntry(
            name="supergat",
            summary="graph attention that also learns to tell edges from non-edges (MX)",
            target="gnncompress.models.convnet:SuperGAT",
            citation="Kim and Oh, How to Find Your Friendly Neighborhood, ICLR 2021",
            tasks=_attention(),
            integer=False,
        ),
        ModelEntry(
            name="ssp",
            summary="GCN trained with a KFAC preconditioner",
            target="gnncompress.models.convnet:GCN",
            citation="Izadi et al., Optimization of GNNs with Natural Gradient Descent, IEEE BigData 2020",
            tasks={NODES: {"hidden": 16, "dropout": 0.5}},
            transforms=("sparse_features",),
        ),
        ModelEntry(
            name="spline",
            summary="SplineCNN: two B-spline convolutions of degree 1, kernel size 2, with ELU and dropout",
            target="gnncompress.models.spline:SplineNet",
            citation="Fey et al., SplineCNN, CVPR 2018",
            tasks={NODES: {"hidden": 16, "dropout": 0.5}},
            transforms=("target_indegree", "sparse_features"),
        ),
        ModelEntry(
            name="ness",
            summary="linear encoder over four static subgraphs, embeddings averaged",
            target="gnncompress.models.ness:NESS",
            citation="Ucar, NESS: Node Embeddings from Static SubGraphs, TMLR 2023",
            tasks={LINKS: {"hidden": 32, "subgraphs": 4, "dropout": 0.5, "edge_dropout": 0.2, "contrastive": 0.0}},
            transforms=("unit_rows", "sparse_features", "edge_order"),
            integer=False,
        ),
        ModelEntry(
            name="walkpool",
            summary="random-walk profiles of the subgraph around each pair",
            target="gnncompress.models.walkpool:WalkPool",
            citation="Pan et al., Neural Link Prediction with Walk Pooling, ICLR 2022",
            tasks={LINKS: {"hidden": 32, "heads": 2, "walk_length": 6}},
            transforms=("sparse_features",),
            integer=False,
        ),
        ModelEntry(
            name="hgpsl",
            summary="graph convolutions, top-k pooling and structure learning by sparsemax",
            target="gnncompress.models.hgpsl:HGPSL",
            citation="Zhang et al., Hierarchical Graph Pooling with Structure Learning, 2019, arXiv 1911.05954",
            tasks={GRAPHS: _HGPSL, MULTILABEL: _HGPSL},
            integer=False,
        ),
        ModelEntry(
            name="gnnnet",
            summary="three graph convolutions, maximum over the nodes, a linear layer",
            target="gnncompress.models.gnnnet:GNNNet",
            citation="Zhang et al., ProtGNN, AAAI 2022 (its GCN encoder); arXiv 2510.22058, table 3",
            tasks={GRAPHS: _GNNNET, MULTILABEL: _GNNNET},
        ),
        ModelEntry(
            name="gin",
            summary="graph isomorphism network, five layers with two batch normalizations each",
            target="gnncompress.models.gin:GIN",
            citation="Xu et al., How Powerful are Graph Neural Networks?, ICLR 2019",
            tasks={GRAPHS: _GIN, MULTILABEL: _GIN},
        ),
    ],
)


def find_model(name: str) -> ModelEntry:
    """Return the entry of ``name``: a registered model, or the code that ``file.py:build`` points at.

    Raises:
        UsageError: if no model has that name.
    """
    if is_reference(name):
        return ModelEntry(name, "a model of your own", name, "", tasks={task: {} for task in TASKS})
    return MODELS[name]


def build_model(name: str, features: int, outputs: int, arguments: Mapping[str, Argument]) -> nn.Module:
    """Build a freshly initialized model for ``features`` inputs and ``outputs`` classes, labels or embedding width.

    A factory of the user's own may name any of features, outputs, classes, in_channels, out_channels.

    Raises:
        UsageError: if no model has that name, or the user's factory raises or returns no model.
    """
    from torch import nn

    factory = find_model(name).load()
    if not is_reference(name):
        model: nn.Module = factory(features, outputs, **arguments)
        return model
    offered = {
        "features": features,
        "outputs": outputs,
        "classes": outputs,
        "in_channels": features,
        "out_channels": outputs,
    }
    built = call_factory(name, factory, offered)
    if not isinstance(built, nn.Module):
        raise UsageError(f"{name} returns a {type(built).__name__}; it must return a torch.nn.Module")
    return built
