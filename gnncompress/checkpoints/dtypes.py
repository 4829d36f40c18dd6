"""Tensors as rows of unsigned words, and back: the one place that knows dtypes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How a dtype is cut into words: bytes a word, words a value, and whether words are floating."""

    word: int
    words: int = 1
    floating: bool = False

    @property
    def dtype(self) -> np.dtype:
        """The little-endian unsigned numpy dtype of a word."""
        return np.dtype(f"<u{self.word}")


# A fixed table: a dtype name read from a file is looked up here and never anywhere else.
LAYOUTS: dict[str, Layout] = {
    "float64": Layout(8, floating=True),
    "float32": Layout(4, floating=True),
    "float16": Layout(2, floating=True),
    "bfloat16": Layout(2, floating=True),
    "complex64": Layout(4, words=2, floating=True),
    "complex128": Layout(8, words=2, floating=True),
    "float8_e4m3fn": Layout(1, floating=True),
    "float8_e5m2": Layout(1, floating=True),
    "int64": Layout(8),
    "int32": Layout(4),
    "int16": Layout(2),
    "int8": Layout(1),
    "uint64": Layout(8),
    "uint32": Layout(4),
    "uint16": Layout(2),
    "uint8": Layout(1),
    "bool": Layout(1),
}


def name_of(tensor: Tensor) -> str:
    """Return the dtype's name, such as ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def to_words(tensor: Tensor) -> np.ndarray:
    """Return the tensor's bits as a row of words; the tensor must be dense with a dtype of the table."""
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().view(LAYOUTS[name_of(tensor)].dtype)


def from_words(words: np.ndarray, dtype: str, shape: list[int]) -> Tensor:
    """Return the tensor of ``dtype`` and ``shape`` with the bits of ``words``."""
    return torch.from_numpy(words.view(np.uint8)).view(getattr(torch, dtype)).reshape(shape)


def word_count(dtype: str, shape: list[int]) -> int:
    """Return how many words a tensor of ``dtype`` and ``shape`` has."""
    return math.prod(shape) * LAYOUTS[dtype].words
