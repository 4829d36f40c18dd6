"""The packed checkpoint file, format 2.

A valid ``.safetensors`` file with two uint8 tensors, ``streams``: one stream after the other, as ``streams`` writes
them, and ``index``: the CRC-32 of what follows, then a Zstandard frame with a JSON object of ``tensors`` (name, dtype,
shape, length of the stream and CRC-32, in the order of the streams) and ``user`` (whatever the caller adds). The
metadata entry ``gnncompress`` holds the format's version. Any safetensors reader can open the file; no pickle is
involved. The header has a fixed length and exactly one spelling, so that a damaged one is noticed.

A tensor's CRC-32 is taken over its stream and then over its words as read: it finds damage and a wrong decoder alike.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
import zstandard
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from gnncompress.checkpoints import streams
from gnncompress.checkpoints.dtypes import LAYOUTS, byte_count, from_words, name_of, to_words, word_shape
from gnncompress.checkpoints.files import check_size, open_safetensors
from gnncompress.checkpoints.legacy import read_version_1
from gnncompress.checkpoints.state_dicts import dense_size, state_dict_of
from gnncompress.errors import CheckpointError
from gnncompress.files import replacing

MARK = "gnncompress"
VERSION = 2
# Up to this size a model is packed with the codec ``small`` unless the caller says otherwise.
SMALL_BYTES = 64 << 20

_HEADER = 216
_LEVEL = 19
# No tensor has more values; sizes beyond overflow in torch even where another size is 0.
_LARGEST = 1 << 48


def allowed_bytes(size: int) -> int:
    """Return how many bytes of tensors a file of ``size`` bytes may unpack to: 256 MiB, and 1,024 for each byte."""
    return (256 << 20) + 1024 * size


class Entry(BaseModel):
    """What the index says of one tensor; ``length`` is that of its stream, in bytes."""

    name: str
    dtype: str
    shape: list[Annotated[int, Field(ge=0)]]
    length: Annotated[int, Field(ge=0)]
    crc: int

    def bytes(self) -> int:
        """Bytes of the tensor, unpacked."""
        return byte_count(self.dtype, self.shape)


class _Index(BaseModel):
    tensors: list[tuple[str, str, list[Annotated[int, Field(ge=0)]], Annotated[int, Field(ge=0)], int]]
    user: dict[str, Any]


class _Version(BaseModel):
    """The one field that every version, also a future one, has."""

    version: int


@dataclass(frozen=True)
class Packed:
    """An opened checkpoint: version, size in bytes, the caller's metadata, and each tensor's entry and words."""

    version: int
    size: int
    user: dict[str, Any]
    tensors: Iterator[tuple[Entry, np.ndarray]]


def save_checkpoint(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    metadata: Mapping[str, Any] | None = None,
    codec: streams.Codec | Literal["auto"] = "auto",
) -> int:
    """Pack a model or a state_dict into ``path``, whole or not at all; return the file's size in bytes.

    Masks that ``gnncompress.prune`` put on a model are applied in what is written. ``codec`` small makes the smallest
    files, fast the fastest; auto is small for less than 64 MB of tensors. ``metadata`` must be JSON.

    Raises:
        CheckpointError: naming the entry that cannot be packed, or the file that cannot be written.
    """
    path = Path(path)
    state = state_dict_of(model)
    for name, tensor in state.items():
        if name_of(tensor) not in LAYOUTS or not tensor.layout == _DENSE:
            raise CheckpointError(
                f"{path}: entry {name!r} is a {tensor.layout} tensor of {name_of(tensor)}, which cannot be packed; "
                "convert it to a dense tensor of a standard dtype"
            )
    if codec == "auto":
        codec = "small" if dense_size(state) < SMALL_BYTES else "fast"
    try:
        user = json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the metadata is not JSON ({error})") from error
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            return _write(file, state, user, codec)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error


def load_checkpoint(path: str | Path, max_bytes: int | None = None) -> dict[str, Tensor]:
    """Unpack a checkpoint into a state_dict, every tensor bit for bit as it was packed.

    A file that says to unpack to more than ``max_bytes`` is refused; by default to more than 256 MiB and 1,024 times
    its own size.

    Raises:
        CheckpointError: naming the file and what is wrong: missing, truncated, foreign, newer, damaged or too large.
    """
    return read_checkpoint(path, max_bytes)[0]


def read_checkpoint(path: str | Path, max_bytes: int | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state_dict of a checkpoint and the caller's metadata.

    Raises:
        CheckpointError: as ``load_checkpoint`` does.
    """
    packed = open_checkpoint(Path(path), max_bytes)
    return {entry.name: from_words(words, entry.dtype, entry.shape) for entry, words in packed.tensors}, packed.user


