from __future__ import annotations

import subprocess
import sys

from gnncompress.datasets import DATASETS
from gnncompress.experiments.parameters import PARAMETERS
from gnncompress.experiments.workloads import WORKLOADS
from gnncompress.models import build_model, find_model

LISTED = """
import sys
from gnncompress.cli import main
try:
    main([sys.argv[1]])
except SystemExit as stop:
    assert stop.code == 0
heavy = {"torch", "sklearn", "scipy", "pandas", "numba"} & set(sys.modules)
assert not heavy, heavy
"""


def test_counts_are_those_of_the_models() -> None:
    counts = {}
    for name, workload in WORKLOADS.items():
        statistics = DATASETS[workload.dataset].statistics
        arguments = {**find_model(workload.model).arguments(workload.task), **workload.arguments}
        model = build_model(workload.model, statistics["features"], statistics["classes"], arguments)
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    assert counts == PARAMETERS


def test_they_are_listed_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", LISTED, "workloads"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, count in PARAMETERS.items():
        assert name in done.stdout
        assert f"{count:,}" in done.stdout
