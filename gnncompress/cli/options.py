"""The options that commands which run have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gnncompress.errors import UsageError

Workload = Annotated[
    str | None,
    typer.Option("--workload", "-w", help="Data set, task, model and recipe by one name; see 'gnncompress workloads'."),
]
Dataset = Annotated[
    str | None,
    typer.Option("--dataset", "-d", help="Data set; see 'gnncompress datasets'; or my_file.py:load. Default: digits."),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model; see 'gnncompress models'; or my_file.py:build. Default: the task's."),
]
Task = Annotated[
    str | None,
    typer.Option(
        "--task", help="node, link, graph or multilabel. Default: the data set's first that the model can do."
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split", help="random, public, stratified-kfold, scaffold or hgpsl. Default: the workload's or random."
    ),
]
SplitSeed = Annotated[
    int | None,
    typer.Option("--split-seed", min=0, help="One split for all seeds. Default: every seed draws its own."),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features", help="auto (categories one-hot, numbers as they are), raw, one-hot, or standard (z-scores)."
    ),
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="How many seeds to run, each a run of its own.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The first seed, of the model and, unless told, the split.")]
Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Most epochs of training. Default: the workload's.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change the recipe or the model: learning_rate=0.01, weight_decay=0, hidden=32, ...; repeatable."
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads that torch may use.")]
Energy = Annotated[
    str,
    typer.Option(
        "--energy",
        help="auto (counters or unavailable), rapl, pyrapl, codecarbon (else an estimate that says so), none.",
    ),
]
EnergySeconds = Annotated[
    float | None,
    typer.Option("--energy-seconds", help="Seconds of each of three windows that energy is read over. Default: 10."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Windows of 1 s for energy: less exact, and the rows say so.")]
Country = Annotated[
    str, typer.Option("--country", help="Also give carbon dioxide, of this country's electricity: FRA, USA, ...")
]
BatchSize = Annotated[
    int,
    typer.Option("--batch-size", min=0, help="Graphs in a call whose latency is measured. Default: all test graphs."),
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Folder of raw data, only read. Default: GNNCOMPRESS_DATA, then the cache."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the runs.")]


def energy_seconds(asked: float | None, quick: bool) -> float:
    """Return how long a window of energy is.

    Raises:
        UsageError: if both options are given.
    """
    if quick and asked is not None:
        raise UsageError("--quick and --energy-seconds: give one of them")
    return 1.0 if quick else 10.0 if asked is None else asked


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]
