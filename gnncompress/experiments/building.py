"""A spec's task and model, built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch_geometric import seed_everything

from gnncompress.datasets import fingerprint, load_dataset
from gnncompress.errors import DatasetError
from gnncompress.experiments.methods import EXECUTE, METHODS, Setting
from gnncompress.experiments.spec import NO_METHOD, RunSpec
from gnncompress.models import build_model, find_model
from gnncompress.pruning.edges import KEEP, drop_edges
from gnncompress.pruning.structured.surgery import fit
from gnncompress.quantization.lowering import to_integer
from gnncompress.schemes import INTEGER
from gnncompress.tasks.base import Task
from gnncompress.tasks.making import make_task


def load_task(spec: RunSpec, data_root: Path | None) -> Task:
    """Load the spec's data, transformed as its model wants it, as a task on its device.

    Raises:
        DatasetError: if the data set is not the one that the spec was made for.
    """
    if fingerprint(spec.dataset, data_root) != spec.data:
        raise DatasetError(f"data set {spec.dataset}: its files have changed since the run was asked for; ask again")
    loaded = load_dataset(spec.dataset, data_root)
    transforms = find_model(spec.model).transforms
    task = make_task(spec.task, loaded.as_list(), spec.split, spec.features, transforms, spec.device)
    task.notes = tuple(dict.fromkeys((*loaded.notes, *task.notes)))
    return task


def new_model(spec: RunSpec, task: Task) -> nn.Module:
    """Return the spec's model, freshly initialized from its seed, its lazy layers shaped by the data.

    Raises:
        TaskError: if the model cannot take the data.
    """
    seed_everything(spec.seed)
    model = build_model(spec.model, task.features, task.outputs, spec.arguments).to(spec.device)
    task.check(model)
    return model


def load_model(spec: RunSpec, task: Task, state: Mapping[str, Tensor], verify: bool = True) -> nn.Module:
    """Return the spec's model with the weights of ``state``, ready to infer; ``verify``: see ``to_integer``."""
    model = rebuilt(new_model(spec, task), spec.method, spec.sparsity, spec.settings)
    return executed(fill(model, state, reshapes(spec.method)), spec.settings, verify)


def rebuilt(model: nn.Module, method: str, sparsity: float, settings: Mapping[str, Setting]) -> nn.Module:
    """Give a fresh model the modules that a method puts into it, so that it can take the method's tensors."""
    if method == NO_METHOD or not METHODS[method].rebuilds:
        return model
    again: nn.Module = METHODS[method].load()(sparsity=sparsity, **settings).rebuilt(model)
    return again


def executed(model: nn.Module, settings: Mapping[str, Setting], verify: bool = True) -> nn.Module:
    """Return what computes for a model: itself, or, if the settings say so, the same in whole numbers."""
    return to_integer(model, verify) if settings.get(EXECUTE) == INTEGER else model


def reshapes(method: str) -> bool:
    """Say whether a method leaves tensors of other shapes than the model was built with."""
    return method != NO_METHOD and METHODS[method].reshapes


def fill(model: nn.Module, state: Mapping[str, Tensor], reshaped: bool) -> nn.Module:
    """Give ``model`` the tensors of ``state``, and if it is ``reshaped`` their shapes; return it in evaluation mode.

    Raises:
        RuntimeError: if the two have other names or shapes.
    """
    if reshaped:
        fit(model, state)
    if KEEP in state:
        drop_edges(model, state[KEEP])
    model.load_state_dict(state)
    return model.eval()
