"""What torch, NumPy and Python keep for the whole process: it is the caller's, and is put back as it was found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


class RandomState:
    """The state of the random generators of torch, NumPy and Python when it is made."""

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        self._numpy, self._python = np.random.get_state(), random.getstate()

    def restore(self) -> None:
        """Put the generators back into it."""
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        np.random.set_state(self._numpy)
        random.setstate(self._python)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Put the random generators back into the state they were in, whatever the block or decorated function does."""
    before = RandomState()
    try:
        yield
    finally:
        before.restore()


@contextmanager
def global_state_kept() -> Iterator[None]:
    """Put back random generators, torch's number of threads, and whether it insists on deterministic algorithms.

    The number of threads between operations cannot be set twice in a process, and is not touched.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with random_state_kept():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_num_threads(threads)
