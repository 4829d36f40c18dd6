"""Carries out specs with one version of the package: ``python worker.py TREE``, requests and answers as JSON lines.

All commands of a worker run in this one process, by the function behind the command ``gnncompress``, and so share the
imports and the server that measured processes are forked from: those take 10 s of processor time a command, the short
trainings of a spec a fraction of that. Before each command the random generators, threads and deterministic mode of
torch are set to what they are in a fresh process, so that a command's numbers depend on no command before it.

Nothing of the package is used but that function and ``gnncompress.load_checkpoint``. The working folder of a spec's
commands is the spec's own.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import random
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

RESULTS, MODEL = "results.csv", "model.safetensors"
_RUN = re.compile(r"\{run:([^}]*)\}")


def main() -> None:
    """Answer requests until there are no more."""
    tree = Path(sys.argv[1]).resolve()
    sys.path[0] = str(tree)  # was this file's folder, whose modules are the other side's, too
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(null, stream)
    import gnncompress

    if not Path(gnncompress.__file__).is_relative_to(tree):
        raise SystemExit(f"{gnncompress.__file__}: is not the package of {tree}")
    for line in requests:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one spec: its folder, files to write first, commands, and files to read at the end.

    The first command that cannot be started ends it; ``error`` then says why.
    """
    folder = Path(request["folder"])
    folder.mkdir(parents=True)
    before = _used()
    done: list[dict[str, Any]] = []
    files: dict[str, Any] = {}
    error = ""
    try:
        for name, text in request["files"].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        seen = _finished(folder)
        for arguments in request["commands"]:
            code, out, err = _command(with_runs(arguments, folder), folder)
            now = _finished(folder)
            runs = [read_run(folder / name) for name, digest in now.items() if seen.get(name) != digest]
            done.append({"code": code, "out": _plain(out, folder), "err": _plain(err, folder), "runs": runs})
            seen = now
        files = {name: _file(folder / name) for name in request["keeps"]}
    except Exception as problem:
        error = "".join(traceback.format_exception_only(problem)).strip()
    return {"done": done, "files": files, "error": error, "seconds": _used() - before}


def with_runs(arguments: Sequence[str], folder: Path) -> list[str]:
    """Put the folder of the run so labelled in the place of each ``{run:method=global,sparsity=0.5}``.

    Raises:
        ValueError: if there is not exactly one such run.
    """
    return [_RUN.sub(lambda found: _labelled(found[1], folder), argument) for argument in arguments]


def _labelled(labels: str, folder: Path) -> str:
    wanted = dict(pair.split("=") for pair in labels.split(","))
    found = [name for name in _finished(folder) if wanted.items() <= _first_row(folder / name / RESULTS).items()]
    if len(found) != 1:
        raise ValueError(f"{len(found)} runs have the labels {labels}, not one")
    return found[0]


def _first_row(file: Path) -> dict[str, str]:
    with file.open(newline="") as text:
        return next(csv.DictReader(text))


def _finished(folder: Path) -> dict[str, str]:
    """Return the folders of finished runs, as paths from the spec's folder, with the digest of their rows."""
    return {
        str(path.parent.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(RESULTS))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def read_run(folder: Path) -> dict[str, Any]:
    """Return a run's rows, as the text of its file, and the tensors of its model, if it has one."""
    model = folder / MODEL
    return {
        "folder": folder.name,
        "rows": (folder / RESULTS).read_text(),
        "tensors": tensors_of(model) if model.exists() else None,
    }


def tensors_of(file: Path) -> list[tuple[str, str, list[int], str]]:
    """Return name, dtype, shape and the SHA-256 of the bytes of each tensor in a packed model or a torch.save file."""
    import torch

    import gnncompress

    state = torch.load(file, weights_only=True) if file.suffix == ".pt" else gnncompress.load_checkpoint(file)
    return [
        (
            name,
            str(tensor.dtype),
            list(tensor.shape),
            hashlib.sha256(
                tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            ).hexdigest(),
        )
        for name, tensor in state.items()
    ]


def _file(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    if path.suffix in (".pt", ".safetensors"):
        return {"tensors": tensors_of(path)}
    return {"text": path.read_text()}


def _command(arguments: Sequence[str], folder: Path) -> tuple[int, str, str]:
    """Run one command; return its exit code and what it and the processes that it started have printed."""
    from gnncompress.cli import main as command_line

    _as_fresh()
    os.chdir(folder)
    outputs = [folder / ".out", folder / ".err"]
    with _printing_to(*outputs):
        try:
            command_line(list(arguments))
            code: Any = 0
        except SystemExit as stop:
            code = 0 if stop.code is None else stop.code
        except BaseException:
            traceback.print_exc()
            code = 1
    out, err = (path.read_text(errors="replace") for path in outputs)
    return (code, out, err) if isinstance(code, int) else (1, out, f"{err}{code}\n")


def _as_fresh() -> None:
    """Give what a command may have changed for the whole process the values of a fresh one."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def _printing_to(out: Path, err: Path) -> Iterator[None]:
    """Send standard output and error, those of this process's children too, to two files."""
    kept = [os.dup(1), os.dup(2)]
    try:
        for stream, path in ((1, out), (2, err)):
            sys.stdout.flush()
            sys.stderr.flush()
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, stream)
            os.close(file)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, file in zip((1, 2), kept, strict=True):
            os.dup2(file, stream)
            os.close(file)


def _plain(text: str, folder: Path) -> str:
    """Return printed text without the path of the spec's folder, which is another on the other side."""
    return text.replace(f"{folder}{os.sep}", "").replace(str(folder), ".")


def _used() -> float:
    """Return the processor time of this process and of all it has started, in seconds."""
    import psutil

    total = 0.0
    process = psutil.Process()
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


if __name__ == "__main__":
    main()
