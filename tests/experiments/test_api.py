"""``experiment``: its arguments are the methods' options, and it is a guest in the caller's process."""

from __future__ import annotations

import inspect
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gnncompress
from gnncompress.compression import option_of
from gnncompress.errors import UsageError
from gnncompress.methods import methods

QUICK: dict[str, Any] = {"epochs": 2, "energy": "none", "energy_seconds": 0.1}


def test_every_option_of_a_method_is_an_argument() -> None:
    known = inspect.signature(gnncompress.experiment).parameters
    for method in [*methods("prune"), *methods("quantize")]:
        missing = [one.name for one in fields(method) if not option_of(one).hidden and one.name not in known]
        assert missing == [], method
    assert not any(one.kind is one.VAR_KEYWORD for one in known.values())


def test_methods_as_objects_and_by_name_are_one_run(tmp_path: Path) -> None:
    named = gnncompress.experiment("digits", "gcn", method="global", sparsity=0.5, output=tmp_path, **QUICK)
    pruning = gnncompress.GlobalPruning(sparsity=0.5)
    given = gnncompress.experiment("digits", "gcn", compress=pruning, output=tmp_path, **QUICK)
    assert given["run_id"] == named["run_id"]
    chain = [pruning, gnncompress.Quantization(scheme="ptq-int8")]
    quantized = gnncompress.experiment("digits", "gcn", compress=chain, output=tmp_path, **QUICK)
    asked = gnncompress.experiment("digits", "gcn", scheme="ptq-int8", sparsity=0.5, output=tmp_path, **QUICK)
    assert quantized["run_id"] == asked["run_id"]


def test_what_contradicts_itself_is_refused(tmp_path: Path) -> None:
    pruning = gnncompress.GlobalPruning(sparsity=0.5)
    with pytest.raises(UsageError, match="compress= says what is applied; leave sparsity out"):
        gnncompress.experiment("digits", compress=pruning, sparsity=0.5, output=tmp_path)
    with pytest.raises(UsageError, match="global after quantize: codes cannot be pruned"):
        gnncompress.experiment("digits", compress=[gnncompress.Quantization(), pruning], output=tmp_path)
    assert not list(tmp_path.glob("*/spec.json"))


def state() -> list[Any]:
    numpy: Any = np.random.get_state()
    return [
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state().tolist(),
        random.getstate(),
        (numpy[0], numpy[1].tolist(), *numpy[2:]),
    ]


def test_the_callers_state_is_left_as_it_was(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = state()
        for _ in range(2):  # made, then found again
            run = gnncompress.experiment("digits", "gcn", output=tmp_path, **QUICK)
            assert state() == before
        gnncompress.load_model(tmp_path / run["run_id"] / "model.safetensors")
        assert state() == before
        with pytest.raises(UsageError, match="did you mean gcn"):
            gnncompress.experiment("digits", "gcm", output=tmp_path, **QUICK)
        assert state() == before
    finally:
        torch.set_num_threads(threads)
