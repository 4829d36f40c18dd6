"""Tensors as rows of unsigned words, and back: the one place that knows dtypes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["float", "signed", "unsigned"]


@dataclass(frozen=True)
class Layout:
    """How a dtype is cut into words: bytes a word, what a word is, and words a value."""

    word: int
    kind: Kind
    words: int = 1

    @property
    def dtype(self) -> np.dtype:
        """The little-endian unsigned numpy dtype of a word."""
        return np.dtype(f"<u{self.word}")


# A fixed table: a dtype name read from a file is looked up here and never anywhere else.
LAYOUTS: dict[str, Layout] = {
    "float64": Layout(8, "float"),
    "float32": Layout(4, "float"),
    "float16": Layout(2, "float"),
    "bfloat16": Layout(2, "float"),
    "complex64": Layout(4, "float", words=2),
    "complex128": Layout(8, "float", words=2),
    "float8_e4m3fn": Layout(1, "float"),
    "float8_e5m2": Layout(1, "float"),
    "int64": Layout(8, "signed"),
    "int32": Layout(4, "signed"),
    "int16": Layout(2, "signed"),
    "int8": Layout(1, "signed"),
    "uint64": Layout(8, "unsigned"),
    "uint32": Layout(4, "unsigned"),
    "uint16": Layout(2, "unsigned"),
    "uint8": Layout(1, "unsigned"),
    "bool": Layout(1, "unsigned"),
}


def ordered(words: np.ndarray, layout: Layout) -> np.ndarray:
    """Return words whose top bits are alike for values of like size; zero stays zero.

    Floating words are rotated left by one bit, so that the exponent is on top and the sign at the bottom. Signed
    integers n become 2n, or -2n - 1 below zero.
    """
    if layout.kind == "float":
        return rotated(words, 1)
    if layout.kind == "signed":
        one, top = words.dtype.type(1), words.dtype.type(8 * layout.word - 1)
        return (words << one) ^ -(words >> top)
    return words


def restored(words: np.ndarray, layout: Layout) -> np.ndarray:
    """Undo ``ordered``."""
    if layout.kind == "float":
        return rotated(words, -1)
    if layout.kind == "signed":
        one = words.dtype.type(1)
        return (words >> one) ^ -(words & one)
    return words


def rotated(words: np.ndarray, left: int) -> np.ndarray:
    """Rotate every word by ``left`` bits, to the right when negative."""
    bits = words.dtype.itemsize * 8
    one, other = (words.dtype.type(shift) for shift in (left % bits, -left % bits))
    return (words << one) | (words >> other)


def name_of(tensor: Tensor) -> str:
    """Return the dtype's name, such as ``float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def why_not_packed(tensor: Tensor) -> str:
    """Say why a tensor is not one of plain words, nothing if it is."""
    if tensor.is_nested or tensor.layout != torch.strided:
        return f"is a {'nested' if tensor.is_nested else tensor.layout} tensor"
    if tensor.is_meta:
        return "is on the meta device and has no values"
    if name_of(tensor) not in LAYOUTS:
        return f"has the dtype {name_of(tensor)}"
    return ""


def to_words(tensor: Tensor) -> np.ndarray:
    """Return the tensor's bits as a row of words; the tensor must be dense with a dtype of the table."""
    flat = _resolved(tensor.detach().cpu()).contiguous().reshape(-1)
    if flat.stride(0) != 1:  # tensors of one value or none count as contiguous with any stride
        flat = flat.new_empty(flat.shape).copy_(flat)
    return flat.view(torch.uint8).numpy().view(LAYOUTS[name_of(tensor)].dtype)


def _resolved(tensor: Tensor) -> Tensor:
    """Carry out a conjugation or negation that torch has put off; few dtypes know of it."""
    if tensor.is_conj():
        tensor = tensor.resolve_conj()
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def from_words(words: np.ndarray, dtype: str, shape: Sequence[int]) -> Tensor:
    """Return the tensor of ``dtype`` and ``shape`` with the bits of ``words``."""
    return torch.from_numpy(words.view(np.uint8)).view(getattr(torch, dtype)).reshape(shape)


def word_shape(dtype: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of the words of a tensor of ``dtype`` and ``shape``, without its dimensions of size 1."""
    return tuple(size for size in (*shape, LAYOUTS[dtype].words) if size != 1)


def byte_count(dtype: str, shape: Sequence[int]) -> int:
    """Return how many bytes a tensor of ``dtype`` and ``shape`` has."""
    return math.prod(word_shape(dtype, shape)) * LAYOUTS[dtype].word
