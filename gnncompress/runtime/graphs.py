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

# A sum of so many codes of eight bits, and of their zero points, always fits into 32.
MOST_NEIGHBOURS = (2**31 - 1) // 256


@dataclass(frozen=True)
class Neighbours:
    """Node i is sent to by sources[starts[i]:starts[i + 1]]; edge ``order[k]`` of the tensor comes k-th.

    Shapes: starts [nodes + 1] int64, sources and order [edges] int32.
    """

    starts: np.ndarray
    sources: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def ones(self) -> np.ndarray:
        """The weights of edges that have none."""
        return np.ones(len(self.sources), np.float32)


def neighbours(edges: Tensor, nodes: int) -> Neighbours:
    """Sort edges [2, E], sources first, by target.

    Raises:
        ExecutionError: if they are no such tensor, an index is outside [0, nodes), or a node has so many neighbours
            that a sum of their codes may not fit into 32 bits.
    """
    insist_on_edges(edges)
    sources, targets = (row.contiguous().numpy() for row in edges.long())
    made = Neighbours(np.empty(nodes + 1, np.int64), np.empty(len(sources), np.int32), np.empty(len(sources), np.int32))
    if not kernels.by_target(targets, sources, nodes, made.starts, made.sources, made.order):
        raise outside(edges, nodes)
    check_degrees(made.starts)
    return made


def outside(edges: Tensor, nodes: int) -> ExecutionError:
    """Return the error that names a node of ``edges`` outside [0, nodes)."""
    wrong = edges[(edges < 0) | (edges >= nodes)][0].item()
    return ExecutionError(f"edge_index has node {wrong}, but the features have {nodes} rows, 0 to {nodes - 1}")


def insist_on_edges(edges: object) -> None:
    """Insist on whole numbers [2, E].

    Raises:
        ExecutionError: if they are anything else.
    """
    if not isinstance(edges, Tensor):
        raise ExecutionError(f"edge_index must be whole numbers [2, edges], not a {type(edges).__name__}")
    if edges.layout != torch.strided or edges.dim() != 2 or len(edges) != 2 or edges.is_floating_point():
        raise ExecutionError(f"edge_index must be whole numbers [2, edges], not {edges.dtype} {list(edges.shape)}")


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


def insist_on_rows(name: str, edges: Neighbours, rows: int) -> None:
    """Insist on a row of features for each node that the edges know.

    Raises:
        ExecutionError: naming the register that was to be made.
    """
    if len(edges) != rows:
        raise ExecutionError(f"{name}: the features have {rows:,} rows, the edges are those of {len(edges):,} nodes")


class Memory:
    """What was worked out from tensors, kept while these are the same and unchanged; the latest few of them.

    A tensor that is changed behind torch's back, through ``numpy()`` or ``data``, seems unchanged.
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


def version_of(tensor: Tensor) -> int | None:
    """Return what changes when a tensor does; tensors of inference mode do not count."""
    return None if tensor.is_inference() else tensor._version
