"""Rows read back: damaged, hostile and foreign files are named in one line; names of any kind come back as they are."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.errors import ResultsError
from gnncompress.measurements import COLUMNS, Measurement, csv_rows
from gnncompress.reporting import read_results, summarize
from gnncompress.reporting.render import FORMATS, render
from gnncompress.reporting.results import setting_of

ROWS = [Measurement("evaluate", "accuracy", 0.5, "fraction")]


def write(folder: Path, model: str = "gcn", run_id: str = "0" * 16, dataset: str = "digits", seed: object = 0) -> Path:
    run = folder / run_id
    run.mkdir(parents=True, exist_ok=True)
    identity = [run_id, dataset, "node-classification", model, "none", "", 0.0, "false", seed]
    text = csv_rows(identity, ROWS, header=True)
    (run / "results.csv").write_bytes(text.encode())
    return run


@pytest.mark.parametrize(
    ("put", "what"),
    [
        (os.mkfifo, "a pipe, not a file"),
        (Path.mkdir, "a folder, not a file"),
        (lambda place: place.symlink_to("nothing"), "No such file or directory"),
        (lambda place: place.symlink_to("/dev/zero"), "a device, not a file"),
    ],
)
@pytest.mark.parametrize("name", ["results.csv", "spec.json"])
def test_what_is_no_file_is_named_and_not_waited_for(
    put: Callable[[Path], None], what: str, name: str, tmp_path: Path
) -> None:
    run = write(tmp_path)
    (run / name).unlink(missing_ok=True)
    put(run / name)
    for place in (tmp_path, run):
        with pytest.raises(ResultsError, match=rf"{name}: cannot be read as .*\({what}\)"):
            read_results(place)


def test_of_other_runs_nothing_is_asked(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "other").mkdir()
    os.mkfifo(tmp_path / "other" / "results.csv")
    assert len(read_results(tmp_path, only={"0" * 16})) == 1


@pytest.mark.parametrize("text", [b"[1]", b"[" * 200_000, b'{"a":' * 200_000 + b"1", b"\xff\xfe", b"{", b"3", b"null"])
def test_a_spec_that_is_none_is_named(text: bytes, tmp_path: Path) -> None:
    (write(tmp_path) / "spec.json").write_bytes(text)
    with pytest.raises(ResultsError, match=r"spec\.json: cannot be read as a spec") as raised:
        read_results(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("seed", ["9" * 30, "9" * 5000, "many", "", "0.5", "nan", "inf"])
def test_a_seed_that_is_none_is_named(seed: str, tmp_path: Path) -> None:
    write(tmp_path, seed=seed)
    with pytest.raises(ResultsError, match=r"results\.csv: cannot be read as results"):
        read_results(tmp_path)


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 40))
def test_damage_is_named_or_harmless(tmp_path_factory: pytest.TempPathFactory, new: bytes, at: int, cut: int) -> None:
    folder = tmp_path_factory.mktemp("runs")
    file = write(folder) / "results.csv"
    content = file.read_bytes()
    file.write_bytes(content[:at] + new + content[at + cut :])
    try:
        summary = summarize(read_results(folder))
    except ResultsError as error:
        said = str(error)
    else:
        said = ""
        for style in FORMATS:
            render(summary, style)
    assert "\n" not in said


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


@given(names, names)
def test_names_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, model: str, dataset: str
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    write(folder, model, dataset=dataset)
    rows = read_results(folder)
    assert (rows["model"][0], rows["dataset"][0]) == (model, dataset)


HOSTILE = ["[/]", "[red]x[/red]", ":smile:", "\x1b[31mred", "a\rb", "=cmd|' /C calc'!A0", "+1+1", "-x", "@SUM(A1)"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("style", FORMATS)
def test_hostile_names_are_rendered_literally(name: str, style: str, tmp_path: Path) -> None:
    write(tmp_path, name, "0" * 16)
    write(tmp_path, "gcn", "1" * 16, dataset=name)
    text = render(summarize(read_results(tmp_path)), style)
    assert all(one.isprintable() or one == "\n" for one in text)
    if style == "json":
        assert json.loads(text)[1]["model"] == name or json.loads(text)[0]["model"] == name
    elif style == "csv":
        cells = [cell for line in csv.DictReader(io.StringIO(text)) for cell in (line["model"], line["dataset"])]
        shown = name.replace("\x1b", "\\x1b").replace("\r", "\\r")
        assert cells.count(f"'{shown}" if name[0] in "=+-@" else shown) == 2
    elif style == "table" and name.startswith(("[", ":")):
        assert text.count(name) == 2


def test_numbers_of_an_export_are_bare(tmp_path: Path) -> None:
    write(tmp_path)
    (line,) = csv.DictReader(io.StringIO(render(summarize(read_results(tmp_path)), "csv")))
    assert (line["quality_mean"], line["sparsity"], line["seeds"]) == ("0.5", "0.0", "1")
    assert not any(cell.startswith("'") for cell in line.values())


def test_what_is_written_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(csv_rows(["0", "=x", "t", "=cmd|x", "none", "", 0.0, "false", 0], ROWS, header=True))
    assert f"{','.join(COLUMNS)}\n0,=x,t,=cmd|x,none," in (tmp_path / "x").read_text()


def spec(**changes: object) -> dict[str, object]:
    """Return what is written of a run that prunes and then quantizes."""
    stages = [
        {"stage": "train"},
        {"stage": "compress", "method": "global", "config": {"sparsity": 0.3}, "finetune": {"epochs": 3}},
        {"stage": "compress", "method": "quantize", "config": {"head_bits": 4}, "finetune": None},
        {"stage": "measure", "threads": 2, "batch": 8, "country": "DE", "repetition": 3},
    ]
    workload = {"dataset": "digits", "threads": 1, "seed": 5, "split": {"kind": "random", "seed": 5}}
    return {"format": 6, "workload": workload, "stages": stages, **changes}


def test_what_a_run_was_without_its_seed_and_repetition() -> None:
    written = spec()
    assert setting_of(written) == {
        "format": 6,
        "dataset": "digits",
        "threads": 1,
        "split": {"kind": "random", "seed": "each its own"},
        "inference_threads": 2,
        "inference_batch": 8,
        "country": "DE",
        "config": {"head_bits": 4},
        "finetune": None,
        "before": {
            "0.train": {},
            "1.global": {"config": {"sparsity": 0.3}, "finetune": {"epochs": 3}},
        },
    }
    assert written == spec(), "what is given stays as it is"


def test_a_split_of_its_own_is_told() -> None:
    workload = {"dataset": "digits", "seed": 5, "split": {"kind": "random", "seed": 4}}
    assert setting_of(spec(workload=workload))["split"] == {"kind": "random", "seed": 4}


def test_specs_of_earlier_versions_are_read_and_told_apart(tmp_path: Path) -> None:
    old = {"version": 5, "dataset": "digits", "seed": 0, "recipe": {"epochs": 7}, "settings": {}}
    for number, text in enumerate((json.dumps(old), json.dumps(spec()))):
        (write(tmp_path, run_id=str(number) * 16) / "spec.json").write_text(text)
    summary = summarize(read_results(tmp_path))
    assert summary["setting"].tolist() == ["format=5", "format=6"]
    assert set(read_results(tmp_path)["repetition"]) == {0, 3}


@pytest.mark.parametrize("stages", [[], None, 3, [3], [{"stage": "measure"}, 3]])
def test_stages_that_are_none_are_named(stages: object, tmp_path: Path) -> None:
    (write(tmp_path) / "spec.json").write_text(json.dumps(spec(stages=stages)))
    with pytest.raises(ResultsError, match=r"spec\.json: cannot be read as a spec"):
        read_results(tmp_path)
