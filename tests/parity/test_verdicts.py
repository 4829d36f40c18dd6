"""Answers of two workers are compared whole: what is missing or could not be done is told, too."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from tests.parity.comparing import COLUMNS
from tests.parity.intended import Intended, judge
from tests.parity.specs import Command, Spec
from tests.parity.verdicts import compare_answers, table

SPEC = Spec(
    "toy", (Command("train"), Command("report", shows="json")), keeps=(("table.csv", "csv"), ("m.pt", "tensors"))
)
ROW = "0123456789abcdef,digits,node-classification,gcn,none,,0.0,false,0,evaluate,,accuracy,0.5,fraction,measured"
RUN = {
    "folder": "runs/0123456789abcdef",
    "rows": ",".join(COLUMNS) + f"\n{ROW}\n",
    "tensors": [["lin.weight", "torch.float32", [2, 2], "aa"]],
}
ANSWER: dict[str, Any] = {
    "done": [
        {"code": 0, "out": "done\n", "err": "", "runs": [RUN]},
        {"code": 0, "out": '{"quality": 0.5}', "err": "", "runs": []},
    ],
    "files": {"table.csv": {"text": "quality\n0.5\n"}, "m.pt": {"tensors": [["w", "torch.int8", [2], "cc"]]}},
    "error": "",
    "seconds": 1.5,
}


def answer(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy({**ANSWER, **changes})


def test_equal_answers_have_no_differences_and_are_counted() -> None:
    verdict = compare_answers(SPEC, answer(), answer())
    assert not verdict.found.differences
    assert not verdict.problems
    assert (verdict.found.runs, verdict.found.rows, verdict.found.tensors, verdict.found.lines) == (1, 1, 2, 3)


def test_changes_are_found_wherever_they_are() -> None:
    row = answer()
    row["done"][0]["runs"][0]["rows"] = RUN["rows"].replace("0.5,", "0.75,")
    bit = answer()
    bit["done"][0]["runs"][0]["tensors"][0][3] = "ab"
    shown = answer()
    shown["done"][1]["out"] = '{"quality": 0.6}'
    table_file = answer()
    table_file["files"]["table.csv"]["text"] = "quality\n0.6\n"
    lost = answer(files={**ANSWER["files"], "m.pt": None})
    for new, item in ((row, "row"), (bit, "tensor"), (shown, "out"), (table_file, "file"), (lost, "file")):
        found = compare_answers(SPEC, answer(), new).found.differences
        assert [one.item for one in found] == [item]


def test_what_could_not_be_done_is_a_problem() -> None:
    stopped = answer(done=ANSWER["done"][:1], error="ValueError: 0 runs have the labels")
    assert "new side, after 1 commands: ValueError" in compare_answers(SPEC, answer(), stopped).problems[0]
    failed = answer()
    failed["done"][1] |= {"code": 1, "err": "warning: x\nerror: no such thing\n"}
    problems = compare_answers(SPEC, failed, failed).problems
    assert problems == ["command 2 ended with 1, not 0, and said: error: no such thing"]
    odd = answer()
    odd["done"][0]["runs"][0]["rows"] = "a,b\n1,2\n"
    assert "run runs/0123456789abcdef: the columns are not" in compare_answers(SPEC, answer(), odd).problems[0]


def test_another_exit_code_on_the_new_side_is_a_difference() -> None:
    failed = answer()
    failed["done"][0]["code"] = 1
    verdict = compare_answers(SPEC, answer(), failed)
    assert [one.item for one in verdict.found.differences] == ["exit"]
    assert not verdict.problems


def test_a_spec_with_nothing_to_compare_is_a_problem() -> None:
    silent = Spec("silent", (Command("doctor", shows="nothing"),))
    nothing = answer(done=[{"code": 0, "out": "x", "err": "", "runs": []}], files={})
    assert compare_answers(silent, nothing, nothing).problems == ["there was nothing to compare"]


def test_a_file_that_neither_side_wrote_is_a_difference() -> None:
    lost = answer(files={**ANSWER["files"], "m.pt": None})
    assert [one.place for one in compare_answers(SPEC, lost, lost).found.differences] == ["m.pt"]


def test_the_table_has_a_line_a_spec_and_the_sums() -> None:
    changed = answer()
    changed["done"][0]["out"] = "other"
    other = replace(SPEC, name="other")
    verdicts = [compare_answers(SPEC, answer(), changed), compare_answers(other, answer(), answer())]
    judged = judge([one for verdict in verdicts for one in verdict.found.differences], [Intended("words", item="out")])
    lines = [line.split() for line in table(verdicts, judged).splitlines()]
    assert lines[1][:3] == ["toy", "1", "1"]
    assert lines[-1] == ["all", "2", "2", "4", "6", "1", "0", "3.0", "3.0"]
