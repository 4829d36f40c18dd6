"""Opening safetensors files and bounding what they unpack to, with every failure as one line that names the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from gnncompress.errors import CheckpointError


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open ``path`` for reading.

    Raises:
        CheckpointError: if the file is missing, unreadable, truncated or no safetensors file.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(safe_open(path, framework="pt"))
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such file") from error
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a safetensors file, or cut short ({error})") from error
        yield file


def check_size(path: Path, size: int, bound: int) -> None:
    """Insist that the tensors of a file take at most ``bound`` bytes.

    Raises:
        CheckpointError: if they say to take more.
    """
    if size > bound:
        raise CheckpointError(
            f"{path}: says to unpack to {size:,} bytes, more than the {bound:,} allowed; if you trust it, allow more "
            "with max_bytes, or --max-bytes"
        )
