"""Question: what do quantizers cost in a training step and in inference, against the same GIN in plain PyG and floats?

The aims, in CPU time: QAT ste-mom 1.5 times, QAT gc-abs 2, Degree-Quant gc-per 3, A2Q with 1000 groups 3; inference of
any of them 1.7. The official programs need 1.7, 3.0, 8.9 and 11.1; 2.3 and, A2Q, 27.5.

Run: python benchmarks/quantization_overhead.py
The peer is GIN of five layers of 64 channels without quantizers; all models see the same batch of 32 random graphs of
40 nodes and 146 directed edges, interleaved; medians of CPU time on one thread, and the ratios.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gnncompress.models.gin import GIN
from gnncompress.quantization import freeze, prepare

ROUNDS = 60
GRAPHS, NODES, EDGES = 32, 40, 146
SCHEMES = (("qat-int8", "ste-mom"), ("qat-int8", "gc-abs"), ("dq-int8", "gc-per"), ("a2q", None))


def main() -> None:
    """Time the models and print the medians."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = batch()
    base = GIN(3, 2)
    models: dict[str, nn.Module] = {"floats": copy.deepcopy(base)}
    for scheme, config in SCHEMES:
        label = f"{scheme} {config or 'm=1000'}"
        groups = 1000 if scheme == "a2q" else None
        models[label] = prepare(copy.deepcopy(base), scheme, config=config, groups=groups)
    optimizers = {}
    for label, model in models.items():
        model.train()(*data[:3])
        optimizers[label] = torch.optim.Adam(model.parameters(), 1e-3)
    training = interleaved({label: step(model, optimizers[label], data) for label, model in models.items()})
    for label, model in models.items():
        model.eval() if label == "floats" else freeze(model)
    inference = interleaved({label: infer(model, data) for label, model in models.items()})
    print(f"{'':24}{'training step':>24}{'inference':>24}")
    for label in models:
        cells = ""
        for seconds in (training, inference):
            median = statistics.median(seconds[label])
            cells += f"{1e3 * median:13.2f} ms {median / statistics.median(seconds['floats']):5.2f} x "
        print(f"{label:24}{cells}")


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return features, edges, graph numbers and labels of random graphs."""
    pairs = [torch.randint(0, NODES, (2, EDGES // 2)) + NODES * graph for graph in range(GRAPHS)]
    edges = torch.cat([torch.cat([pair, pair.flip(0)], 1) for pair in pairs], 1)
    graph = torch.arange(GRAPHS).repeat_interleave(NODES)
    return torch.rand(GRAPHS * NODES, 3), edges, graph, torch.randint(0, 2, (GRAPHS,))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, data: tuple[Tensor, ...]) -> Callable[[], None]:
    """Return the call that takes one training step."""

    def call() -> None:
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(*data[:3]), data[3]).backward()
        optimizer.step()

    return call


def infer(model: nn.Module, data: tuple[Tensor, ...]) -> Callable[[], None]:
    """Return the call that computes the logits."""

    def call() -> None:
        with torch.no_grad():
            model(*data[:3])

    return call


def interleaved(calls: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the CPU seconds of each call, the calls taking turns."""
    seconds: dict[str, list[float]] = {label: [] for label in calls}
    for number in range(ROUNDS + 5):
        for label, call in calls.items():
            started = time.process_time()
            call()
            if number >= 5:
                seconds[label].append(time.process_time() - started)
    return seconds


if __name__ == "__main__":
    main()
