"""The packed checkpoint file.

A valid ``.safetensors`` file with one uint8 stream for each tensor, under the tensor's own name, and one metadata
entry, ``gnncompress``: a JSON object of ``version``, ``tensors`` (dtype, shape and CRC-32 by name) and ``user``
(whatever the caller adds). It is one entry because safetensors writes several in no fixed order, and the same
model must give the same bytes. Any safetensors reader can open the file; no pickle is involved.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn
from zstandard import ZstdError

from gnncompress.checkpoints import codec
from gnncompress.checkpoints.dtypes import LAYOUTS, from_words, name_of, to_words, word_count
from gnncompress.checkpoints.files import open_safetensors
from gnncompress.checkpoints.state_dicts import state_dict_of
from gnncompress.errors import CheckpointError
from gnncompress.files import write_bytes

MARK = "gnncompress"
VERSION = 1


class _Header(BaseModel):
    """What the metadata says of one tensor."""

    dtype: str
    shape: list[Annotated[int, Field(ge=0)]]
    crc: int


class _About(BaseModel):
    """The metadata entry."""

    version: int
    tensors: dict[str, _Header]
    user: dict[str, Any]


class _Version(BaseModel):
    """The one field that every version, also a future one, has."""

    version: int


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checkpoint: ``stored`` and ``dense`` are bytes, ``sparsity`` the fraction of +0 words."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sparsity: float
    stored: int
    dense: int


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint: its version, its size in bytes, its tensors and the caller's metadata."""

    version: int
    size: int
    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, Any]

    @property
    def dense(self) -> int:
        """Bytes of all tensors, uncompressed."""
        return sum(tensor.dense for tensor in self.tensors)


def save_checkpoint(
    model: nn.Module | Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, Any] | None = None
) -> int:
    """Pack a model or a state_dict into ``path``, whole or not at all; return the file's size in bytes.

    Masks that ``gnncompress.prune`` put on a model are applied in what is written.

    Raises:
        CheckpointError: naming the entry that cannot be packed, or the file that cannot be written.
    """
    path = Path(path)
    streams: dict[str, Tensor] = {}
    headers: dict[str, Any] = {}
    for name, tensor in state_dict_of(model).items():
        dtype = name_of(tensor)
        if dtype not in LAYOUTS or tensor.layout != torch.strided:
            raise CheckpointError(
                f"{path}: entry {name!r} is a {tensor.layout} tensor of {dtype}, which cannot be packed; "
                "convert it to a dense tensor of a standard dtype"
            )
        words = to_words(tensor)
        stream = codec.encode(words, LAYOUTS[dtype].floating)
        streams[name] = torch.frombuffer(bytearray(stream), dtype=torch.uint8)
        headers[name] = {"dtype": dtype, "shape": list(tensor.shape), "crc": codec.checksum(words)}
    about = {"version": VERSION, "tensors": headers, "user": dict(metadata or {})}
    content = save(streams, {MARK: json.dumps(about, separators=(",", ":"))})
    try:
        write_bytes(path, content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error
    return len(content)


def load_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Unpack a checkpoint into a state_dict, every tensor bit for bit as it was packed.

    Raises:
        CheckpointError: naming the file and what is wrong: missing, truncated, foreign, newer or damaged.
    """
    path = Path(path)
    streams, about = _read(path)
    return {
        name: from_words(_decode(path, name, streams[name], header), header.dtype, header.shape)
        for name, header in about.tensors.items()
    }


def inspect_checkpoint(path: str | Path) -> CheckpointInfo:
    """Read a checkpoint, check it, and say what is in it.

    Raises:
        CheckpointError: as ``load_checkpoint`` does.
    """
    path = Path(path)
    streams, about = _read(path)
    tensors = []
    for name, header in about.tensors.items():
        words = _decode(path, name, streams[name], header)
        tensors.append(
            TensorInfo(
                name=name,
                dtype=header.dtype,
                shape=tuple(header.shape),
                sparsity=1 - np.count_nonzero(words) / words.size if words.size else 0.0,
                stored=len(streams[name]),
                dense=words.nbytes,
            )
        )
    return CheckpointInfo(about.version, path.stat().st_size, tuple(tensors), about.user)


def is_packed(path: Path) -> bool:
    """Say whether ``path`` is a safetensors file with this format's mark."""
    with open_safetensors(path) as file:
        return MARK in (file.metadata() or {})


def _read(path: Path) -> tuple[dict[str, bytes], _About]:
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
        if MARK not in metadata:
            raise CheckpointError(
                f"{path}: not a gnncompress checkpoint; pack it first with 'gnncompress checkpoint pack'"
            )
        try:
            version = _Version.model_validate_json(metadata[MARK]).version
            if version > VERSION:
                raise CheckpointError(
                    f"{path}: written in format {version}, this gnncompress reads up to {VERSION}; upgrade gnncompress"
                )
            about = _About.model_validate_json(metadata[MARK])
            streams = {name: file.get_tensor(name).numpy().tobytes() for name in about.tensors}
        except (ValidationError, SafetensorError) as error:
            raise CheckpointError(f"{path}: damaged: {' '.join(str(error).split())}") from error
    return streams, about


def _decode(path: Path, name: str, stream: bytes, header: _Header) -> np.ndarray:
    if header.dtype not in LAYOUTS:
        raise CheckpointError(f"{path}: tensor {name!r} has the unknown dtype {header.dtype!r}")
    layout = LAYOUTS[header.dtype]
    try:
        words = codec.decode(stream, word_count(header.dtype, header.shape), layout.dtype, layout.floating)
    except (ValueError, ZstdError, MemoryError, OverflowError, struct.error) as error:
        raise CheckpointError(f"{path}: tensor {name!r} is damaged ({error})") from error
    if codec.checksum(words) != header.crc:
        raise CheckpointError(f"{path}: tensor {name!r} is damaged (its checksum differs)")
    return words
