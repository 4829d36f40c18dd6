"""A run counts once: copied folders, folders read twice, merged stores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from gnncompress.errors import ResultsError
from gnncompress.reporting import read_results, summarize
from gnncompress.reporting.lottery import lottery_scores, verdicts
from gnncompress.reporting.render import for_people
from gnncompress.reporting.sensitivity import sensitivity
from tests.experiments.helpers import asked
from tests.reporting.test_reporting import write


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    for seed, accuracy in enumerate((0.88, 0.99)):
        write(folder, asked("cora", "gcn", seed=seed), accuracy)
    return folder


def run_of(folder: Path, seed: int) -> Path:
    return folder / asked("cora", "gcn", seed=seed).id


def line_of(rows: pd.DataFrame) -> str:
    (line,) = for_people(summarize(rows))["accuracy"]
    return line


def test_a_copied_folder_changes_no_number(store: Path) -> None:
    before = summarize(read_results(store))
    assert line_of(read_results(store)) == "0.935 ± 0.078"
    shutil.copytree(run_of(store, 1), store / "backup of the good one")
    shutil.copytree(run_of(store, 1), store / "0000")
    assert summarize(read_results(store)).equals(before)


def test_a_folder_read_twice_and_merged_files_change_no_number(store: Path, tmp_path: Path) -> None:
    once = read_results(store)
    before = summarize(once)
    for together in (pd.concat([once, read_results(store)]), pd.concat([once, once], ignore_index=True)):
        assert summarize(together).equals(before)
    shutil.copytree(store, tmp_path / "other")
    assert summarize(pd.concat([once, read_results(tmp_path / "other")])).equals(before)
    text = (run_of(store, 1) / "results.csv").read_text()
    (run_of(store, 1) / "results.csv").write_text(text + text.split("\n", 1)[1])
    assert summarize(read_results(store)).equals(before)


def test_a_copy_without_its_spec_is_the_same_run(store: Path) -> None:
    before = summarize(read_results(store))
    shutil.copytree(run_of(store, 0), store / "0000")
    (store / "0000" / "spec.json").unlink()
    assert summarize(read_results(store)).equals(before)


def test_copies_that_disagree_in_quality_are_named(store: Path) -> None:
    copy = store / "zz"
    shutil.copytree(run_of(store, 1), copy)
    file = copy / "results.csv"
    file.write_text(file.read_text().replace("accuracy,0.99", "accuracy,0.5"))
    with pytest.raises(ResultsError, match=r"evaluate\.accuracy is 0\.99 and 0\.5; delete the one") as caught:
        read_results(store)
    for part in (run_of(store, 1).name, str(run_of(store, 1) / "results.csv"), str(file)):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_copy_that_lost_rows_is_named(store: Path) -> None:
    shutil.copytree(run_of(store, 1), store / "0000")
    file = store / "0000" / "results.csv"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "checkpoint_size" not in line))
    with pytest.raises(ResultsError, match=r"checkpoint\.checkpoint_size is missing and 2500"):
        read_results(store)


def test_a_folder_that_names_another_run_is_no_copy(store: Path) -> None:
    shutil.copytree(run_of(store, 1), store / "zz")
    file = store / "zz" / "spec.json"
    spec = json.loads(file.read_text())
    file.write_text(json.dumps({**spec, "workload": {**spec["workload"], "threads": 7}}))
    with pytest.raises(ResultsError, match=r"zz/results\.csv, with different specs"):
        read_results(store)


def test_a_run_that_was_measured_twice_counts_as_first_measured(store: Path) -> None:
    before = summarize(read_results(store))
    shutil.copytree(run_of(store, 1), store / "zz")
    file = store / "zz" / "results.csv"
    file.write_text(file.read_text().replace("latency_median,0.0015", "latency_median,0.5"))
    with pytest.warns(UserWarning, match=r"measured more than once; it is counted once, as in .*results\.csv") as said:
        found = read_results(store)
    assert str(file) in str(said[0].message)
    assert summarize(found).equals(before)
    assert found["value"].max() < 100_000


def test_runs_of_one_seed_that_nothing_tells_apart_are_not_averaged(store: Path) -> None:
    """Without their specs they stood as one seed with a deviation."""
    write(store, asked("cora", "gcn", seed=0, epochs=7), 0.5)
    assert len(summarize(read_results(store))) == 2
    for file in store.glob("*/spec.json"):
        file.unlink()
    with pytest.raises(ResultsError, match=r"have the same method, sparsity and seed, 0, and no spec\.json") as caught:
        summarize(read_results(store))
    for spec in (asked("cora", "gcn", seed=0), asked("cora", "gcn", seed=0, epochs=7)):
        assert spec.id in str(caught.value)


def lottery_rows(epochs: int) -> pd.DataFrame:
    lines = []
    for arm, value in (("dense", 0.8), ("ticket", 0.81), ("reinit", 0.7), ("random", 0.6)):
        for seed in range(4):
            method = "none" if arm == "dense" else "lottery"
            settings = {} if arm == "dense" else {"round": 1, "arm": arm}
            lines.append(
                {
                    "run_id": f"{arm}{seed}{epochs}",
                    "file": f"runs/{arm}{seed}{epochs}/results.csv",
                    "dataset": "cora",
                    "task": "node-classification",
                    "model": "gcn",
                    "method": method,
                    "sparsity": 0.0 if arm == "dense" else 0.2,
                    "finetuned": False,
                    "seed": seed,
                    "phase": "evaluate",
                    "layer": "",
                    "metric": "accuracy",
                    "value": value + 0.001 * seed,
                    "unit": "fraction",
                    "setting": json.dumps({"epochs": epochs, "settings": settings}),
                }
            )
    return pd.DataFrame(lines)


def test_lottery_tickets_count_once() -> None:
    rows = lottery_rows(1)
    before = verdicts(lottery_scores(rows))
    copied = rows.assign(file="copy/" + rows["file"])
    assert verdicts(lottery_scores(pd.concat([rows, copied]))).equals(before)
    with pytest.raises(ResultsError, match="with different rows"):
        lottery_scores(pd.concat([rows, copied.assign(value=copied["value"] + 0.1)]))
    with pytest.raises(ResultsError, match=r"seed 0 has several runs of .*; judge one experiment at a time"):
        verdicts(lottery_scores(pd.concat([rows, lottery_rows(2)])))


def sensitivity_rows(file: str, run: str, drop: float) -> pd.DataFrame:
    labels = {"dataset": "d", "task": "t", "model": "m", "method": "sensitivity", "sparsity": 0.5, "seed": 0}
    return pd.DataFrame(
        {
            **labels,
            "run_id": run,
            "file": file,
            "setting": "",
            "phase": "evaluate",
            "unit": "fraction",
            "layer": layer,
            "metric": metric,
            "value": value,
        }
        for layer, score in (("", 0.9), ("a", 0.9 - drop))
        for metric, value in (("validation_score", score), ("validation_loss", 1 - score), ("weights", 10.0))
    )


def test_layers_count_once() -> None:
    rows = sensitivity_rows("a", "r", 0.1)
    before = sensitivity(rows)
    assert sensitivity(pd.concat([rows, sensitivity_rows("b", "r", 0.1)])).equals(before)
    with pytest.raises(ResultsError, match=r"run r is in a and b, with different rows: evaluate\.a\.validation_loss"):
        sensitivity(pd.concat([rows, sensitivity_rows("b", "r", 0.3)]))
    with pytest.raises(ResultsError, match="seed 0 has several runs"):
        sensitivity(pd.concat([rows, sensitivity_rows("b", "other", 0.3)]))
