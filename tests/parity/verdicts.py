"""The answers of the two sides to a spec, compared and counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.parity.comparing import (
    Compared,
    Difference,
    Done,
    Tensor,
    compare_commands,
    compare_documents,
    compare_tensors,
    parse_rows,
    run_of,
)
from tests.parity.intended import Judged
from tests.parity.specs import Spec


@dataclass
class Verdict:
    """What was compared of a spec; ``problems`` say why it could not be; ``seconds`` of processor time, old and new."""

    spec: str
    found: Compared = field(default_factory=Compared)
    problems: list[str] = field(default_factory=list)
    seconds: tuple[float, float] = (0.0, 0.0)


def compare_answers(spec: Spec, old: Mapping[str, Any], new: Mapping[str, Any]) -> Verdict:
    """Compare what the workers of both sides answered for a spec."""
    verdict = Verdict(spec.name, seconds=(old["seconds"], new["seconds"]))
    for side, answer in (("old", old), ("new", new)):
        if answer["error"]:
            verdict.problems.append(f"{side} side, after {len(answer['done'])} commands: {answer['error']}")
    both = zip(spec.commands, old["done"], new["done"], strict=False)  # a side that failed has done fewer
    for number, (command, one, other) in enumerate(both, start=1):
        if one["code"] != command.code:
            said = (one["err"].strip().splitlines() or ["nothing"])[-1]
            verdict.problems.append(f"command {number} ended with {one['code']}, not {command.code}, and said: {said}")
        try:
            olden, newer = _done(one), _done(other)
        except ValueError as error:
            verdict.problems.append(f"command {number}: {error}")
            continue
        tells = command.tells or command.code != 0
        verdict.found.add(compare_commands(spec.name, number, olden, newer, command.shows, tells))
    if not verdict.problems:
        for name, form in spec.keeps:
            verdict.found.add(_files(Difference(spec.name, 0, "file", "", name), form, old["files"], new["files"]))
    if not (verdict.found.rows or verdict.found.lines or verdict.problems):
        verdict.problems.append("there was nothing to compare")
    return verdict


def _done(answer: Mapping[str, Any]) -> Done:
    runs = []
    for run in answer["runs"]:
        try:
            runs.append(run_of(parse_rows(run["rows"]), _tensors(run["tensors"])))
        except ValueError as error:
            raise ValueError(f"run {run['folder']}: {error}") from error
    return Done(answer["code"], answer["out"], answer["err"], tuple(runs))


def _tensors(listed: Sequence[Sequence[Any]] | None) -> tuple[Tensor, ...] | None:
    if listed is None:
        return None
    return tuple(Tensor(name, dtype, tuple(shape), digest) for name, dtype, shape, digest in listed)


def _files(at: Difference, form: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Compared:
    one, other = old[at.place], new[at.place]
    if one is None or other is None:
        kind = "value" if one is other else "only-new" if one is None else "only-old"
        return Compared([Difference(at.spec, 0, "file", kind, at.place, "a file", "a file")])
    if form == "tensors":
        return compare_tensors(at, _tensors(one["tensors"]) or (), _tensors(other["tensors"]) or ())
    return compare_documents(at, form, one["text"], other["text"])


def table(verdicts: Sequence[Verdict], judged: Judged) -> str:
    """Return the summary as text: a line a spec, and the sums."""
    heads = ("spec", "runs", "rows", "tensors", "lines", "intended", "different", "CPU s old", "new")
    lines = [heads, *(_line(verdict, judged) for verdict in verdicts)]
    sums = [sum(float(line[place]) for line in lines[1:]) for place in range(1, len(heads))]
    lines.append(("all", *(f"{number:.1f}" if place >= 6 else f"{number:.0f}" for place, number in enumerate(sums))))
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads))]
    return "\n".join("  ".join(_cells(line, widths)).rstrip() for line in lines)


def _line(verdict: Verdict, judged: Judged) -> tuple[str, ...]:
    meant = sum(difference.spec == verdict.spec for difference, _ in judged.meant)
    unmeant = sum(difference.spec == verdict.spec for difference in judged.unmeant)
    found = verdict.found
    numbers = (found.runs, found.rows, found.tensors, found.lines, meant, unmeant)
    return (verdict.spec, *map(str, numbers), *(f"{seconds:.1f}" for seconds in verdict.seconds))


def _cells(line: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    yield line[0].ljust(widths[0])
    yield from (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
