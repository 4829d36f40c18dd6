"""``gnncompress checkpoint inspect``, ``pack`` and ``unpack``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gnncompress.cli import options

app = typer.Typer(no_args_is_help=True, help="Look into packed checkpoints, make them, and restore models from them.")
Force = Annotated[bool, typer.Option("--force", help="Replace OUTPUT if it is there.")]


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A packed checkpoint.")],
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check a packed checkpoint and show each tensor's shape, type, sparsity and bytes."""
    from dataclasses import asdict

    from rich.table import Table

    from gnncompress.checkpoints import inspect_checkpoint
    from gnncompress.cli.console import output

    info = inspect_checkpoint(file)
    if as_json:
        typer.echo(json.dumps(asdict(info)))
        return
    table = Table(header_style="bold", pad_edge=False)
    for column in ("tensor", "type", "shape", "sparsity", "stored", "dense"):
        table.add_column(column, justify="left" if column in ("tensor", "type", "shape") else "right")
    for tensor in info.tensors:
        shape = " x ".join(map(str, tensor.shape)) or "scalar"
        table.add_row(
            tensor.name,
            tensor.dtype,
            shape,
            f"{tensor.sparsity:.4f}",
            f"{tensor.stored:,}",
            f"{tensor.dense:,}",
        )
    output.print(table)
    output.print(
        f"format {info.version}: {info.size:,} bytes for {info.dense:,} of dense tensors, "
        f"ratio {info.dense / info.size:.2f}",
        highlight=False,
    )
    if info.metadata:
        output.print_json(data=info.metadata)


@app.command()
def pack(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A state_dict: torch.save or safetensors.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The packed checkpoint to write.")],
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
    from gnncompress.errors import CheckpointError

    _refuse_to_replace(target, force)
    state = read_state_dict(source)
    size = save_checkpoint(state, target)
    if not same_bits(load_checkpoint(target), state):
        raise CheckpointError(f"{target}: what was read back differs from {source}; please report this")
    dense = dense_size(state)
    typer.echo(f"{target}: {size:,} bytes for {dense:,} of dense tensors, ratio {dense / size:.2f}")


@app.command()
def unpack(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A packed checkpoint.")],
    target: Annotated[
        Path,
        typer.Argument(metavar="OUTPUT", help="The dense state_dict to write: .pt, .pth or .safetensors."),
    ],
    force: Force = False,
    debug: options.Debug = False,
) -> None:
    """Restore the dense state_dict, bit for bit."""
    from gnncompress.checkpoints import load_checkpoint, write_state_dict

    _refuse_to_replace(target, force)
    size = write_state_dict(load_checkpoint(source), target)
    typer.echo(f"{target}: {size:,} bytes")


def _refuse_to_replace(target: Path, force: bool) -> None:
    from gnncompress.errors import UsageError

    if target.exists() and not force:
        raise UsageError(f"{target}: is there already; choose another name or add --force")
