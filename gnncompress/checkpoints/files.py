"""Opening safetensors files and bounding what they unpack to, with every failure as one line that names the file."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from gnncompress.checkpoints.dtypes import LAYOUTS
from gnncompress.errors import CheckpointError
from gnncompress.files import open_plain, why

# No tensor has more values; larger sizes overflow in torch even where another size is 0.
_LARGEST = 1 << 48
_DIMENSIONS = 256
_SHOWN = 100


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """Open ``path`` for reading.

    Raises:
        CheckpointError: if the file is missing, unreadable, truncated or no safetensors file.
    """
    insist_on_file(path)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(safe_open(path, framework="pt"))
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({why(error)})") from error
        except SafetensorError as error:
            if is_torch_file(path):
                raise CheckpointError(
                    f"{path}: a torch.save file; pack it first with 'gnncompress checkpoint pack'"
                ) from error
            raise CheckpointError(f"{path}: not a safetensors file, or cut short ({error})") from error
        yield file


def insist_on_file(path: Path) -> None:
    """Insist that ``path`` is a file that may be read; the reader of safetensors would wait for a pipe.

    Raises:
        CheckpointError: if it is not.
    """
    try:
        open_plain(path).close()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({why(error)})") from error


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


def check_declared(path: Path, name: str, dtype: str, shape: Sequence[int]) -> None:
    """Insist that there can be a tensor of this dtype and shape.

    Raises:
        CheckpointError: naming it, if there cannot.
    """
    if dtype not in LAYOUTS:
        raise CheckpointError(f"{path}: tensor {shown(name)} has the unknown dtype {shown(dtype)}")
    if len(shape) > _DIMENSIONS or math.prod(max(size, 1) for size in shape) > _LARGEST:
        raise CheckpointError(f"{path}: tensor {shown(name)} has the impossible shape {shown(list(shape))}")


def shown(text: object) -> str:
    """Return a name read from a file as it may be printed: quoted, without control characters, and not too long."""
    quoted = repr(text)
    return quoted if len(quoted) <= _SHOWN else f"{quoted[:_SHOWN]}..."


def one_line(error: object) -> str:
    """Return an error's text, or any other, in one line that is not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 2 * _SHOWN else f"{text[: 2 * _SHOWN]}..."


def is_torch_file(path: Path) -> bool:
    """Tell torch.save's zip archives and bare pickles from safetensors by content, not by name.

    A safetensors file has the opening brace of its header at byte 8; an archive starts with PK, a pickle with 0x80.
    """
    with path.open("rb") as file:
        head = file.read(9)
    return head[:4] == b"PK\x03\x04" or (head[:1] == b"\x80" and head[8:9] != b"{")
