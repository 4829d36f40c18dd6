"""Question: from which sparsity on is a product with a sparse weight faster than with a dense one?

Run: python benchmarks/sparse_weights.py
8,000 rows of features, one thread, medians of 15 calls, the three taking turns: torch's dense linear, torch's product
with the weight as CSR, and ours (gnncompress.to_compiled takes it from a sparsity of 0.8 and 128 outputs on). The last
column is how many times as fast as the dense one ours is.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_array

from gnncompress.runtime import float_kernels

ROWS = 8_000
SHAPES = ((64, 64), (128, 128), (512, 128), (1433, 16))


def main() -> None:
    """Print a line for each shape and sparsity."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", message="Sparse")
    print(f"{'inputs':>8}{'outputs':>9}{'sparsity':>10}{'dense':>12}{'torch CSR':>12}{'ours':>12}")
    for inputs, outputs in SHAPES:
        for sparsity in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
            dense, csr, ours = medians(inputs, outputs, sparsity)
            cells = "".join(f"{1e3 * seconds:9.2f} ms" for seconds in (dense, csr, ours))
            print(f"{inputs:8}{outputs:9}{sparsity:10g}{cells}{dense / ours:7.2f} x")


def medians(inputs: int, outputs: int, sparsity: float) -> list[float]:
    """Return the median seconds of the three."""
    x, bias = torch.randn(ROWS, inputs), torch.randn(outputs)
    weight = torch.randn(outputs, inputs) * (torch.rand(outputs, inputs) > sparsity)
    sparse, rows = weight.to_sparse_csr(), csr_array(weight.numpy())
    out = np.empty((ROWS, outputs), np.float32)
    given = x.numpy(), rows.indptr, rows.indices, rows.data, bias.numpy(), out
    calls: tuple[Callable[[], object], ...] = (
        lambda: torch.nn.functional.linear(x, weight, bias),
        lambda: (sparse @ x.t()).t() + bias,
        lambda: float_kernels.multiply_by_sparse(*given),
    )
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(17):
        for call, found in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            if number >= 2:
                found.append(time.perf_counter() - started)
    return [statistics.median(found) for found in seconds]


if __name__ == "__main__":
    main()
