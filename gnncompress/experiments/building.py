"""A spec's task and model, built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from gnncompress.datasets import DATASETS, load_dataset
from gnncompress.datasets.transforms import TRANSFORMS
from gnncompress.experiments.spec import RunSpec
from gnncompress.models import MODELS, build_model
from gnncompress.tasks.node_classification import NodeClassification


def load_task(spec: RunSpec, data_root: Path | None) -> NodeClassification:
    """Load the spec's data, transformed as its model wants it, as a task on its device."""
    data = load_dataset(spec.dataset, data_root)
    for transform in MODELS[spec.model].transforms:
        data = TRANSFORMS[transform](data)
    return NodeClassification(data, spec.split, spec.device)


def new_model(spec: RunSpec) -> nn.Module:
    """Return the spec's model, freshly initialized from its seed."""
    torch.manual_seed(spec.seed)
    entry = DATASETS[spec.dataset]
    return build_model(spec.model, entry.features, entry.classes, spec.arguments).to(spec.device)


def load_model(spec: RunSpec, state: Mapping[str, Tensor]) -> nn.Module:
    """Return the spec's model with the weights of ``state``, ready to infer."""
    model = new_model(spec)
    model.load_state_dict(state)
    return model.eval()
