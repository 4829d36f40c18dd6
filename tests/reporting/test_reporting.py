from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from rich.cells import cell_len

from gnncompress.errors import ResultsError
from gnncompress.experiments.rows import to_csv
from gnncompress.experiments.stages import Chain
from gnncompress.measurements import OWN_METRIC, Measurement
from gnncompress.reporting import read_results, summarize
from gnncompress.reporting.render import for_people, render, terminal_tables
from tests.experiments.helpers import asked


def write(folder: Path, spec: Chain, accuracy: float, energy: Measurement | None = None) -> None:
    rows = [
        Measurement("evaluate", "accuracy", accuracy, "fraction"),
        Measurement("evaluate", "constant_accuracy", 0.25, "fraction"),
        Measurement("evaluate", "majority_accuracy", 0.125, "fraction"),
        Measurement("compress", "sparsity", spec.sparsity, "fraction", "computed"),
        Measurement("compress", "sparsity", 1.0, "fraction", "computed", "conv1.weight"),
        Measurement("compress", "parameters", 69_143, "parameters", "computed"),
        Measurement("compress", "nonzero_parameters", 6_935, "parameters", "computed"),
        Measurement("compress", "collapsed_layers", 1 if spec.sparsity > 0.8 else 0, "layers", "computed"),
        Measurement("checkpoint", "checkpoint_size", 2500, "bytes"),
        Measurement("checkpoint", "size_ratio", 4.0, "ratio", "computed"),
        Measurement("inference", "latency_median", 0.0015, "s"),
        energy or Measurement("inference", "energy", None, "J", "unavailable"),
    ]
    run = folder / spec.id
    run.mkdir()
    (run / "results.csv").write_text(to_csv(spec, rows))
    (run / "spec.json").write_text(json.dumps(spec.dump()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, accuracy in enumerate((0.5, 0.6, 0.7)):
        write(tmp_path, asked("cora", "spline", seed=seed), accuracy + 0.1)
        write(tmp_path, asked("cora", "spline", "global", 0.9, seed), accuracy)
    return tmp_path


def test_mean_and_deviation_by_hand(folder: Path) -> None:
    table = summarize(read_results(folder))
    assert list(table["method"]) == ["none", "global"]
    row = table.iloc[1]
    assert (row["seeds"], row["metric"], row["sparsity"], bool(row["finetuned"])) == (3, "accuracy", 0.9, True)
    assert row["quality_mean"] == pytest.approx(0.6)
    assert row["quality_std"] == pytest.approx(0.1)  # divisor n - 1
    assert row["constant_mean"] == 0.25
    assert (row["size_bytes"], row["size_ratio"], row["latency_s"]) == (2500, 4, pytest.approx(0.0015))
    assert row["achieved_sparsity"] == pytest.approx(0.9)
    assert math.isnan(row["energy_j"])
    assert row["energy_source"] == "unavailable"
    assert math.isnan(row["memory_bytes"]), "what no row says is not a number, never 0"
    assert set(table["setting"]) == {""}


def test_runs_of_other_recipes_are_never_averaged(folder: Path) -> None:
    write(folder, asked("cora", "spline", "global", 0.9, 0, epochs=7), 0.1)
    write(folder, asked("cora", "spline", "global", 0.9, 0, finetune_epochs=3), 0.2)
    table = summarize(read_results(folder))
    assert len(table) == 4
    rows = dict(zip(table["setting"], table["quality_mean"], strict=True))
    assert rows["finetune.epochs=3, recipe.epochs=7"] == pytest.approx(0.1)
    assert rows["finetune.epochs=3, recipe.epochs=200"] == pytest.approx(0.2)
    assert rows["finetune.epochs=100, recipe.epochs=200"] == pytest.approx(0.6)
    assert rows["recipe.epochs=200"] == pytest.approx(0.7), "the base model says which recipe it is of"


def test_a_control_is_a_row_of_its_own(folder: Path) -> None:
    for seed in range(3):
        control = asked("cora", "spline", "global", 0.9, seed).control
        assert control is not None
        write(folder, control, 0.9)
    table = summarize(read_results(folder))
    assert list(zip(table["method"], table["sparsity"], table["finetuned"], strict=True)) == [
        ("none", 0.0, False),
        ("none", 0.0, True),
        ("global", 0.9, True),
    ]
    assert list(table["quality_mean"]) == pytest.approx([0.7, 0.9, 0.6])
    assert list(table["seeds"]) == [3, 3, 3]
    assert set(table["setting"]) == {""}


def test_models_quantized_after_another_pruning_are_told_apart(tmp_path: Path) -> None:
    for finetune, accuracy in ((True, 0.8), (False, 0.6)):
        spec = asked("digits", "gcn", "quantize", 0.5, scheme="ptq-int8", finetune=finetune)
        write(tmp_path, spec, accuracy)
    table = summarize(read_results(tmp_path))
    assert sorted(table["quality_mean"]) == [0.6, 0.8]
    assert len(set(table["setting"])) == 2
    assert all("before.1.global.finetune" in said for said in table["setting"])


def test_measured_energy_is_never_averaged_with_an_estimate(tmp_path: Path) -> None:
    for seed, source in enumerate(("pyrapl", "pyrapl", "estimated", "unavailable")):
        value = None if source == "unavailable" else 1.0 + seed
        spec = asked("digits", seed=seed)
        write(tmp_path, spec, 0.5, Measurement("inference", "energy", value, "J", source))  # type: ignore[arg-type]
    table = summarize(read_results(tmp_path)).set_index("energy_source")
    assert table.loc["pyrapl", "energy_j"] == 1.5
    assert table.loc["estimated", "energy_j"] == 3.0
    assert math.isnan(table.loc["unavailable", "energy_j"])


def test_levels_ascend_after_the_base_model(tmp_path: Path) -> None:
    for method in ("global", "fine-grained"):
        for level in (0.9, 0.1, 0.5):
            write(tmp_path, asked("digits", "gcn", method, level), 0.5)
    write(tmp_path, asked("digits", "gcn"), 0.5)
    table = summarize(read_results(tmp_path))
    assert list(zip(table["method"], table["sparsity"], strict=True)) == [
        ("none", 0.0),
        ("fine-grained", 0.1),
        ("fine-grained", 0.5),
        ("fine-grained", 0.9),
        ("global", 0.1),
        ("global", 0.5),
        ("global", 0.9),
    ]


def test_every_format(folder: Path) -> None:
    table = summarize(read_results(folder))
    people = for_people(table)
    assert people.loc[1].to_dict() == {
        "dataset": "cora",
        "model": "spline",
        "method": "global",
        "sparsity": "0.9",
        "tuned": "yes",
        "seeds": "3",
        "accuracy": "0.600 ± 0.100",
        "constant": "0.250",
        "parameters": "69,143",
        "non-zero": "6,935",
        "size": "2.5 kB",
        "ratio": "4.00x",
        "latency": "1.5 ms",
        "energy": "unavailable",
        "CPU": "unavailable",
        "memory": "unavailable",
        "note": "1 collapsed",
    }
    markdown = render(table, "markdown").splitlines()
    assert markdown[0].startswith("| dataset")
    assert set(markdown[1]) == {"|", "-"}
    assert len(markdown) == 4
    assert "| 0.600 ± 0.100 |" in markdown[3]
    assert "\\toprule" in render(table, "latex")
    csv = pd.read_csv(io.StringIO(render(table, "csv")))
    assert list(csv.columns) == list(table.columns)
    assert csv["quality_mean"].tolist() == table["quality_mean"].tolist()
    records = json.loads(render(table, "json"))
    assert records[1]["quality_std"] == pytest.approx(0.1)
    assert records[1]["energy_j"] is None


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    write(tmp_path, asked("digits"), 0.5)
    table = summarize(read_results(tmp_path))
    assert math.isnan(table["quality_std"][0])
    assert for_people(table)["accuracy"][0] == "0.500"


def test_terminal_tables_fit(folder: Path) -> None:
    write(folder, asked("digits"), 0.5)
    write(folder, asked("digits", "gcn", "global", 0.5), 0.5)
    summary = summarize(read_results(folder))
    wide = render(summary, "table")
    assert "dataset cora, model spline, parameters 69,143, seeds 3, energy unavailable" in wide
    assert "dataset digits, model gcn, parameters 69,143, seeds 1, energy unavailable" in wide
    assert "memory" in wide
    assert "0.600 ± 0.100" in wide
    narrow = terminal_tables(summary, 80).plain
    assert "left out: CPU, memory; shown in a wider terminal, or by" in narrow
    assert "0.600 ± 0.100" in narrow
    assert max(map(cell_len, narrow.splitlines())) <= 80


def test_one_run_or_one_file_may_be_named(folder: Path) -> None:
    run = folder / asked("cora", "spline").id
    assert read_results(run).equals(read_results(run / "results.csv"))
    assert set(read_results(folder, only={run.name})["run_id"]) == {run.name}


def test_unfinished_and_hidden_folders_are_no_runs(folder: Path) -> None:
    for name in (".staging", "failed"):
        (folder / name).mkdir()
    (folder / ".staging" / "results.csv").write_text("half")
    (folder / "failed" / "error.json").write_text("{}")
    assert read_results(folder)["run_id"].nunique() == 6


def test_bad_results_are_named(folder: Path) -> None:
    file = folder / asked("cora", "spline").id / "results.csv"
    good = file.read_text()
    cases = {
        good.replace(",metric,value,", ",metric,"): "column value missing",
        good.replace("phase,layer,", "").split("\n")[0]: "columns phase, layer missing",
        good.replace("0.6", "much"): "cannot be read as results",
        "": "cannot be read as results",
        "\x00\xff": "results.csv",
    }
    for text, message in cases.items():
        file.write_text(text)
        with pytest.raises(ResultsError, match=message) as caught:
            read_results(folder)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ResultsError, match="no such folder; run 'gnncompress prune' first"):
        read_results(folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(ResultsError, match="empty: no finished runs"):
        read_results(folder / "empty")


def test_runs_of_several_splits_are_never_averaged(tmp_path: Path) -> None:
    for choices in ({}, {"split": "public"}, {"split_seed": 3}):
        for seed in (0, 1):
            write(tmp_path, asked("cora", "gcn", seed=seed, **choices), 0.5 + 0.1 * len(choices))
    summary = summarize(read_results(tmp_path))
    assert summary["seeds"].tolist() == [2, 2, 2]
    assert set(summary["setting"]) == {
        "split.kind=random, split.seed=each its own",
        "split.kind=public, split.seed=each its own",
        "split.kind=random, split.seed=3",
    }


def test_settings_that_the_scheme_shows_are_said_once(tmp_path: Path) -> None:
    write(tmp_path, asked("cora", "spline"), 0.9)
    for rate in (100.0, 0.1, 1e-5):
        write(tmp_path, asked("cora", "spline", "l2", rate=rate), 0.5)
    summary = summarize(read_results(tmp_path))
    assert summary["scheme"].tolist() == ["", "rate=1e-05", "rate=0.1", "rate=100"]
    assert set(summary["setting"]) == {""}


def test_constant_and_diverged_runs_are_named(tmp_path: Path) -> None:
    for seed, classes in ((0, 1), (1, 7), (2, 1)):
        spec = asked("cora", "spline", "l2", rate=1e6, seed=seed)
        write(tmp_path, spec, 0.3)
        more = [
            Measurement("evaluate", "predicted_classes", classes, "classes", "computed"),
            Measurement("train", "diverged", int(seed == 2), "runs"),
        ]
        with (tmp_path / spec.id / "results.csv").open("a") as file:
            file.write(to_csv(spec, more).split("\n", 1)[1])
    summary = summarize(read_results(tmp_path))
    assert summary["constant_runs"].tolist() == [2]
    assert summary["diverged_runs"].tolist() == [1]
    assert "predicts one class (2 of 3); diverged (1 of 3)" in render(summary, "markdown")


def test_a_run_that_is_measured_again_counts_as_measured_last(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path, asked("digits", seed=seed), 0.5)
    for repetition, accuracy in ((1, 0.6), (2, 0.7)):
        write(tmp_path, asked("digits", seed=1, repetition=repetition), accuracy)
    rows = read_results(tmp_path)
    assert rows.groupby("seed")["repetition"].unique().map(list).to_dict() == {0: [0], 1: [2]}
    table = summarize(rows)
    assert table["quality_mean"].tolist() == pytest.approx([0.6])
    assert table["seeds"].tolist() == [2]
    assert set(table["setting"]) == {""}


def test_a_metric_of_the_users_own_is_what_is_reported(tmp_path: Path) -> None:
    chain = asked("digits")
    write(tmp_path, chain, 0.5)
    own = [Measurement("evaluate", OWN_METRIC, 7.5, "score")]
    with (tmp_path / chain.id / "results.csv").open("a") as file:
        file.write(to_csv(chain, own).split("\n", 1)[1])
    table = summarize(read_results(tmp_path))
    assert (table["metric"][0], table["quality_mean"][0]) == (OWN_METRIC, 7.5)
    assert math.isnan(table["constant_mean"][0])


def test_how_a_model_is_measured_is_said_where_it_differs(tmp_path: Path) -> None:
    for options in ({}, {"inference_threads": 2}, {"country": "DEU"}):
        write(tmp_path, asked("digits", **options), 0.5)
    table = summarize(read_results(tmp_path))
    assert set(table["setting"]) == {
        "country=, inference_threads=1",
        "country=, inference_threads=2",
        "country=DEU, inference_threads=1",
    }


def test_what_came_before_the_last_method_is_said_where_it_differs(tmp_path: Path) -> None:
    for sparsity in (0.3, 0.6):
        write(tmp_path, asked("digits", "gcn", "quantize", sparsity, scheme="ptq-int8"), 0.5)
    table = summarize(read_results(tmp_path))
    assert table["scheme"].tolist() == ["ptq-int8", "ptq-int8"]
    assert table["sparsity"].tolist() == [0.3, 0.6]
