from __future__ import annotations

import json
from pathlib import Path

import pytest

from gnncompress.errors import UsageError
from gnncompress.experiments.allocation import read_allocation, write_allocation
from gnncompress.experiments.levels import PAPER_RATES, parse_levels, parse_rates
from gnncompress.experiments.stages import Chain
from tests.experiments.helpers import asked


def pruned(**options: object) -> Chain:
    return asked("digits", method=options.pop("method", None), sparsity=0.5, **options)  # type: ignore[arg-type]


def test_defaults_are_no_settings() -> None:
    plain = pruned()
    assert (plain.method, plain.scheme, plain.compressions[0].config) == ("global", "", {})
    assert pruned(importance="magnitude", min_keep=0.0, steps=1, allocation="global").id == plain.id


def test_settings_and_their_short_form() -> None:
    spec = pruned(allocation="erk", importance="taylor", min_keep=0.05, steps=3)
    assert spec.method == "fine-grained"
    (stage,) = spec.compressions
    assert stage.config == {"allocation": "erk", "importance": "taylor", "min_keep": 0.05, "steps": 3}
    assert spec.scheme == "taylor erk min_keep=0.05 steps=3"


def test_a_number_is_one_run_however_it_is_written() -> None:
    assert asked("digits", method="l2", rate=1).id == asked("digits", method="l2", rate=1.0).id


def test_origins() -> None:
    spec = pruned()
    assert spec.model.parent == spec.base.model
    assert spec.base.model.parent is None
    alone = asked("digits", method="l2", rate=0.1)
    assert (alone.method, alone.scheme, alone.model.parent) == ("l2", "rate=0.1", None)
    followed = asked("digits", method="l2", rate=0.1, sparsity=0.5)
    assert followed.model.parent == alone.model


def test_allocation_files(tmp_path: Path) -> None:
    file = tmp_path / "budgets.json"
    write_allocation(file, 0.9, {"convs.0.lin.weight": 0.95})
    assert read_allocation(file).layers == {"convs.0.lin.weight": 0.95}
    spec = pruned(allocation=str(file))
    assert spec.compressions[0].config == {"allocation": "given", "layers": {"convs.0.lin.weight": 0.95}}
    moved = tmp_path / "elsewhere.json"
    moved.write_text(file.read_text())
    assert pruned(allocation=str(moved)).id == spec.id, "content names a run, not where it lies"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "Invalid JSON"),
        ("{}", "sparsity: Field required"),
        (json.dumps({"sparsity": 0.5, "layers": {}}), "layers: Dictionary should have at least 1 item"),
        (json.dumps({"sparsity": 0.5, "layers": {"a": 1.0}}), "layers.a: Input should be less than 1"),
        (json.dumps({"sparsity": 1.5, "layers": {"a": 0.5}}), "sparsity: Input should be less than 1"),
        (json.dumps({"sparsity": 0.5, "layers": {"a": 0.5}, "more": 1}), "more: Extra inputs are not permitted"),
    ],
)
def test_bad_allocation_files(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "budgets.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=f"--allocation {file}: {message}.*it must be"):
        pruned(allocation=str(file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allocation": "ekr"}, "--allocation ekr: neither global, uniform, erk, lamp-score nor a file"),
        ({"method": "global", "allocation": "erk"}, "--allocation erk makes the method fine-grained, not global"),
        ({"importance": "l1"}, r"importance: unknown importance 'l1'; there is: gradient, magnitude, random, taylor"),
        ({"method": "structured", "importance": "gradient"}, "unknown importance 'gradient'"),
        ({"rate": 0.1}, "rate: method global has no such option; it belongs to l2"),
        (
            {"method": "structured", "steps": 2},
            "steps: method structured has no such option; it belongs to global, fine",
        ),
        ({"method": "l2"}, "rate: method l2 needs it"),
        ({"method": "l2", "rate": "much"}, "rate much: must be a number"),
        ({"method": "l2", "rate": float("inf")}, "rate inf: must be a finite number, at least 0"),
        ({"min_keep": 7}, "min_keep 7: must be a finite number, at least 0 and below 1"),
        ({"steps": 2.5}, "steps 2.5: must be a whole number, at least 1"),
        ({"method": "l2", "rate": 0.1, "allocation": "erk"}, "makes the method fine-grained, not l2"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pruned(**options)


def test_rates() -> None:
    assert parse_rates("paper") == list(PAPER_RATES)
    assert len(PAPER_RATES) == 19
    assert parse_rates("0,1e-3,0.1:0.3:0.1") == [0, 0.001, 0.1, 0.2, 0.3]
    with pytest.raises(UsageError, match=r"--rate -1: -1 is negative; a rate is at least 0"):
        parse_rates("-1")
    with pytest.raises(UsageError, match=r"--rate inf: 'inf' is not a rate; use 1e-3"):
        parse_rates("inf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("50", r"--sparsity 50: 50 must be at least 0 and below 1; did you mean 0\.5\?"),
        ("0.9:0:0.1", "the first of '0.9:0:0.1' is above its last; write first:last:step"),
    ],
)
def test_levels_that_are_nearly_right(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_levels(text)


def test_a_data_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"data_root {tmp_path / 'no'}: no such folder"):
        asked("digits", data_root=tmp_path / "no")


@pytest.mark.parametrize(("word", "task"), [("node", "node-classification"), ("link", "link-prediction")])
def test_tasks_by_their_first_word(word: str, task: str) -> None:
    assert asked("digits", task=word).workload.task == asked("digits", task=task).workload.task == task
