"""Edges as rows of neighbours, sorted once a graph and kept as long as the same tensor of edges is given."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnncompress.errors import ExecutionError
from gnncompress.runtime import kernels
from gnncompress.runtime.reads import ROWS, Kind, Read, Register, every, shown
from gnncompress.runtime.sparse import INDICES, insist_on_rows, is_line

# A sum of so many codes of eight bits, and of their zero points, always fits into 32.
MOST_NEIGHBOURS = (2**31 - 1) // 256
# How often a tensor was changed, its shape, and where its memory is.
Version = tuple[Any, ...]


@dataclass(frozen=True)
class Neighbours(Register):
    """Node i is sent to by sources[starts[i]:starts[i + 1]]; edge ``order[k]`` of the tensor comes k-th.

    Shapes: starts [nodes + 1] int64, sources and order [edges] int32.

    Raises:
        ExecutionError: if a source is no node, or there is not a number for each edge.
    """

    starts: np.ndarray
    sources: np.ndarray
    order: np.ndarray

    KIND = Kind.NEIGHBOURS

    def __post_init__(self) -> None:
        insist_on_rows(self.starts, self.sources, np.size(self.starts) - 1)
        if not is_line(self.order, INDICES) or self.order.shape != self.sources.shape:
            raise ExecutionError(f"{len(self.sources):,} edges must have as many numbers, not {shown(self.order)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The nodes."""
        return (len(self),)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def ones(self) -> np.ndarray:
        """The weights of edges that have none."""
        return np.ones(len(self.sources), np.float32)


def neighbours(edges: Tensor, nodes: int) -> Neighbours:
    """Sort edges [2, E], sources first, by target.

    Raises:
        ExecutionError: if an index is outside [0, nodes), or a node has so many neighbours that a sum of their codes
            may not fit into 32 bits.
    """
    sources, targets = (row.contiguous().numpy() for row in edges.long())
    starts, order = np.empty(nodes + 1, np.int64), np.empty((2, len(sources)), np.int32)
    if not kernels.by_target(targets, sources, nodes, starts, *order):
        raise outside(edges, nodes)
    check_degrees(starts)
    return Neighbours(starts, *order)


def outside(edges: Tensor, nodes: int) -> ExecutionError:
    """Return the error that names a node of ``edges`` outside [0, nodes)."""
    wrong = edges[(edges < 0) | (edges >= nodes)][0].item()
    return ExecutionError(f"edge_index has node {wrong}, but the features have {nodes} rows, 0 to {nodes - 1}")


def edges_of(register: str) -> Read:
    """Return what a tensor of edges must be."""
    return Read(register, "whole numbers", {Kind.WHOLE_TENSOR: (2, "edges")})


def nodes_of(register: str) -> Read:
    """Return that a register must have a row for each node."""
    return Read(register, "features", every(ROWS, "nodes", None))


def check_degrees(starts: np.ndarray, of: str = "node {} has {:,} neighbours") -> None:
    """Insist that no sum of codes can overflow: |code| and |zero point| <= 128, so n of both add up to at most 256 n.

    Raises:
        ExecutionError: naming the node.
    """
    degrees = np.diff(starts)
    if len(degrees) and degrees.max() > MOST_NEIGHBOURS:
        raise ExecutionError(
            f"{of.format(degrees.argmax(), degrees.max())}: sums of more than {MOST_NEIGHBOURS:,} codes "
            "may not fit into 32 bits; run the model simulated"
        )


class Memory:
    """What was worked out from tensors, kept while these are the same and unchanged; the latest few of them.

    A tensor whose values are changed behind torch's back, through ``numpy()`` or ``data``, seems unchanged.
    """

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self._kept: dict[Any, tuple[tuple[Any, ...], Any]] = {}

    def get(self, key: Any, given: tuple[Tensor | None, ...]) -> Any:
        """Return what was kept for ``key`` and these tensors, or None."""
        known = self._kept.get(key)
        if known is None:
            return None
        for (reference, version), tensor in zip(known[0], given, strict=True):
            if tensor is None or reference is None:
                if tensor is not reference:
                    return None
            elif reference() is not tensor or version != version_of(tensor):
                return None
        return known[1]

    def keep(self, key: Any, given: tuple[Tensor | None, ...], value: Any) -> Any:
        """Keep ``value`` and return it; tensors that know no version are not kept."""
        if any(tensor is not None and version_of(tensor) is None for tensor in given):
            return value
        marks = tuple((None, None) if one is None else (weakref.ref(one), version_of(one)) for one in given)
        self._kept.pop(key, None)
        while len(self._kept) >= self.most:
            self._kept.pop(next(iter(tuple(self._kept)), None), None)
        self._kept[key] = marks, value
        return value


def version_of(tensor: Tensor) -> Version | None:
    """Return what changes when a tensor does, or is given other ``data``; None for tensors of inference mode."""
    if tensor.is_inference():
        return None
    if tensor.layout is torch.strided:
        return tensor._version, tensor.shape, tensor.data_ptr()
    if tensor.layout is torch.sparse_csr:
        parts = tensor.crow_indices(), tensor.col_indices(), tensor.values()
        return tensor._version, tensor.shape, *[part.data_ptr() for part in parts]
    return tensor._version, tensor.shape
