"""Question: how often does ``compare`` find a difference where there is none?

The aim: in at most 2 of 20 comparisons of a model with itself. Each comparison draws its own order of turns.

Run: python benchmarks/compare_itself.py [--times 20] [--seconds 1.0] [--rounds 20] [--confidence 0.99]
Peer: one run of each, one after the other, 200 calls each, judged by Welch's t-test of the samples at the same level.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from gnncompress import compare, experiment, load_model
from gnncompress.datasets import load_dataset
from gnncompress.experiments.comparing import Settings


def main() -> None:
    """Print each comparison and how many are significant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--confidence", type=float, default=0.99)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / str(experiment(output=folder, dataset="digits", epochs=20)["run_id"])
        ours, naive = 0, 0
        for seed in range(chosen.times):
            settings = Settings(
                rounds=chosen.rounds, seconds=chosen.seconds, confidence=chosen.confidence, energy="none", seed=seed
            )
            found = next(one for one in compare(run, run, settings=settings).figures if one.metric == "latency_median")
            assert found.difference is not None
            ratio = found.difference.as_ratio()
            ours += found.difference.significant
            p = one_after_the_other(run)
            naive += p < 1 - chosen.confidence
            interval = f"{ratio.value:.4f} ({ratio.low:.4f} to {ratio.high:.4f})"
            print(f"{seed:3}: B / A {interval}  {found.verdict}; t-test p {p:.3g}", flush=True)
        print(f"significant: {ours} of {chosen.times} by compare, {naive} of {chosen.times} by the t-test of two runs")


def one_after_the_other(run: Path) -> float:
    """Return the p-value of a difference in latency of the model to itself, measured in two runs."""
    data = load_dataset("digits", None).as_list()[0]
    samples = []
    for _ in range(2):
        model = load_model(run / "model.safetensors")
        found = []
        with torch.inference_mode():
            for _ in range(220):
                started = time.perf_counter()
                model(data.x, data.edge_index)
                found.append(time.perf_counter() - started)
        samples.append(np.array(found[20:]))
    return float(stats.ttest_ind(*samples, equal_var=False).pvalue)


if __name__ == "__main__":
    main()