def open_checkpoint(path: Path, max_bytes: int | None = None) -> Packed:
    """Read a checkpoint's index and, as its ``tensors`` are drawn, its tensors one after the other.

    Raises:
        CheckpointError: as ``load_checkpoint`` does; what is wrong with a tensor when it is drawn.
    """
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
        if MARK not in metadata:
            raise CheckpointError(
                f"{path}: not a gnncompress checkpoint; pack it first with 'gnncompress checkpoint pack'"
            )
        try:
            version = _Version.model_validate_json(metadata[MARK]).version
        except ValidationError as error:
            raise CheckpointError(f"{path}: damaged: its version cannot be read") from error
        if version > VERSION:
            raise CheckpointError(
                f"{path}: written in format {version}, this gnncompress reads up to {VERSION}; upgrade gnncompress"
            )
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    size = path.stat().st_size
    bound = allowed_bytes(size) if max_bytes is None else max_bytes
    if version == 1:
        user, tensors = read_version_1(path, bound)
        return Packed(1, size, user, ((Entry(**entry), words) for entry, words in tensors))
    sizes = [shapes.get(name, [-1])[0] for name in ("streams", "index")]
    with path.open("rb") as content:
        if len(shapes) != 2 or content.read(8 + _HEADER) != _header(*sizes):
            raise CheckpointError(f"{path}: damaged: its header is not as it was written")
        content.seek(sizes[0], 1)
        index = _read_index(path, content.read())
    entries = [Entry(name=n, dtype=d, shape=s, length=length, crc=c) for n, d, s, length, c in index.tensors]
    _check_entries(path, entries, sizes[0], bound)
    return Packed(version, size, index.user, _tensors(path, entries))


def is_packed(path: Path) -> bool:
    """Say whether ``path`` is a safetensors file with this format's mark."""
    with open_safetensors(path) as file:
        return MARK in (file.metadata() or {})


_DENSE = Tensor().layout


def _write(file: BinaryIO, state: Mapping[str, Tensor], user: Mapping[str, Any], codec: streams.Codec) -> int:
    file.write(bytes(8 + _HEADER))
    entries, length = [], 0
    for name, tensor in state.items():
        dtype, shape, words = name_of(tensor), list(tensor.shape), to_words(tensor)
        stream = streams.encode(words, word_shape(dtype, shape), LAYOUTS[dtype], codec)
        file.write(stream)
        length += len(stream)
        entries.append((name, dtype, shape, len(stream), _crc(stream, words)))
    text = json.dumps({"tensors": entries, "user": user}, separators=(",", ":")).encode()
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(text)
    index = struct.pack("<I", zlib.crc32(frame)) + frame
    file.write(index)
    file.seek(0)
    file.write(_header(length, len(index)))
    return 8 + _HEADER + length + len(index)


def _header(length: int, index: int) -> bytes:
    """Return the head of the file: the header's own length, then the header, filled up with spaces."""
    text = json.dumps(
        {
            "__metadata__": {MARK: json.dumps({"version": VERSION})},
            "streams": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]},
            "index": {"dtype": "U8", "shape": [index], "data_offsets": [length, length + index]},
        },
        separators=(",", ":"),
    )
    return struct.pack("<Q", _HEADER) + text.encode().ljust(_HEADER)


def _crc(stream: bytes, words: np.ndarray) -> int:
    return zlib.crc32(words.data.cast("B") if words.size else b"", zlib.crc32(stream))


def _read_index(path: Path, content: bytes) -> _Index:
    try:
        frame = content[4:]
        if len(content) < 4 or zlib.crc32(frame) != struct.unpack_from("<I", content)[0]:
            raise ValueError("its checksum differs")
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= allowed_bytes(len(frame)):
            raise ValueError(f"it says to hold {size:,} bytes")
        text = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
        return TypeAdapter(_Index).validate_json(text)
    except (ValueError, zstandard.ZstdError) as error:
        raise CheckpointError(f"{path}: the index is damaged ({_first_line(error)})") from error


def _check_entries(path: Path, entries: list[Entry], length: int, bound: int) -> None:
    names = [entry.name for entry in entries]
    for entry in entries:
        if entry.dtype not in LAYOUTS:
            raise CheckpointError(f"{path}: tensor {entry.name!r} has the unknown dtype {entry.dtype!r}")
        if math.prod(max(size, 1) for size in entry.shape) > _LARGEST:
            raise CheckpointError(f"{path}: tensor {entry.name!r} has the impossible shape {entry.shape}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError(f"{path}: damaged: there are two tensors {twice!r}")
    if sum(entry.length for entry in entries) != length:
        raise CheckpointError(f"{path}: damaged: the streams do not have the length that the index says")
    check_size(path, sum(entry.bytes() for entry in entries), bound)


def _tensors(path: Path, entries: list[Entry]) -> Iterator[tuple[Entry, np.ndarray]]:
    with path.open("rb") as file:
        file.seek(8 + _HEADER)
        for entry in entries:
            stream = file.read(entry.length)
            try:
                words = streams.decode(stream, word_shape(entry.dtype, entry.shape), LAYOUTS[entry.dtype])
            except (ValueError, zstandard.ZstdError, OverflowError, MemoryError) as error:
                raise CheckpointError(f"{path}: tensor {entry.name!r} is damaged ({_first_line(error)})") from error
            if _crc(stream, words) != entry.crc:
                raise CheckpointError(f"{path}: tensor {entry.name!r} is damaged (its checksum differs)")
            yield entry, words


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
