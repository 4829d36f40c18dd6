"""Looking into packed checkpoints: what each tensor takes, and how near that is to the limit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnncompress.checkpoints.container import open_checkpoint
from gnncompress.checkpoints.dtypes import LAYOUTS
from gnncompress.checkpoints.index import Entry
from gnncompress.checkpoints.limits import entropy_limit


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a checkpoint.

    ``stored`` and ``dense`` are bytes, ``limit`` those of the entropy limit, ``sparsity`` is the fraction of +0 words.
    Short vectors that share a stream have their shares of it as ``stored``.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    sparsity: float
    stored: int
    dense: int
    limit: float

    @property
    def bits(self) -> float | None:
        """Stored bits a value, None for a tensor without any."""
        values = int(np.prod(self.shape, dtype=object))
        return 8 * self.stored / values if values else None


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

    @property
    def limit(self) -> float:
        """Bytes of the entropy limits of all tensors."""
        return sum(tensor.limit for tensor in self.tensors)


def inspect_checkpoint(path: str | Path, max_bytes: int | None = None) -> CheckpointInfo:
    """Read a checkpoint, check every tensor of it, and say what is in it.

    Raises:
        CheckpointError: as ``load_checkpoint`` does.
    """
    packed = open_checkpoint(Path(path), max_bytes)
    tensors = {entry.name: _info(entry, words, stored) for entry, words, stored in packed.tensors}
    return CheckpointInfo(packed.version, packed.size, tuple(tensors[name] for name in packed.names), packed.user)


def _info(entry: Entry, words: np.ndarray, stored: int) -> TensorInfo:
    return TensorInfo(
        name=entry.name,
        dtype=entry.dtype,
        shape=tuple(entry.shape),
        sparsity=1 - np.count_nonzero(words) / words.size if words.size else 0.0,
        stored=stored,
        dense=words.nbytes,
        limit=entropy_limit(words, LAYOUTS[entry.dtype]),
    )
