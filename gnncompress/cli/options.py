"""The options that commands which run have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Dataset = Annotated[str, typer.Option("--dataset", "-d", help="Data set; see 'gnncompress datasets'.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model; see 'gnncompress models'. Default: the data set's own."),
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="How many seeds to run, each a run of its own.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The first seed.")]
Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Most epochs of training. Default: the workload's.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads that torch may use.")]
Energy = Annotated[
    str,
    typer.Option(
        "--energy",
        help="auto (measured or unavailable), pyrapl, codecarbon (counters, else an estimate that says so), none.",
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Folder of raw data, only read. Default: GNNCOMPRESS_DATA, then the cache."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]
