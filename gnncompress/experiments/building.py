"""A chain's task and model, built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from torch_geometric import seed_everything

from gnncompress.compression import CompressionMethod
from gnncompress.datasets import fingerprint, load_dataset
from gnncompress.errors import DatasetError
from gnncompress.experiments.stages import Workload
from gnncompress.models import build_model, find_model
from gnncompress.pruning.edges import KEEP, drop_edges
from gnncompress.pruning.structured.surgery import fit
from gnncompress.tasks.base import Task
from gnncompress.tasks.making import make_task
from gnncompress.tasks.own import with_own


class Tasks:
    """The tasks of a command: the latest few are kept, so that data are loaded once, not for every run."""

    def __init__(self, data_root: Path | None, most: int = 2) -> None:
        self._data_root, self._most = data_root, most
        self._kept: dict[str, Task] = {}

    def of(self, workload: Workload) -> Task:
        """Return a workload's task, loaded or kept.

        Raises:
            DatasetError, TaskError: as ``load_task`` does.
        """
        same = {"recipe", "seed", "threads", "code", "arguments"}  # on which the task does not depend
        key = workload.model_dump_json(exclude=same)
        task = self._kept.pop(key, None)
        if task is None:
            while len(self._kept) >= self._most:
                self._kept.pop(next(iter(self._kept)))
            task = load_task(workload, self._data_root)
        self._kept[key] = task
        return task


def load_task(workload: Workload, data_root: Path | None) -> Task:
    """Load the workload's data, transformed as its model wants it, as a task on its device.

    Raises:
        DatasetError: if the data set is not the one that the run was asked for.
        TaskError: if data, split and model do not fit together.
    """
    if fingerprint(workload.dataset, data_root) != workload.data:
        raise DatasetError(
            f"data set {workload.dataset}: its files have changed since the run was asked for; ask again"
        )
    loaded = load_dataset(workload.dataset, data_root)
    transforms = find_model(workload.model).transforms
    task = make_task(workload.task, loaded.as_list(), workload.split, workload.features, transforms, workload.device)
    task.notes = tuple(dict.fromkeys((*loaded.notes, *task.notes)))
    return with_own(task, workload.own)


def new_model(workload: Workload, task: Task) -> nn.Module:
    """Return the workload's model, freshly initialized from its seed, its lazy layers shaped by the data.

    Raises:
        TaskError: if the model cannot take the data.
    """
    seed_everything(workload.seed)
    model = build_model(workload.model, task.features, task.outputs, workload.arguments).to(workload.device)
    task.check(model)
    return model


def compressed_model(
    workload: Workload, task: Task, methods: Sequence[CompressionMethod], state: Mapping[str, Tensor]
) -> nn.Module:
    """Return the workload's model with what ``methods`` made of its modules and the tensors of ``state``."""
    model = rebuilt(new_model(workload, task), methods)
    return fill(model, state, any(method.reshapes for method in methods))


def rebuilt(model: nn.Module, methods: Sequence[CompressionMethod]) -> nn.Module:
    """Give a fresh model the modules that methods put into it, so that it can take their tensors."""
    for method in methods:
        model = method.rebuilt(model)
    return model


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
