"""The comparison finds what differs, and nothing else. No commands are run and nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from gnncompress import measurements
from tests.parity.comparing import (
    COLUMNS,
    MEASURED,
    Compared,
    Difference,
    Done,
    Run,
    Tensor,
    compare_commands,
    compare_documents,
    compare_runs,
    csv_fields,
    is_measured,
    json_fields,
    masked_lines,
    parse_rows,
    run_of,
)

ROWS = (
    ("train", "", "epochs", "3", "epochs", "measured"),
    ("train", "", "duration", "0.0663", "s", "measured"),
    ("compress", "lin.weight", "sparsity", "0.5", "fraction", "computed"),
    ("compress", "head.weight", "sparsity", "0.25", "fraction", "computed"),
    ("evaluate", "", "accuracy", "0.6575", "fraction", "measured"),
    ("inference", "", "energy", "", "J", "unavailable"),
    ("inference", "", "memory_peak", "16527360", "bytes", "measured"),
    ("inference", "", "cpu_foreign", "12.5", "percent", "measured"),
    ("checkpoint", "", "checkpoint_size", "16326", "bytes", "measured"),
)
LABELS = ("digits", "node-classification", "gcn", "global", "", "0.5", "true", "0")
TENSORS = (
    Tensor("lin.weight", "torch.float32", (4, 2), "aa"),
    Tensor("lin.bias", "torch.float32", (4,), "bb"),
)
RUN_ID = "0123456789abcdef"

Rows = tuple[tuple[str, ...], ...]


def run(rows: Rows = ROWS, labels: tuple[str, ...] = LABELS, name: str = RUN_ID, tensors: object = TENSORS) -> Run:
    head = (name, *labels)
    return run_of([dict(zip(COLUMNS, (*head, *row), strict=True)) for row in rows], tensors)  # type: ignore[arg-type]


def changed(place: int, **cells: str) -> Rows:
    """Return the rows with other cells in one of them."""
    names = ("phase", "layer", "metric", "value", "unit", "source")
    row = tuple(cells.get(name, cell) for name, cell in zip(names, ROWS[place], strict=True))
    return (*ROWS[:place], row, *ROWS[place + 1 :])


def compared(old: list[Run], new: list[Run]) -> Compared:
    return compare_runs("spec", 1, old, new)


def only(found: Compared) -> Difference:
    assert len(found.differences) == 1, found.differences
    return found.differences[0]


def test_columns_are_those_of_the_package() -> None:
    assert COLUMNS == measurements.COLUMNS


def test_equal_runs_differ_in_their_names_alone() -> None:
    found = compared([run(name="1" * 16)], [run(name="2" * 16)])
    assert not found.differences
    assert (found.runs, found.rows, found.tensors) == (1, len(ROWS), 2)


@pytest.mark.parametrize(
    ("place", "cells", "where"),
    [
        (0, {"value": "4"}, "train/epochs"),
        (0, {"value": "3.0"}, "train/epochs"),  # the same number, and another text
        (2, {"value": "0.5000000000000001"}, "compress/sparsity (lin.weight)"),
        (4, {"value": ""}, "evaluate/accuracy"),
        (4, {"source": "computed"}, "evaluate/accuracy"),
        (4, {"unit": "percentage"}, "evaluate/accuracy"),
        (8, {"value": "16327"}, "checkpoint/checkpoint_size"),
        # Of measured figures only the number may be another one.
        (1, {"value": ""}, "train/duration"),
        (1, {"unit": "items/s"}, "train/duration"),
        (1, {"source": "estimated"}, "train/duration"),
        (5, {"value": "0.1", "source": "rapl"}, "inference/energy"),
        (6, {"value": "", "source": "unavailable"}, "inference/memory_peak"),
        (7, {"unit": "fraction"}, "inference/cpu_foreign"),
    ],
)
def test_a_changed_cell_is_found(place: int, cells: dict[str, str], where: str) -> None:
    difference = only(compared([run()], [run(changed(place, **cells))]))
    assert (difference.item, difference.kind, difference.place) == ("row", "value", where)
    assert difference.run == "digits node-classification gcn global 0.5 true seed 0"


@pytest.mark.parametrize(("place", "value"), [(1, "7.25"), (6, "1")])
def test_a_measured_figure_may_differ(place: int, value: str) -> None:
    assert not compared([run()], [run(changed(place, value=value))]).differences


def test_what_a_short_window_may_not_yield_may_be_unavailable() -> None:
    assert not compared([run()], [run(changed(7, value="", source="unavailable"))]).differences


def test_a_missing_and_an_additional_row_are_found() -> None:
    fewer = run(ROWS[1:])
    lost, won = only(compared([run()], [fewer])), only(compared([fewer], [run()]))
    assert (lost.kind, lost.place, lost.old) == ("only-old", "train/epochs", "3 epochs (measured)")
    assert (won.kind, won.place, won.new) == ("only-new", "train/epochs", "3 epochs (measured)")
    assert "3 epochs" in str(lost)


def test_duplicated_rows_are_matched_in_order() -> None:
    twice = (*ROWS, ("evaluate", "", "accuracy", "0.5", "fraction", "measured"))
    assert not compared([run(twice)], [run(twice)]).differences
    assert only(compared([run(twice)], [run()])).kind == "only-old"
    swapped = (*changed(4, value="0.5"), ("evaluate", "", "accuracy", "0.6575", "fraction", "measured"))
    assert len(compared([run(twice)], [run(swapped)]).differences) == 2


def test_another_label_is_a_run_missing_and_one_too_many() -> None:
    other = run(labels=(*LABELS[:5], "0.7", *LABELS[6:]))
    found = compared([run()], [other])
    assert [(one.item, one.kind) for one in found.differences] == [("run", "only-old"), ("run", "only-new")]
    assert "9 rows, 2 tensors" in str(found.differences[0])
    assert found.rows == 0


def test_runs_with_the_same_labels_are_matched_by_what_is_equal() -> None:
    one, other = run(name="1" * 16), run(changed(4, value="0.7"), name="2" * 16)
    assert not compared([one, other], [other, one]).differences
    third = run(changed(4, value="0.8"))
    difference = only(compared([one, other], [third, one]))
    assert (difference.old, difference.new) == ("0.7 fraction (measured)", "0.8 fraction (measured)")
    assert only(compared([one, other], [other])).kind == "only-old"


@pytest.mark.parametrize(
    ("change", "kind", "old"),
    [
        (lambda tensors: (replace(tensors[0], digest="ab"), tensors[1]), "value", "bytes aa"),
        (lambda tensors: (replace(tensors[0], shape=(2, 4)), tensors[1]), "value", "torch.float32 [4, 2]"),
        (lambda tensors: (replace(tensors[0], dtype="torch.int8"), tensors[1]), "value", "torch.float32 [4, 2]"),
        (lambda tensors: tensors[1:], "only-old", "torch.float32 [4, 2]"),
    ],
)
def test_a_changed_tensor_is_found(change: Callable, kind: str, old: str) -> None:
    difference = only(compared([run()], [run(tensors=change(TENSORS))]))
    assert (difference.item, difference.kind, difference.place) == ("tensor", kind, "lin.weight")
    assert difference.old == old


def test_the_order_of_tensors_does_not_matter_and_a_missing_model_does() -> None:
    assert not compared([run()], [run(tensors=TENSORS[::-1])]).differences
    lost = only(compared([run()], [run(tensors=None)]))
    assert (lost.item, lost.kind) == ("model", "only-old")
    assert not compared([run(tensors=None)], [run(tensors=None)]).differences


def test_rows_of_several_runs_in_one_file_are_refused() -> None:
    rows = [*run().rows, *run(labels=(*LABELS[:-1], "1")).rows]
    with pytest.raises(ValueError, match="2 different sets"):
        run_of(rows, None)
    with pytest.raises(ValueError, match="0 different sets"):
        run_of([], None)


def test_rows_are_read_as_text_and_other_columns_refused() -> None:
    text = ",".join(COLUMNS) + "\n" + ",".join(["id", *LABELS, *ROWS[0]]) + "\n"
    assert parse_rows(text)[0]["value"] == "3"
    for broken in (text.replace("unit", "units"), text.replace(",measured", ""), text + "cut,off\n", ""):
        with pytest.raises(ValueError, match="the columns are not"):
            parse_rows(broken)


# ------------------------------------------------------------------------------------------------------- documents


def documents(form: str, old: str, new: str) -> Compared:
    return compare_documents(Difference("spec", 1, "out", "", ""), form, old, new)


def test_text_is_compared_without_widths_measured_figures_and_names() -> None:
    old = "method  accuracy  latency  CPU   memory\n───────────\nnone    0.657   3.77 ms  99%  16.5 MB\n"
    new = "method  accuracy   latency   CPU    memory\n─────────────\n\nnone    0.657   12.1 ms  100%  9 kB\n"
    assert not documents("text", old, new).differences
    difference = only(documents("text", old, new.replace("0.657", "0.658")))
    assert (difference.item, difference.kind, difference.place) == ("out", "value", "line 3")
    assert not documents("text", f"B {RUN_ID} of 2", "B fedcba9876543210 of 2").differences


def test_a_line_more_is_one_difference_and_not_many() -> None:
    difference = only(documents("text", "a\nb\nc\n", "a\nnew\nb\nc\n"))
    assert (difference.kind, difference.new) == ("only-new", "new")


def test_lines_on_what_the_machine_did_meanwhile_are_left_out() -> None:
    noise = "warning: digits gcn: other processes took more than 10 % of a core meanwhile"
    assert masked_lines(f"one\n{noise}\ntwo") == ["one", "two"]


@pytest.mark.parametrize("text", ["3.77 ms", "16,5 kB", "16.5 MB", "99%", "0.5 J", "3 s", r"99\%", "1.2e-05 s"])
def test_quantities_with_units_are_masked(text: str) -> None:
    assert masked_lines(f"| {text} |") == [f"| {MEASURED} |"]


@pytest.mark.parametrize("text", ["2.23x", "0.657", "64 x 10", "seed 3", "5 layers", "dq-int8", "24 bits", "4,810"])
def test_other_numbers_are_not_masked(text: str) -> None:
    assert masked_lines(text) == [text]


def test_json_is_compared_leaf_by_leaf() -> None:
    old = {"runs": [{"run_id": RUN_ID, "spec": {"a": 1}, "metrics": {"train.duration": 0.1, "evaluate.loss": 1.5}}]}
    new = {"runs": [{"run_id": "ff", "spec": {}, "metrics": {"train.duration": 0.2, "evaluate.loss": 1.5}}]}
    assert not documents("json", json.dumps(old), json.dumps(new)).differences
    new["runs"][0]["metrics"]["evaluate.loss"] = 1.25
    difference = only(documents("json", json.dumps(old), json.dumps(new)))
    assert difference.place == "runs/0/metrics/evaluate.loss"
    new["runs"][0]["metrics"] = {"train.duration": None, "evaluate.loss": 1.5}
    assert only(documents("json", json.dumps(old), json.dumps(new))).place == "runs/0/metrics/train.duration"
    assert only(documents("json", json.dumps(old), "oops")).place == "no json"


def test_of_a_measured_figure_in_json_the_name_unit_and_source_count() -> None:
    figure = {"metric": "latency_median", "unit": "s", "a": 1.0, "verdict": "B is faster", "source": "measured"}
    exact = {"metric": "checkpoint_size", "unit": "bytes", "a": 5, "source": "measured"}
    old = json.dumps({"figures": [figure, exact], "notes": ["said", "calls were not yet stable after 300"]})
    new = json.dumps({"figures": [{**figure, "a": 2.0, "verdict": "no difference"}, exact], "notes": ["said"]})
    assert json_fields(old) == json_fields(new)
    for broken in ({**figure, "source": "estimated"}, {name: figure[name] for name in figure if name != "a"}):
        assert json_fields(json.dumps({"figures": [broken, exact], "notes": ["said"]})) != json_fields(new)
    less = {**exact, "a": 6}
    assert json_fields(json.dumps({"figures": [figure, less], "notes": ["said"]})) != json_fields(new)


def test_a_table_is_compared_cell_by_cell() -> None:
    old = "method,quality_mean,latency_s,energy_source\nnone,0.5,0.1,unavailable\n"
    assert csv_fields(old) == csv_fields(old.replace("0.1", "0.2"))
    assert csv_fields(old) != csv_fields(old.replace("0.1", ""))
    assert only(documents("csv", old, old.replace("0.5", "0.6"))).place == "row 1/quality_mean"
    assert only(documents("csv", old, "")).place == "no csv"


def test_rows_in_a_table_are_compared_by_their_metric() -> None:
    head, identity = ",".join(COLUMNS), ",".join(["id", *LABELS])
    old = "\n".join([head, f"{identity},profile,,duration,0.5,s,measured", f"{identity},profile,,status,3,,measured"])
    assert csv_fields(old) == csv_fields(old.replace("0.5,s", "0.7,s").replace("\nid,", "\nother,"))
    assert csv_fields(old) != csv_fields(old.replace("status,3", "status,4"))


# -------------------------------------------------------------------------------------------------------- commands


def done(**other: object) -> Done:
    return replace(Done(0, "out\n", "err\n", (run(),)), **other)


def test_of_a_command_its_code_output_and_runs_are_compared() -> None:
    assert not compare_commands("spec", 1, done(), done(), "text", True).differences
    changes = {"exit": {"code": 1}, "out": {"out": "other"}, "err": {"err": "other"}, "run": {"runs": ()}}
    for item, other in changes.items():
        assert only(compare_commands("spec", 1, done(), done(**other), "text", True)).item == item
    assert not compare_commands("spec", 1, done(), done(out="other", err="other"), "nothing", False).differences


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *(("accuracy", "fraction"), ("loss", "nats"), ("epochs", "epochs"), ("best_epoch", "epochs")),
        *(
            ("checkpoint_size", "bytes"),
            ("dense_size", "bytes"),
            ("values_only_size", "bytes"),
            ("size_ratio", "ratio"),
        ),
        *(("bits_average_weights", "bits"), ("macs", "MACs"), ("threshold", "logit"), ("saturation", "ratio")),
        *(("threads", "threads"), ("items_per_call", "items"), ("energy_windows", "windows"), ("diverged", "runs")),
        *(("energy_source", ""), ("quality_mean", ""), ("size_bytes", ""), ("exit_status", "status")),
    ],
)
def test_what_is_computed_is_not_taken_for_measured(name: str, unit: str) -> None:
    assert not is_measured(name, unit)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *(("epoch_cpu_duration", "s"), ("latency_p95", "s"), ("throughput", "items/s"), ("energy_window", "s")),
        *(("memory_baseline", "bytes"), ("memory_peak_sampled", "bytes"), ("memory_peak_process", "bytes")),
        *(("repetitions", "calls"), ("context_switches_voluntary", "switches"), ("co2_low", "g"), ("power", "W")),
        *(("latency_s", ""), ("memory_bytes", ""), ("cpu_percent", ""), ("energy_j", "")),
    ],
)
def test_what_is_measured_is_known_by_name_and_unit(name: str, unit: str) -> None:
    assert is_measured(name, unit)
    assert is_measured(name)
