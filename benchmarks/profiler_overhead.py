"""Question: what does measuring cost, and does it give the same answer twice?

The aims: a call that does nothing is timed with under 5 microseconds of overhead; sampling takes under 1 % of a core;
the medians of one model, measured twice in turns, differ by less than 5 %.

Run: python benchmarks/profiler_overhead.py [--seconds 10]
Peers: timeit for the call that does nothing; for sampling, psutil asked for the whole tree every 10 ms, as monitors do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch

from gnncompress.models.convnet import GCN
from gnncompress.profiling.comparison import interleaved
from gnncompress.profiling.latency import Window, measure_latency
from gnncompress.profiling.phase import profile
from gnncompress.profiling.rapl import RaplMeter


def main() -> None:
    """Print every figure beside its aim."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    nothing()
    sampling(seconds)
    twice()


def nothing() -> None:
    """Time a call that does nothing."""
    loops, each = [], []
    for _ in range(5):
        started = time.perf_counter()
        found = measure_latency(lambda: None, Window(repetitions=200_000, seconds=0))
        loops.append((time.perf_counter() - started) / len(found.samples))
        each.append(found.median)
    bare = min(timeit.repeat(lambda: None, number=200_000)) / 200_000
    print(
        f"a call that does nothing: {1e6 * np.median(loops):.2f} us a round, of which {1e6 * np.median(each):.2f} us "
        f"are in the sample; timeit {1e6 * bare:.2f} us; aim: less than 5 us"
    )


def sampling(seconds: float) -> None:
    """Measure what the samplers take of a core while nothing else happens, with five processes to look at."""
    children = [subprocess.Popen(["sleep", str(10 * seconds)]) for _ in range(5)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            zone(Path(folder))
            print("percent of a core, six processes in the tree; aim: less than 1 %")
            for name, watch in (
                ("sleeping alone", lambda: time.sleep(seconds)),
                ("with profile(...)", lambda: in_profile(seconds)),
                ("RAPL counters", lambda: counting(Path(folder), seconds)),
                ("psutil every 10 ms", lambda: with_psutil(seconds)),
            ):
                print(f"  {name:20} {share(watch):6.2f} %")
    finally:
        for child in children:
            child.kill()
            child.wait()
    command = f"gnncompress profile -q --energy none -- sleep {seconds}"
    before = os.times()
    subprocess.run(["sh", "-c", command], check=False, capture_output=True)
    short = os.times()
    subprocess.run(["sh", "-c", "gnncompress profile -q --energy none -- sleep 0"], check=False, capture_output=True)
    after = os.times()
    long_one, start = (
        end.children_user + end.children_system - begin.children_user - begin.children_system
        for begin, end in ((before, short), (short, after))
    )
    print(f"  gnncompress profile  {100 * (long_one - start) / seconds:6.2f} % (its start taken off: {start:.2f} s)")


def share(watch: Callable[[], None]) -> float:
    """Return the processor time of this process over the wall time of ``watch``, in percent."""
    wall, own = time.perf_counter(), time.process_time()
    watch()
    return 100 * (time.process_time() - own) / (time.perf_counter() - wall)


def in_profile(seconds: float) -> None:
    """Sleep while profiled."""
    with profile(energy="none"):
        time.sleep(seconds)


def counting(folder: Path, seconds: float) -> None:
    """Sleep while the counters are read; the simulated one stands still, which costs the same."""
    meter = RaplMeter(folder)
    meter.start()
    time.sleep(seconds)
    meter.stop()


def with_psutil(seconds: float) -> None:
    """Ask for the whole tree's memory every 10 ms."""
    me = psutil.Process()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(process.memory_info().rss for process in (me, *me.children(recursive=True)))
        time.sleep(0.01)


def zone(folder: Path) -> None:
    """Make a package's counter of the usual range."""
    place = folder / "intel-rapl:0"
    place.mkdir()
    for name, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "262143328850")):
        (place / name).write_text(text + "\n")


def twice() -> None:
    """Measure one model against itself, ten times, in turns."""
    torch.manual_seed(0)
    x, edges = torch.randn(2000, 64), torch.randint(2000, (2, 8000))

    def make() -> Callable[[], object]:
        torch.manual_seed(1)
        model = GCN(64, 7).eval()

        def call() -> None:
            with torch.inference_mode():
                model(x, edges)

        return call

    apart = []
    for seed in range(10):
        seconds = interleaved([make, make], 5, 0.5, Window(), seed).seconds
        a, b = np.median(seconds, axis=0)
        apart.append(100 * abs(a - b) / b)
    print(
        f"a model against itself, ten times: medians {np.median(apart):.2f} % apart, at most {max(apart):.2f} %; "
        "aim: less than 5 %"
    )


if __name__ == "__main__":
    main()
