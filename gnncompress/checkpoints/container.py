"""The packed checkpoint file, format 2.

A valid ``.safetensors`` file with two uint8 tensors, ``streams``: one stream after the other, as ``streams`` writes
them, and ``index``: the CRC-32 of what follows, then a Zstandard frame with a JSON object of ``tensors`` (name, dtype,
shape, number of the stream), ``streams`` (length, CRC-32) and ``user`` (whatever the caller adds). The metadata entry
``gnncompress`` holds the format's version. Any safetensors reader can open the file; no pickle is involved. The header
has a fixed length and exactly one spelling, so that a damaged one is noticed.

Most tensors have a stream of their own. Short vectors with the same last part of their names, such as all biases, are
packed as one: they share a table of frequencies and a checksum, which would outweigh them. The CRC-32 is taken over
the stream and then over its words as read: it finds damage and a wrong decoder alike.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import zstandard
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from gnncompress.checkpoints import streams
from gnncompress.checkpoints.dtypes import (
    LAYOUTS,
    from_words,
    name_of,
    to_words,
    why_not_packed,
    word_shape,
)
from gnncompress.checkpoints.files import one_line, open_safetensors, shown
from gnncompress.checkpoints.index import (
    HEADER,
    MARK,
    VERSION,
    Entry,
    Index,
    allowed_bytes,
    check_index,
    header,
    read_index,
    write_index,
)
from gnncompress.checkpoints.legacy import read_version_1
from gnncompress.checkpoints.state_dicts import dense_size, state_dict_of
from gnncompress.errors import CheckpointError, UsageError
from gnncompress.files import replacing
from gnncompress.registry import unknown

# Up to this size a model is packed with the codec ``small`` unless the caller says otherwise.
SMALL_BYTES = 64 << 20

# Vectors of fewer values share streams.
_SHORT = 4096


class _Version(BaseModel):
    """The one field that every version, also a future one, has."""

    version: int


@dataclass(frozen=True)
class Packed:
    """An opened checkpoint: version, size in bytes, the caller's metadata, the names in order, and the tensors.

    Each of ``tensors`` is an entry, its words, and the bytes that they take in the file. Those of short vectors that
    share a stream are their shares of it.
    """

    version: int
    size: int
    user: dict[str, Any]
    names: tuple[str, ...]
    tensors: Iterator[tuple[Entry, np.ndarray, int]]


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
        UsageError: for another codec.
    """
    path = Path(path)
    if codec not in ("auto", *get_args(streams.Codec)):
        raise UsageError(unknown("codec", codec, ("auto", *get_args(streams.Codec))))
    state = state_dict_of(model)
    for name, tensor in state.items():
        why = why_not_packed(tensor)
        if why:
            raise CheckpointError(
                f"{path}: entry {shown(name)} {why}; convert it to a dense tensor of a standard dtype"
            )
    if codec == "auto":
        codec = "small" if dense_size(state) < SMALL_BYTES else "fast"
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            return _write(file, state, dict(metadata or {}), codec)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: names and metadata cannot be written ({one_line(error)})") from error


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
    state = {entry.name: from_words(words, entry.dtype, entry.shape) for entry, words, _ in packed.tensors}
    return {name: state[name] for name in packed.names}, packed.user


def open_checkpoint(path: Path, max_bytes: int | None = None) -> Packed:
    """Read a checkpoint's index and, as its ``tensors`` are drawn, its tensors one after the other.

    Raises:
        CheckpointError: as ``load_checkpoint`` does; what is wrong with a tensor when it is drawn.
    """
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
        if MARK not in metadata:
            if sorted(file.keys()) == ["index", "streams"]:
                raise CheckpointError(f"{path}: damaged: its header is not as it was written")
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
        old = read_version_1(path, bound)
        entries = (Entry(name=n, dtype=d, shape=s) for n, d, s in old.tensors)
        return Packed(
            1, size, old.user, tuple(n for n, _, _ in old.tensors), zip(entries, old.words, old.lengths, strict=True)
        )
    sizes = [shapes.get(name, []) for name in ("streams", "index")]
    if len(shapes) != 2 or [len(shape) for shape in sizes] != [1, 1]:
        raise CheckpointError(f"{path}: damaged: it must hold the tensors streams and index")
    (length,), (rest,) = sizes
    with path.open("rb") as content:
        if content.read(8 + HEADER) != header(length, rest):
            raise CheckpointError(f"{path}: damaged: its header is not as it was written")
        content.seek(length, 1)
        index = read_index(path, content.read())
    check_index(path, index, length, bound)
    return Packed(version, size, index.user, tuple(name for name, *_ in index.tensors), _tensors(path, index))


