"""Question: how much faster is a quantized model in whole numbers than the same model in floats?

The aims, on one thread and two: GIN of five layers of 64 channels on the whole PROTEINS set 10 and 7 times as fast
as eager FP32, 5 and 4.5 times as fast as with a CSR adjacency; on a batch of 4,600 nodes 6 and 3.5 times; on 200,000
nodes, 2 million edges and 128 channels 11 and 5.5 times. SplineCNN and GCN on Cora with sparse features: 4 times as
fast as with dense ones. At every level, of any processor: at least as fast as our own FP32 kernels.

Run: GNNCOMPRESS_DATA=... python benchmarks/integer_inference.py [--threads 2] [--case proteins] [--level exact-f32]
Processors without AVX-512: ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 NUMBA_CPU_NAME=znver3 and
NUMBA_CPU_FEATURES set to this processor's features, those of AVX-512 with a minus.
Peers: PyG eager FP32; PyG with a CSR adjacency; torch.compile, where there is a C++ compiler; our own FP32 kernels
(gnncompress.to_compiled); the simulated quantized model. All take turns in one process; medians of wall time, and
how many times as fast as each float peer the integer model is. Weights are random, ranges calibrated: neither changes
what is computed. Edges are sorted once a graph, as a CSR adjacency is; "sorting" is what that takes.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.utils import to_torch_csr_tensor

from gnncompress import calibrate, freeze, prepare, to_compiled, to_integer
from gnncompress.datasets import load_dataset
from gnncompress.models.convnet import GCN
from gnncompress.models.gin import GIN
from gnncompress.models.spline import SplineNet
from gnncompress.profiling.environment import environment
from gnncompress.runtime.graphs import neighbours
from gnncompress.runtime.levels import LEVELS, VARIABLE, level

Calls = dict[str, Callable[[], object]]
INTEGER = "int8, integer"


def main() -> None:
    """Time every case and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", choices=[*CASES], action="append")
    parser.add_argument("--level", choices=[one.name for one in LEVELS], help="in place of this processor's fastest")
    chosen = parser.parse_args()
    if chosen.level:
        os.environ[VARIABLE] = chosen.level
    processor = environment("cpu", chosen.threads)["processor"]
    print(f"level {level().name}; processor {processor}, compiled for {os.environ.get('NUMBA_CPU_NAME', 'it')}")
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", message="Sparse")
    for name in chosen.case or CASES:
        calls, title, rounds = CASES[name]()
        report(f"{title}; {chosen.threads} thread(s)", timed(calls, rounds))


def proteins(every: int, rounds: int) -> tuple[Calls, str, int]:
    """Return the calls for every so many graphs of PROTEINS."""
    root = Path(os.environ["GNNCOMPRESS_DATA"])
    batch = Batch.from_data_list(load_dataset("proteins-labels", root).as_list()[::every])
    x, edges, graphs = batch.x, batch.edge_index, batch.batch
    return gin(GIN(x.size(1), 2), x, edges, graphs), f"GIN 5 x 64, PROTEINS, {sizes(x, edges)}", rounds


def synthetic() -> tuple[Calls, str, int]:
    """Return the calls for 200,000 nodes in graphs of 40 and 2 million edges within them."""
    nodes, edges, size = 200_000, 2_000_000, 40
    targets = torch.randint(nodes, (edges,))
    sources = targets // size * size + torch.randint(size, (edges,))
    graphs = torch.arange(nodes) // size
    x = torch.randn(nodes, 128)
    pairs = torch.stack([sources, targets])
    return gin(GIN(128, 2, hidden=128), x, pairs, graphs), f"GIN 5 x 128, {sizes(x, pairs)}", 3


