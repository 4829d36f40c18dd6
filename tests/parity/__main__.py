"""Run the same commands with an older commit and with this checkout, and compare all that they leave behind.

``python -m tests.parity OLD_COMMIT``, from the root of the checkout, with GNNCOMPRESS_DATA set. Both sides run on this
machine, with one thread, the same data, and output and cache folders of their own. Rows of results.csv must be equal
but for what is measured (``comparing.MEASURED_NAMES``), tensors of packed models bit for bit, and printed text, JSON
and exported files but for measured figures and names of runs. Differences that are meant are listed, each with its
reason, in ``intended.py``; an entry that matches nothing in a full run is stale.

The old commit is extracted by ``git archive``. Which Python runs it: ``sides.python_for``. How commands are run, and
why in one process: ``worker.py``. The harness knows command lines, rows, packed models and printed text, and nothing of
the package's inside, which may be another on either side.

Exit status: 0 if all is equal or intended and no entry is stale, 1 if not, 2 if the harness cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.parity.intended import INTENDED, Judged, judge
from tests.parity.sides import (
    ParityError,
    Side,
    carry_out,
    checkout_root,
    commit_of,
    described,
    extract,
    python_for,
)
from tests.parity.specs import SPECS, Spec
from tests.parity.verdicts import Verdict, compare_answers, table

# Lines of differences that are printed; the file has all.
_SHOWN = 300


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the harness; return its exit status."""
    options = _options(arguments)
    if options.list:
        for spec in SPECS:
            print(spec.name, *(f"    gnncompress {command.line}" for command in spec.commands), sep="\n")
        return 0
    try:
        return _compare(options)
    except ParityError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("old_commit", nargs="?", help="the commit to compare this checkout with")
    parser.add_argument("--only", metavar="NAME,...", help="these specs alone; stale entries are then not looked for")
    parser.add_argument("--list", action="store_true", help="list the specs and their commands")
    parser.add_argument("--workdir", type=Path, help="folder for all outputs, new or empty; default: a temporary one")
    parser.add_argument("--jobs", type=int, default=2, help="workers; 1: one side after the other (default: 2)")
    parser.add_argument("--keep", action="store_true", help="keep the outputs of both sides")
    options = parser.parse_args(arguments)
    if not options.list and options.old_commit is None:
        parser.error("name the commit to compare with, such as HEAD~1")
    if options.jobs < 1:
        parser.error("--jobs: must be at least 1")
    return options


def chosen(only: str | None, specs: Sequence[Spec] = SPECS) -> list[Spec]:
    """Return the specs named, or all of them.

    Raises:
        ParityError: naming what there is not.
    """
    if only is None:
        return list(specs)
    names = [name.strip() for name in only.split(",")]
    unknown = [name for name in names if name not in {spec.name for spec in specs}]
    if unknown:
        raise ParityError(f"--only {', '.join(unknown)}: no such spec; --list shows them")
    return [spec for spec in specs if spec.name in names]


def _compare(options: argparse.Namespace) -> int:
    specs = chosen(options.only)
    if not os.environ.get("GNNCOMPRESS_DATA"):
        raise ParityError("set GNNCOMPRESS_DATA to the folder of raw data, which specs on Cora and MUTAG read")
    os.environ["GNNCOMPRESS_DATA"] = str(Path(os.environ["GNNCOMPRESS_DATA"]).resolve())
    root = checkout_root()
    commit = commit_of(root, options.old_commit)
    folder = options.workdir or Path(tempfile.mkdtemp(prefix="parity-"))
    if folder.exists() and any(folder.iterdir()):
        raise ParityError(f"--workdir {folder}: is not empty")
    folder = folder.resolve()
    extract(root, commit, folder / "old-tree")
    python = python_for(folder / "old-tree", root, folder / "old-environment", lambda text: print(text, flush=True))
    print(f"old: {commit[:12]}; new: {described(root)}; outputs: {folder}", flush=True)
    sides = (
        Side("old", folder / "old-tree", python, folder / "old"),
        Side("new", root, Path(sys.executable), folder / "new"),
    )
    lock = threading.Lock()
    first: dict[str, dict[str, Any]] = {}
    compared: dict[str, Verdict] = {}

    def finished(side: Side, spec: Spec, answer: dict[str, Any]) -> None:
        with lock:
            if spec.name not in first:
                first[spec.name] = answer
                return
            old, new = (answer, first.pop(spec.name))[:: 1 if side.name == "old" else -1]
            compared[spec.name] = verdict = compare_answers(spec, old, new)
            said = f"{len(verdict.found.differences)} differences, {len(verdict.problems)} problems"
            print(f"{len(compared)}/{len(specs)} {spec.name}: {verdict.found.rows} rows, {said}", flush=True)

    started = time.perf_counter()
    carry_out(sides, specs, options.jobs, finished)
    verdicts = [compared[spec.name] for spec in specs]
    judged = judge([one for verdict in verdicts for one in verdict.found.differences], INTENDED)
    status = _tell(verdicts, judged, whole=options.only is None, seconds=time.perf_counter() - started)
    summary = folder / "parity.json"
    _write(summary, commit, described(root), verdicts, judged, status)
    if not options.keep and status == 0:
        for name in ("old", "new", "old-tree", "old-environment"):
            shutil.rmtree(folder / name, ignore_errors=True)
    print(f"details: {summary}" + ("" if status == 0 else f"; outputs of both sides: {folder}"))
    return status


def _tell(verdicts: Sequence[Verdict], judged: Judged, whole: bool, seconds: float) -> int:
    """Print what was found; return the exit status."""
    print(f"\n{table(verdicts, judged)}\n")
    for entry in dict.fromkeys(entry for _, entry in judged.meant):
        meant = [difference for difference, reason in judged.meant if reason is entry]
        print(f"intended, {len(meant)} differences, {entry.reason} ({entry}), such as\n  {meant[0]}")
    for difference in judged.unmeant[:_SHOWN]:
        print(f"DIFFERENT {difference}")
    if len(judged.unmeant) > _SHOWN:
        print(f"... and {len(judged.unmeant) - _SHOWN} more, which parity.json lists")
    broken = [f"{verdict.spec}: {problem}" for verdict in verdicts for problem in verdict.problems]
    for problem in broken:
        print(f"BROKEN {problem}")
    stale = judged.stale if whole else ()
    for entry in stale:
        print(f"STALE intended entry ({entry}): it matches nothing; remove it")
    failed = bool(judged.unmeant or broken or stale)
    said = f"{len(judged.unmeant)} unintended differences, {len(judged.meant)} intended, {len(stale)} stale entries"
    print(f"{'FAILED' if failed else 'equal'}: {said}, {len(broken)} broken specs, {seconds:.0f} s")
    return int(failed)


def _write(file: Path, old: str, new: str, verdicts: Sequence[Verdict], judged: Judged, status: int) -> None:
    reasons = {id(difference): entry.reason for difference, entry in judged.meant}
    content = {
        "old": old,
        "new": new,
        "status": status,
        "specs": [
            {
                "name": verdict.spec,
                **{name: getattr(verdict.found, name) for name in ("runs", "rows", "tensors", "lines")},
                "cpu_seconds": {"old": verdict.seconds[0], "new": verdict.seconds[1]},
                "problems": verdict.problems,
                "differences": [{**asdict(one), "intended": reasons.get(id(one))} for one in verdict.found.differences],
            }
            for verdict in verdicts
        ],
        "stale": [asdict(entry) for entry in judged.stale],
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
