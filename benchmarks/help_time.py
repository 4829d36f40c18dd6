"""Claim: ``gnncompress --help`` answers within 0.3 s warm and does not import torch.

Run: python benchmarks/help_time.py
The peer is an empty Python process, interleaved: the ratio says what the command adds to starting Python.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPETITIONS = 15


def seconds(command: list[str]) -> float:
    """Return how long a command takes, in seconds of wall time."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print both medians and their ratio."""
    commands = {
        "gnncompress --help": [sys.executable, "-m", "gnncompress", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    samples: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(REPETITIONS + 1):  # the first round warms the file cache
        for name, command in commands.items():
            samples[name].append(seconds(command))
    ours, peer = (statistics.median(times[1:]) for times in samples.values())
    for name, value in zip(commands, (ours, peer), strict=True):
        print(f"{name:20s} {value * 1e3:7.1f} ms")
    print(f"ratio {ours / peer:.2f}")


if __name__ == "__main__":
    main()
