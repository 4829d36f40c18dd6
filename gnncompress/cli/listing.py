"""``gnncompress datasets``, ``models`` and ``methods``: what there is, a line each."""

from __future__ import annotations

from collections.abc import Iterable

from gnncompress.cli.console import output
from gnncompress.cli.tables import PIPED, print_table
from gnncompress.reporting.tables import Column


def datasets() -> None:
    """List the data sets with their statistics; any other TUDataset or MoleculeNet set can be named, too."""
    from gnncompress.datasets import DATASETS

    print_table(
        (
            Column("data set", text=True),
            Column("task", text=True, rank=2),
            *(Column(what, rank=3) for what in ("graphs", "features", "classes")),
            Column("what it is", text=True, rank=1),
        ),
        (
            (
                entry.name,
                _tasks(entry.tasks),
                *(_number(entry.statistics.get(what)) for what in ("graphs", "features", "classes")),
                entry.summary,
            )
            for entry in DATASETS
        ),
        PIPED,
    )
    output.print(
        "Others: tu:NAME or moleculenet:NAME of any set of these collections, the name of a raw folder of yours, "
        "or my_file.py:load for a function that returns PyG graphs."
    )


def models() -> None:
    """List the models and their tasks."""
    from gnncompress.models import MODELS

    print_table(
        _described("model", "tasks", "what it is", "source"),
        ((entry.name, _tasks(entry.tasks), entry.summary, entry.citation) for entry in MODELS),
        PIPED,
    )
    output.print("Others: my_file.py:build for a function or class that returns a torch.nn.Module.")


def workloads() -> None:
    """List the workloads: data set, task, model, split and the model's parameters."""
    from gnncompress.experiments.parameters import PARAMETERS
    from gnncompress.experiments.workloads import WORKLOADS

    print_table(
        (
            *_described("workload", "data set", "task", "model"),
            Column("parameters", rank=1),
            Column("split", text=True, rank=4),
        ),
        (
            (w.name, w.dataset, _tasks([w.task]), w.model, f"{PARAMETERS[w.name]:,}", w.split.kind)
            for w in WORKLOADS.values()
        ),
        PIPED,
    )


def methods() -> None:
    """List the compression methods."""
    from gnncompress.methods import methods as all_methods

    print_table(
        _described("method", "what it does", "source"),
        ((e.name, e.summary, e.citation) for e in all_methods()),
        PIPED,
    )


def _described(*names: str) -> list[Column]:
    """Return columns of text, of which the first always stays and the last is left out first."""
    return [Column(name, text=True, rank=rank) for rank, name in enumerate(names)]


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _tasks(tasks: Iterable[str]) -> str:
    return ", ".join(task.removesuffix("-classification").removesuffix("-prediction") for task in tasks)
