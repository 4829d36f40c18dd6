"""The head and the index of a packed checkpoint: how they are spelt, and what is not believed of them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import zstandard
from pydantic import BaseModel, Field, ValidationError

from gnncompress.checkpoints.dtypes import byte_count
from gnncompress.checkpoints.files import check_declared, check_size, one_line, shown
from gnncompress.errors import CheckpointError

MARK = "gnncompress"
VERSION = 2
# Bytes of the safetensors header, filled up with spaces.
HEADER = 216
_LEVEL = 19


def allowed_bytes(size: int) -> int:
    """Return how many bytes of tensors a file of ``size`` bytes may unpack to: 256 MiB, and 1,024 for each byte."""
    return (256 << 20) + 1024 * size


def _allowed_index(size: int) -> int:
    """Return the bytes of JSON that an index of ``size`` bytes may hold: 64 KiB and 64 a byte, 16 MiB at most."""
    return min((64 << 10) + 64 * size, 16 << 20)


class Entry(BaseModel):
    """What the index says of one tensor."""

    name: str
    dtype: str
    shape: list[Annotated[int, Field(ge=0)]]

    def bytes(self) -> int:
        """Bytes of the tensor, unpacked."""
        return byte_count(self.dtype, self.shape)


class Index(BaseModel):
    """Tensors: name, dtype, shape, number of the stream; streams: length in bytes, CRC-32; the caller's metadata."""

    tensors: list[tuple[str, str, list[Annotated[int, Field(ge=0)]], Annotated[int, Field(ge=0)]]]
    streams: list[tuple[Annotated[int, Field(ge=0)], int]]
    user: dict[str, Any]


def header(length: int, index: int) -> bytes:
    """Return the head of the file: the header's own length, then the header, filled up with spaces."""
    text = json.dumps(
        {
            "__metadata__": {MARK: json.dumps({"version": VERSION})},
            "streams": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]},
            "index": {"dtype": "U8", "shape": [index], "data_offsets": [length, length + index]},
        },
        separators=(",", ":"),
    )
    return struct.pack("<Q", HEADER) + text.encode().ljust(HEADER)


def write_index(
    tensors: Sequence[tuple[str, str, list[int], int]], streams: Sequence[tuple[int, int]], user: Mapping[str, Any]
) -> bytes:
    """Return the index as bytes that ``read_index`` takes.

    Raises:
        ValueError: in one line, if a reader would not take them; TypeError if the user's part is not JSON.
    """
    content = {"tensors": tensors, "streams": streams, "user": user}
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(text)
    if len(text) > _allowed_index(len(frame)):
        raise ValueError(f"they take {len(text):,} bytes, more than a reader accepts")
    _parsed(text)
    return struct.pack("<I", zlib.crc32(frame)) + frame


def read_index(path: Path, content: bytes) -> Index:
    """Read an index.

    Raises:
        CheckpointError: naming the file, if it is damaged or says to hold more than ``_allowed_index``.
    """
    try:
        frame = content[4:]
        if len(content) < 4 or zlib.crc32(frame) != struct.unpack_from("<I", content)[0]:
            raise ValueError("its checksum differs")
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= _allowed_index(len(frame)):
            raise ValueError(f"it says to hold {size:,} bytes")
        return _parsed(zstandard.ZstdDecompressor().decompress(frame, max_output_size=size))
    except (ValueError, zstandard.ZstdError) as error:
        raise CheckpointError(f"{path}: the index is damaged ({one_line(error)})") from error


def _parsed(text: bytes) -> Index:
    """Read the index's JSON.

    Raises:
        ValueError: in one line, if it is not as it must be.
    """
    try:
        return Index.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:2])) or "it"
        raise ValueError(f"{place}: {first['msg']}") from error


def check_index(path: Path, index: Index, length: int, bound: int) -> None:
    """Insist that what an index says of tensors and streams can be, with streams of ``length`` bytes in all.

    Raises:
        CheckpointError: naming the file and the tensor, if it cannot, or they take more than ``bound`` bytes unpacked.
    """
    seen: set[str] = set()
    total = 0
    for name, dtype, shape, stream in index.tensors:
        check_declared(path, name, dtype, shape)
        if stream >= len(index.streams):
            raise CheckpointError(f"{path}: damaged: there is no stream for tensor {shown(name)}")
        if name in seen:
            raise CheckpointError(f"{path}: damaged: there are two tensors {shown(name)}")
        seen.add(name)
        total += byte_count(dtype, shape)
    if sum(size for size, _ in index.streams) != length:
        raise CheckpointError(f"{path}: damaged: the streams do not have the length that the index says")
    check_size(path, total, bound)
