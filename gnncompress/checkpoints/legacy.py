"""Reading format 1, which nothing writes any more.

One safetensors tensor a stream, under the tensor's own name; the metadata entry holds version, ``tensors`` (dtype,
shape and the CRC-32 of the words, by name) and ``user``. A stream is a sequence of segments: the mask, one bit a word,
then one segment for each byte of the words that are not zero, the most significant first; floating words are rotated
left by one bit. A segment is raw, one repeated byte, or a Zstandard frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import zstandard
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError

from gnncompress.checkpoints.dtypes import LAYOUTS, byte_count, rotated
from gnncompress.checkpoints.files import check_declared, check_size, one_line, open_safetensors, shown
from gnncompress.errors import CheckpointError

_SEGMENT = struct.Struct("<BQ")
_RAW, _CONSTANT, _ZSTD = 0, 1, 2


class _Header(BaseModel):
    dtype: str
    shape: list[Annotated[int, Field(ge=0)]]
    crc: int


class _About(BaseModel):
    tensors: dict[str, _Header]
    user: dict[str, Any]


@dataclass(frozen=True)
class Version1:
    """A file of format 1: the caller's metadata, each tensor's name, dtype and shape, its words, its stream's bytes."""

    user: dict[str, Any]
    tensors: list[tuple[str, str, list[int]]]
    words: Iterator[np.ndarray]
    lengths: list[int]


def read_version_1(path: Path, bound: int) -> Version1:
    """Open a file of format 1; the words are read as they are drawn.

    Raises:
        CheckpointError: if the file is damaged or says to unpack to more than ``bound`` bytes.
    """
    with open_safetensors(path) as file:
        try:
            about = _About.model_validate_json(file.metadata()["gnncompress"])
            if any(file.get_slice(name).get_dtype() != "U8" for name in about.tensors):
                raise CheckpointError(f"{path}: damaged: a stream must hold bytes")
            streams = {name: file.get_tensor(name).numpy().tobytes() for name in about.tensors}
        except (ValidationError, SafetensorError) as error:
            raise CheckpointError(f"{path}: damaged: {one_line(error)}") from error
    for name, header in about.tensors.items():
        check_declared(path, name, header.dtype, header.shape)
    check_size(path, sum(byte_count(header.dtype, header.shape) for header in about.tensors.values()), bound)
    return Version1(
        user=about.user,
        tensors=[(name, header.dtype, header.shape) for name, header in about.tensors.items()],
        words=_words(path, streams, about),
        lengths=[len(stream) for stream in streams.values()],
    )


def _words(path: Path, streams: dict[str, bytes], about: _About) -> Iterator[np.ndarray]:
    for name, header in about.tensors.items():
        layout = LAYOUTS[header.dtype]
        count = byte_count(header.dtype, header.shape) // layout.word
        try:
            words = decode(streams[name], count, layout.dtype, layout.kind == "float")
        except (ValueError, zstandard.ZstdError, MemoryError, OverflowError, struct.error) as error:
            raise CheckpointError(f"{path}: tensor {shown(name)} is damaged ({one_line(error)})") from error
        if zlib.crc32(words.tobytes()) != header.crc:
            raise CheckpointError(f"{path}: tensor {shown(name)} is damaged (its checksum differs)")
        yield words


def decode(stream: bytes, count: int, dtype: np.dtype, rotate: bool) -> np.ndarray:
    """Decode the stream of ``count`` words.

    Raises:
        ValueError: if the stream is not one of ``count`` words of that dtype.
    """
    mask, position = _unpack(stream, 0, (count + 7) // 8)
    nonzero = np.unpackbits(np.frombuffer(mask, np.uint8), count=count).astype(bool)
    kept = int(np.count_nonzero(nonzero))
    planes = np.empty((kept, dtype.itemsize), np.uint8)
    for byte in reversed(range(dtype.itemsize)):
        plane, position = _unpack(stream, position, kept)
        planes[:, byte] = np.frombuffer(plane, np.uint8)
    if position != len(stream):
        raise ValueError(f"{len(stream) - position} bytes too many")
    values = planes.reshape(-1).view(dtype)
    words = np.zeros(count, dtype)
    words[nonzero] = rotated(values, -1) if rotate else values
    return words


def _unpack(stream: bytes, position: int, size: int) -> tuple[bytes, int]:
    """Return the content of the segment at ``position``, which must have ``size`` bytes, and where it ends."""
    if position + _SEGMENT.size > len(stream):
        raise ValueError("a segment is missing")
    kind, length = _SEGMENT.unpack_from(stream, position)
    start = position + _SEGMENT.size
    end = start + length
    if end > len(stream):
        raise ValueError("a segment is cut short")
    body = stream[start:end]
    if kind == _CONSTANT and length == 1:
        return body * size, end
    if kind == _RAW and length == size:
        return body, end
    if kind == _ZSTD and zstandard.frame_content_size(body) == size:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size), end
    raise ValueError(f"a segment of kind {kind} and {length} bytes does not hold the {size} bytes expected")
