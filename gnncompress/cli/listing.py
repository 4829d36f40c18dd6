"""``gnncompress datasets``, ``models`` and ``methods``: what there is, a line each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from gnncompress.cli.console import output


def datasets() -> None:
    """List the data sets with their statistics."""
    from gnncompress.datasets import DATASETS

    _print(
        ("data set", "task", "nodes", "edges", "features", "classes", "what it is"),
        (
            (e.name, e.task, f"{e.nodes:,}", f"{e.edges:,}", f"{e.features:,}", str(e.classes), e.summary)
            for e in DATASETS
        ),
    )


def models() -> None:
    """List the models with their parameter counts on the data sets they have a workload for."""
    from gnncompress.experiments.parameters import parameter_counts
    from gnncompress.models import MODELS

    counts = parameter_counts()
    _print(
        ("model", "parameters", "what it is", "source"),
        (
            (
                e.name,
                ", ".join(f"{count:,} on {on}" for on, count in counts[e.name].items()),
                e.summary,
                e.citation,
            )
            for e in MODELS
        ),
    )


def methods() -> None:
    """List the compression methods."""
    from gnncompress.experiments.methods import METHODS

    _print(("method", "what it does", "source"), ((e.name, e.summary, e.citation) for e in METHODS))


def _print(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    table = Table(header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*line)
    output.print(table)
