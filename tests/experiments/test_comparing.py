"""What is said of two models, without measuring any."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gnncompress.experiments import comparing
from gnncompress.experiments.comparing import Compared, Comparison, Run, Settings
from gnncompress.profiling.comparison import Difference
from tests.experiments.helpers import asked


def test_energy_has_the_interval_of_its_windows() -> None:
    a = np.array([1.0, 1.01, 0.99, 1.0, 1.02, 1.0, 0.98, 1.0, 1.01, 1.0])
    figures, notes = comparing._energy({"cpu": (np.stack([a, 2 * a], axis=1), "rapl")}, 0.99)
    assert notes == []
    (energy,) = figures
    assert (energy.metric, energy.unit, energy.source) == ("energy", "J", "rapl")
    assert energy.verdict == "B is 2 times dearer"


@pytest.mark.parametrize("broken", [0.0, -1.0])
def test_a_window_without_energy_is_named_and_not_compared(broken: float) -> None:
    """A ratio to nothing is no number: it was a warning of numpy's and an interval of nan."""
    values = np.ones((10, 2))
    values[3, 0] = broken
    figures, notes = comparing._energy({"cpu": (values, "rapl"), "dram": (np.ones((10, 2)), "rapl")}, 0.99)
    assert [one.metric for one in figures] == ["energy_dram"]
    assert len(notes) == 1
    assert notes[0].startswith("energy: a window read no energy")


def test_few_rounds_say_what_they_assume() -> None:
    assert comparing._notes_on_few(Settings(), True) == []
    (note,) = comparing._notes_on_few(Settings(rounds=5), True)
    assert note.startswith("5 rounds: intervals of 99 % reach beyond the ratios seen")
    assert note.endswith("from 8 on they need not")
    notes = comparing._notes_on_few(Settings(confidence=0.9999), True)
    assert [note.split(":")[0] for note in notes] == ["10 windows of energy"]
    assert comparing._notes_on_few(Settings(confidence=0.9999), False) == []


def test_a_run_and_its_copy_are_said_to_be_one(tmp_path: Path) -> None:
    chain = asked("digits")
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"the same")
    runs = [Run(chain.id, folder, chain) for folder in folders]
    other = asked("digits", seed=1)
    assert comparing._note_on_one_run([runs[0], Run(other.id, folders[1], other)]) == []
    (note,) = comparing._note_on_one_run(runs)
    assert note == f"{folders[0]} and {folders[1]} are one run, {chain.id}, with one model: differences are chance"
    (folders[1] / "model.safetensors").write_bytes(b"another")
    (note,) = comparing._note_on_one_run(runs)
    assert note.endswith("with models that differ: one was made anew")


def test_infinite_ends_are_no_json_number() -> None:
    one = Compared("latency_median", "s", 1.0, 2.0, Difference(0.5, -1e9, 1e9), "measured")
    text = json.dumps(Comparison("a", "b", 0.99, [one]).to_dict(), allow_nan=False)
    assert json.loads(text)["figures"][0]["high"] is None