def gin(model: nn.Module, x: Tensor, edges: Tensor, graphs: Tensor) -> Calls:
    """Return the calls of a GIN on a batch."""
    model.eval()
    adjacency = to_torch_csr_tensor(edges.flip(0), size=(len(x), len(x)))
    simulated, integer = quantized(model, x, edges, graphs)
    compiled = to_compiled(model)
    return {
        "FP32, PyG eager": lambda: model(x, edges, graphs),
        "FP32, PyG CSR": lambda: model(x, adjacency, graphs),
        "FP32, our kernels": lambda: compiled(x, edges, graphs),
        **inductor(model, x, edges, graphs),
        "int8, simulated": lambda: simulated(x, edges, graphs),
        INTEGER: lambda: integer(x, edges, graphs),
        "sorting": lambda: neighbours(edges, len(x)),
    }


def cora(kind: str) -> tuple[Calls, str, int]:
    """Return the calls of a node model on Cora, with dense and with sparse features."""
    data = load_dataset("cora", Path(os.environ["GNNCOMPRESS_DATA"])).as_list()[0]
    x, edges = data.x.float(), data.edge_index
    sparse = x.to_sparse_csr()
    extra = (torch.rand(edges.size(1), 1),) if kind == "spline" else ()
    model = (SplineNet(x.size(1), 7) if kind == "spline" else GCN(x.size(1), 7)).eval()
    simulated, integer = quantized(model, sparse, edges, *extra)
    compiled = to_compiled(model)
    calls: Calls = {
        "FP32, PyG eager, dense": lambda: model(x, edges, *extra),
        "FP32, PyG eager, sparse": lambda: model(sparse, edges, *extra),
        "FP32, our kernels, sparse": lambda: compiled(sparse, edges, *extra),
        "int8, simulated, sparse": lambda: simulated(sparse, edges, *extra),
        INTEGER: lambda: integer(sparse, edges, *extra),
    }
    return calls, f"{type(model).__name__}, Cora, {sizes(x, edges)}", 50


def quantized(model: nn.Module, *data: Tensor) -> tuple[nn.Module, nn.Module]:
    """Return the model quantized to 8 bits, simulated and in whole numbers."""
    simulated = prepare(copy.deepcopy(model), "dq-int8", calibration="minmax").eval()
    calibrate(simulated, lambda: simulated(*data))
    freeze(simulated)
    return simulated, to_integer(simulated)


def inductor(model: nn.Module, *data: Tensor) -> Calls:
    """Return the call of torch.compile, none if it does not work here."""
    try:
        compiled = torch.compile(model)
        with torch.inference_mode():
            compiled(*data)
    except Exception as error:  # no compiler, or a model that it does not take
        print(f"torch.compile: {type(error).__name__}: {str(error).splitlines()[0][:100]}")
        return {}
    return {"FP32, torch.compile": lambda: compiled(*data)}


def timed(calls: Calls, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call, the calls taking turns."""
    seconds: dict[str, list[float]] = {label: [] for label in calls}
    with torch.inference_mode():
        for number in range(rounds + 2):
            for label, call in calls.items():
                started = time.perf_counter()
                call()
                if number >= 2:
                    seconds[label].append(time.perf_counter() - started)
    return seconds


def report(title: str, seconds: dict[str, list[float]]) -> None:
    """Print a case's medians, and how many times as fast the integer model is."""
    print(f"\n{title}, median of {len(seconds[INTEGER])}")
    integer = statistics.median(seconds[INTEGER])
    for label, found in seconds.items():
        median = statistics.median(found)
        low, high = np.quantile(found, [0.1, 0.9])
        print(f"  {label:28}{1e3 * median:10.2f} ms  ({1e3 * low:.2f} to {1e3 * high:.2f}) {median / integer:7.2f} x")


def sizes(x: Tensor, edges: Tensor) -> str:
    """Return a graph's size in words."""
    return f"{len(x):,} nodes, {edges.size(1):,} edges, {x.size(1)} features"


CASES: dict[str, Callable[[], tuple[Calls, str, int]]] = {
    "batch": lambda: proteins(10, 50),
    "proteins": lambda: proteins(1, 9),
    "synthetic": synthetic,
    "gcn": lambda: cora("gcn"),
    "spline": lambda: cora("spline"),
}


if __name__ == "__main__":
    main()