def is_packed(path: Path) -> bool:
    """Say whether ``path`` is a safetensors file with this format's mark."""
    with open_safetensors(path) as file:
        return MARK in (file.metadata() or {})


def _write(file: BinaryIO, state: Mapping[str, Tensor], user: Mapping[str, Any], codec: streams.Codec) -> int:
    file.write(bytes(8 + HEADER))
    bundles = _bundles(state)
    lengths = []
    for names in bundles:
        dtype = name_of(state[names[0]])
        rows = [to_words(state[name]) for name in names]
        words = np.concatenate(rows) if len(rows) > 1 else rows[0]
        shape = word_shape(dtype, state[names[0]].shape) if len(names) == 1 else (len(words),)
        stream = streams.encode(words, shape, LAYOUTS[dtype], codec)
        file.write(stream)
        lengths.append((len(stream), _crc(stream, words)))
    length = sum(size for size, _ in lengths)
    place = {name: number for number, names in enumerate(bundles) for name in names}
    entries = [(name, name_of(tensor), list(tensor.shape), place[name]) for name, tensor in state.items()]
    index = write_index(entries, lengths, user)
    file.write(index)
    file.seek(0)
    file.write(header(length, len(index)))
    return 8 + HEADER + length + len(index)


def _crc(stream: bytes, words: np.ndarray) -> int:
    return zlib.crc32(words.data.cast("B") if words.size else b"", zlib.crc32(stream))


def _bundles(state: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the names of the tensors that share a stream, in the order of their first."""
    bundles: dict[tuple[str, ...], list[str]] = {}
    for name, tensor in state.items():
        short = tensor.dim() < 2 and tensor.numel() < _SHORT
        key = (name_of(tensor), name.rpartition(".")[2]) if short else (name,)
        bundles.setdefault(key, []).append(name)
    return list(bundles.values())


def _tensors(path: Path, index: Index) -> Iterator[tuple[Entry, np.ndarray, int]]:
    sharing: list[list[Entry]] = [[] for _ in index.streams]
    for name, dtype, shape, number in index.tensors:
        sharing[number].append(Entry(name=name, dtype=dtype, shape=shape))
    with path.open("rb") as file:
        file.seek(8 + HEADER)
        for entries, (length, crc) in zip(sharing, index.streams, strict=True):
            named = ", ".join(shown(entry.name) for entry in entries[:3]) + (", ..." if len(entries) > 3 else "")
            stream = file.read(length)
            try:
                words = _decode(stream, entries)
            except (ValueError, zstandard.ZstdError, OverflowError, MemoryError) as error:
                raise CheckpointError(f"{path}: tensor {named} is damaged ({one_line(error)})") from error
            if _crc(stream, words) != crc:
                raise CheckpointError(f"{path}: tensor {named} is damaged (its checksum differs)")
            done, ends = 0, np.cumsum([entry.bytes() for entry in entries])
            for entry, end in zip(entries, ends.tolist(), strict=True):
                share = length * end // max(int(ends[-1]), 1) - length * done // max(int(ends[-1]), 1)
                width = words.dtype.itemsize
                yield entry, words[done // width : end // width], length if len(entries) == 1 else share
                done = end


def _decode(stream: bytes, entries: Sequence[Entry]) -> np.ndarray:
    """Return the words of all tensors that share a stream."""
    if len({entry.dtype for entry in entries}) != 1:
        raise ValueError("a stream holds tensors of one dtype")
    dtype = entries[0].dtype
    shape = word_shape(dtype, entries[0].shape)
    if len(entries) > 1:
        shape = (sum(entry.bytes() for entry in entries) // LAYOUTS[dtype].word,)
    return streams.decode(stream, shape, LAYOUTS[dtype])
