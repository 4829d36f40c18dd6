"""``gnncompress checkpoint inspect``, ``verify``, ``diff``, ``pack`` and ``unpack``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from gnncompress.cli import options

app = typer.Typer(no_args_is_help=True, help="Look into packed checkpoints, make them, and restore models from them.")
RUNS = Path("runs")
Force = Annotated[bool, typer.Option("--force", help="Replace OUTPUT if it is there.")]
MaxBytes = Annotated[
    int | None,
    typer.Option(
        "--max-bytes", min=0, help="Refuse files that unpack to more. Default: 256 MiB and 1,024 times the file."
    ),
]


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="A packed checkpoint, a run's folder, or the first digits of its id.")],
    max_bytes: MaxBytes = None,
    runs: options.Runs = RUNS,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check a packed checkpoint and show each tensor's shape, type, sparsity and bytes.

    bits: stored bits a value. limit: stored bytes over those of the entropy limit, 1.00 being as small as a coder of
    independent values can get; below 1 where rows or mantissas say more.
    """
    from dataclasses import asdict

    from gnncompress.checkpoints import inspect_checkpoint
    from gnncompress.cli.console import output
    from gnncompress.cli.tables import print_table
    from gnncompress.reporting.tables import Column

    info = inspect_checkpoint(_model(file, runs), max_bytes)
    if as_json:
        typer.echo(json.dumps(asdict(info)))
        return
    print_table(
        (
            *(Column("tensor", text=True), Column("type", text=True, rank=3), Column("shape", text=True, rank=2)),
            *(Column("sparsity", rank=1), Column("stored"), Column("dense", rank=4)),
            *(Column("bits", rank=6), Column("limit", rank=5)),
        ),
        (
            (
                named(tensor.name),
                tensor.dtype,
                " x ".join(map(str, tensor.shape)) or "scalar",
                f"{tensor.sparsity:.4f}",
                f"{tensor.stored:,}",
                f"{tensor.dense:,}",
                "" if tensor.bits is None else f"{tensor.bits:.2f}",
                f"{tensor.stored / tensor.limit:.2f}" if tensor.limit else "",
            )
            for tensor in info.tensors
        ),
        "--json",
    )
    output.print(
        f"format {info.version}: {info.size:,} bytes for {info.dense:,} of dense tensors, "
        f"ratio {info.dense / info.size:.2f}, {info.size / max(info.limit, 1):.3f} times the entropy limit",
        highlight=False,
    )
    if info.metadata:
        output.print(json.dumps(info.metadata, indent=2))


@app.command()
def verify(
    file: Annotated[str, typer.Argument(help="A packed checkpoint, a run's folder, or the first digits of its id.")],
    max_bytes: MaxBytes = None,
    runs: options.Runs = RUNS,
    debug: options.Debug = False,
) -> None:
    """Read every tensor of a packed checkpoint and check it against its checksum."""
    from gnncompress.checkpoints import inspect_checkpoint
    from gnncompress.cli.console import say

    path = _model(file, runs)
    info = inspect_checkpoint(path, max_bytes)
    say(f"{path}: format {info.version}, {len(info.tensors)} tensors, every checksum is right")


@app.command()
def diff(
    one: Annotated[
        str, typer.Argument(help="A state_dict: packed, safetensors or torch.save; or a run's folder or first digits.")
    ],
    other: Annotated[str, typer.Argument(help="Another.")],
    max_bytes: MaxBytes = None,
    runs: options.Runs = RUNS,
    debug: options.Debug = False,
) -> None:
    """Compare two files tensor by tensor, bit for bit; exit with 1 if they differ."""
    from gnncompress.checkpoints import differences, read_state_dict
    from gnncompress.cli.console import say

    states = [read_state_dict(_model(name, runs), max_bytes) for name in (one, other)]
    found = differences(*states)
    for difference in found:
        say(f"{named(difference.name)}: {difference.what}")
    alike = len(states[0].keys() & states[1].keys() - {difference.name for difference in found})
    say(f"{alike} tensors are the same, {len(found)} differ")
    if found:
        raise typer.Exit(1)


@app.command()
def pack(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A state_dict: torch.save, safetensors or another packed file.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The packed checkpoint to write.")],
    codec: Annotated[
        Literal["auto", "small", "fast"],
        typer.Option("--codec", help="small: smallest files; fast: fastest; auto: small below 64 MB."),
    ] = "auto",
    max_bytes: MaxBytes = None,
    force: Force = False,
    debug: options.Debug = False,
) -> None:
    """Pack a state_dict, lossless."""
    from gnncompress.checkpoints import (
        dense_size,
        load_checkpoint,
        read_state_dict,
        same_bits,
        save_checkpoint,
    )
    from gnncompress.cli.console import say
    from gnncompress.errors import CheckpointError
    from gnncompress.files import replacing

    _refuse_to_replace(source, target, force)
    state = read_state_dict(source, max_bytes)
    try:
        with replacing(target) as temporary:
            try:
                size = save_checkpoint(state, temporary, codec=codec)
            except CheckpointError as error:
                raise CheckpointError(str(error).replace(str(temporary), str(source))) from error
            if not same_bits(load_checkpoint(temporary, max_bytes=dense_size(state)), state):
                raise CheckpointError(f"{target}: what was read back differs from {source}; please report this")
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error.strerror})") from error
    dense = dense_size(state)
    say(f"{target}: {size:,} bytes for {dense:,} of dense tensors, ratio {dense / size:.2f}")


@app.command()
def unpack(
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="A packed checkpoint, a run's folder, or the first digits of its id."),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT", help="The dense state_dict to write: .pt, .pth or .safetensors."),
    ],
    max_bytes: MaxBytes = None,
    force: Force = False,
    runs: options.Runs = RUNS,
    debug: options.Debug = False,
) -> None:
    """Restore the dense state_dict, bit for bit."""
    from gnncompress.checkpoints import load_checkpoint, write_state_dict
    from gnncompress.cli.console import say

    path = _model(source, runs)
    _refuse_to_replace(path, target, force)
    size = write_state_dict(load_checkpoint(path, max_bytes), target)
    say(f"{target}: {size:,} bytes")


def _model(name: str, runs: Path) -> Path:
    """Return the file that a path, or the first digits of an id, stands for."""
    from gnncompress.experiments.finding import find_run, model_file
    from gnncompress.experiments.store import MODEL

    return model_file(find_run(name, runs, MODEL))


def named(name: str) -> str:
    """Return a name read from a file as it may be printed: plain if it is a plain one, else quoted and cut short."""
    from gnncompress.checkpoints.files import shown

    quoted = shown(name)
    return name if quoted == repr(name) and name.isprintable() else quoted


def _refuse_to_replace(source: Path, target: Path, force: bool) -> None:
    from gnncompress.errors import UsageError

    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"{target}: is both INPUT and OUTPUT; choose another OUTPUT")
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; choose another name")
    if target.exists() and not force:
        raise UsageError(f"{target}: is there already; choose another name or add --force")
