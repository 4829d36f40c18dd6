"""The two sides: a tree and a Python for each, and workers that carry out specs with them."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.parity.specs import Spec

WORKER = Path(__file__).with_name("worker.py")
_DEPENDENCIES = re.compile(r"^dependencies = \[\n(.*?)^\]", re.DOTALL | re.MULTILINE)
# No spec takes a tenth of it; a command that waits for something for ever does.
_LIMIT_S = 900.0


class ParityError(Exception):
    """The harness cannot do its work; the message says why."""


@dataclass(frozen=True)
class Side:
    """A version of the package: its name, its tree, the Python that runs it, and its folder of outputs and cache."""

    name: str
    tree: Path
    python: Path
    folder: Path

    def environment(self) -> dict[str, str]:
        """Return the variables of its processes: its own package and cache, one thread, the data root of this one."""
        named = {"PYTHONPATH": str(self.tree), "GNNCOMPRESS_CACHE": str(self.folder / "cache")}
        fixed = {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "NO_COLOR": "1"}
        return {**os.environ, **named, **fixed}


def checkout_root() -> Path:
    """Return the root of the checkout that this file is in, which is the new side."""
    return Path(__file__).resolve().parents[2]


def commit_of(root: Path, revision: str) -> str:
    """Return the full name of a commit.

    Raises:
        ParityError: if there is none of that name.
    """
    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise ParityError(f"{revision}: no commit of {root}; name one, such as HEAD~1")
    return found.stdout.strip()


def described(root: Path) -> str:
    """Return the commit that a checkout is at, and whether files differ from it."""
    changed = subprocess.run(["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True)
    return commit_of(root, "HEAD")[:12] + (" with changes" if changed.stdout.strip() else "")


def extract(root: Path, commit: str, tree: Path) -> None:
    """Write the files of a commit into a new folder; the repository itself is left as it is."""
    packed = subprocess.run(["git", "-C", str(root), "archive", commit], capture_output=True, check=True)
    tree.mkdir(parents=True)
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as files:
        files.extractall(tree, filter="data")


def dependencies(tree: Path) -> set[str]:
    """Return what the tree's pyproject.toml says that the package needs.

    Raises:
        ParityError: if it says nothing.
    """
    found = _DEPENDENCIES.search((tree / "pyproject.toml").read_text())
    if found is None:
        raise ParityError(f"{tree / 'pyproject.toml'}: has no list of dependencies")
    return {line.strip().rstrip(",") for line in found[1].splitlines() if line.strip()}


def python_for(old: Path, new: Path, folder: Path, say: Callable[[str], None]) -> Path:
    """Return the Python for the old tree: this one if both trees need the same packages, else a new environment's.

    Where the dependencies are equal, both sides must have the same versions of them, else their numbers differ for
    reasons that are not the package's: so both run in the current environment, each with its tree first on the path.
    Where they differ, the current environment may lack what the old tree needs: then it is installed, with all that it
    names, into a new environment, which needs a package index; versions may then differ, and the output says so.

    Raises:
        ParityError: if that fails.
    """
    one, other = dependencies(old), dependencies(new)
    if one == other:
        say(f"dependencies are equal: both sides run with {sys.executable}")
        return Path(sys.executable)
    say(f"dependencies differ ({', '.join(sorted(one ^ other))}): the old side is installed into {folder}")
    python = folder / "bin" / "python"
    for command in ([sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "--quiet", old]):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            raise ParityError(f"{' '.join(map(str, command))}: failed\n{done.stderr.strip()[-2000:]}")
    return python


class Worker:
    """A process that carries out specs one after the other; one that dies or hangs is replaced for the next spec."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._process: subprocess.Popen[str] | None = None

    def carry_out(self, spec: Spec) -> dict[str, Any]:
        """Return the worker's answer for a spec; ``error`` says what went wrong, if anything did."""
        process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        request = {
            "folder": str(self._side.folder / spec.name),
            "commands": [command.arguments_of(self._side.name) for command in spec.commands],
            "files": dict(spec.files),
            "keeps": [name for name, _ in spec.keeps],
        }
        watch = threading.Timer(_LIMIT_S, process.kill)
        watch.start()
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        if not line:
            process.kill()
            self._process = None
            why = f"the worker of the {self._side.name} side ended, or took over {_LIMIT_S:g} s"
            return {"done": [], "files": {}, "error": f"{why} (exit code {process.wait()})", "seconds": 0.0}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Let the process end."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _started(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [str(self._side.python), str(WORKER), str(self._side.tree)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._side.environment(),
        )
        return self._process


def carry_out(
    sides: Sequence[Side], specs: Sequence[Spec], jobs: int, finished: Callable[[Side, Spec, dict[str, Any]], None]
) -> None:
    """Carry out every spec on every side with ``jobs`` workers; ``finished`` is told of each answer, from any thread.

    One worker does the sides one after the other; more are shared out among the sides.
    """
    waiting: dict[str, queue.SimpleQueue[Spec]] = {side.name: queue.SimpleQueue() for side in sides}
    for side in sides:
        for spec in specs:
            waiting[side.name].put(spec)
    failures: list[BaseException] = []

    def work(its_sides: Sequence[Side]) -> None:
        try:
            for side in its_sides:
                worker = Worker(side)
                try:
                    while True:
                        spec = waiting[side.name].get_nowait()
                        finished(side, spec, worker.carry_out(spec))
                except queue.Empty:
                    continue
                finally:
                    worker.end()
        except BaseException as failure:
            failures.append(failure)

    shares = [sides] if jobs == 1 else [[sides[number % len(sides)]] for number in range(jobs)]
    threads = [threading.Thread(target=work, args=(share,), daemon=True) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
