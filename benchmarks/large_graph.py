"""Question: how much memory and time does full-graph inference on a million nodes take, in whole numbers and in floats?

The aim: at most 40 % of the FP32 peak. Run: python benchmarks/large_graph.py [--nodes 1000000] [--edges 10000000]
GraphSAGE of three layers of 128 channels on a random graph whose degrees follow a power law, 128 features, 16 classes.
Each peer runs in a process of its own, one thread, the median of three calls. Memory is the peak above what the process
needed for imports: graph, features, model and all that the call makes; and the same without graph and features.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings

PEERS = ("eager", "csr", "compiled", "simulated", "integer")


def main() -> None:
    """Run the peers one after the other, or one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--peer", choices=PEERS)
    chosen = parser.parse_args()
    if chosen.peer:
        measure(chosen.peer, chosen.nodes, chosen.edges)
        return
    print(f"{chosen.nodes:,} nodes, {chosen.edges:,} edges; one thread")
    for peer in PEERS:
        sizes = ["--nodes", str(chosen.nodes), "--edges", str(chosen.edges)]
        subprocess.run([sys.executable, __file__, "--peer", peer, *sizes], check=True)


def measure(peer: str, nodes: int, edges: int) -> None:
    """Print one peer's peak of memory and its median time."""
    import torch
    from torch_geometric.utils import to_torch_csr_tensor

    from gnncompress import calibrate, freeze, prepare, to_compiled, to_integer
    from gnncompress.models.convnet import GraphSAGE
    from gnncompress.profiling.memory import current_memory, peak_memory

    warnings.filterwarnings("ignore", message="Sparse")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GraphSAGE(128, 16, hidden=128, layers=3).eval()
    if peer in ("simulated", "integer"):
        small = torch.randn(2_000, 128), torch.randint(2_000, (2, 20_000))
        prepare(model, "dq-int8")
        calibrate(model, lambda: model(*small))
        freeze(model)
    # Not compared with the model, whose time and memory the first call would take.
    runs = {"compiled": to_compiled, "integer": to_integer}.get(peer, lambda same, verify: same)(model, verify=False)
    with torch.inference_mode():
        runs(torch.randn(100, 128), torch.randint(100, (2, 300)))  # kernels are loaded
    before = current_memory()
    x = torch.randn(nodes, 128)
    # A node's share of the edges falls with its number to the power of -0.6; its number says nothing else.
    number = torch.randperm(nodes)
    graph = number[(torch.rand(2, edges) ** 2.5 * nodes).long()]
    if peer == "csr":
        graph = to_torch_csr_tensor(graph.flip(0), size=(nodes, nodes))
    data = current_memory() - before
    seconds: list[float] = []

    def call() -> None:
        with torch.inference_mode():
            started = time.perf_counter()
            runs(x, graph)
            seconds.append(time.perf_counter() - started)

    peak = peak_memory(call) - before
    for _ in range(2):
        call()
    median = statistics.median(seconds)
    print(f"  {peer:10}{peak / 1e9:8.2f} GB at the peak, {(peak - data) / 1e9:6.2f} without the data {median:8.2f} s")


if __name__ == "__main__":
    main()
