"""``gnncompress datasets``, ``models`` and ``methods``: what there is, a line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from gnncompress.cli.console import output


def datasets() -> None:
    """List the data sets with their statistics; any other TUDataset or MoleculeNet set can be named, too."""
    from gnncompress.datasets import DATASETS

    _print(
        ("data set", "task", "graphs", "nodes", "edges", "features", "classes", "what it is"),
        (
            (
                entry.name,
                ", ".join(entry.tasks),
                *(_number(entry.statistics.get(what)) for what in ("graphs", "nodes", "edges", "features", "classes")),
                entry.summary,
            )
            for entry in DATASETS
        ),
    )
    output.print(
        "Others: tu:NAME or moleculenet:NAME of any set of these collections, the name of a raw folder of yours, "
        "or my_file.py:load for a function that returns PyG graphs."
    )


def models() -> None:
    """List the models and their tasks."""
    from gnncompress.models import MODELS

    _print(
        ("model", "tasks", "what it is", "source"),
        ((entry.name, ", ".join(entry.tasks), entry.summary, entry.citation) for entry in MODELS),
    )
    output.print("Others: my_file.py:build for a function or class that returns a torch.nn.Module.")


def workloads() -> None:
    """List the workloads: data set, task, model, split and the model's parameters."""
    from gnncompress.experiments.parameters import parameter_counts
    from gnncompress.experiments.workloads import WORKLOADS

    counts = parameter_counts()
    _print(
        ("workload", "data set", "task", "model", "parameters", "split", "what it is"),
        (
            (w.name, w.dataset, w.task, w.model, f"{counts[w.name]:,}", w.split.kind, w.summary)
            for w in WORKLOADS.values()
        ),
    )


def methods() -> None:
    """List the compression methods."""
    from gnncompress.experiments.methods import METHODS

    _print(("method", "what it does", "source"), ((e.name, e.summary, e.citation) for e in METHODS))


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _print(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    table = Table(header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*line)
    output.print(table)
