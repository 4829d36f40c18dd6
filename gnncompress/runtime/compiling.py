"""How the kernels are compiled, and kept on disk for later processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

# The kernels are made of what these modules generate, of which numba's cache knows nothing.
_GENERATING = ("vectors.py", "gathering.py", "features.py", "rounding.py", "dots.py", "kernels.py")


def compiled(*fastmath: str) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a kernel on its first call, once on a machine.

    With Python's rule for dividing by zero no loop that divides would be vectorized; nothing here is divided by zero.
    ``fastmath`` names what LLVM may do: contract lets a product and a sum be rounded once.
    """

    def decorate(kernel: Callable[..., Any]) -> Any:
        made = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=set(fastmath) or False)(kernel)
        file = getattr(made._cache, "_cache_file", None)
        if file is not None and hasattr(
            file, "_source_stamp"
        ):  # else a change of those modules goes unnoticed until the cache is emptied
            file._source_stamp = (*file._source_stamp, _digest())
        return made

    return decorate


def inlined(kernel: Callable[..., Any]) -> Any:
    """Compile a function into the kernels that call it: called as it is, it would be passed arrays piece by piece."""
    return numba.njit(inline="always", error_model="numpy", fastmath={"contract", "nsz"})(kernel)


def _digest() -> str:
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in _GENERATING)).hexdigest()
