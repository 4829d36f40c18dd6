"""The folder of runs: one sub-folder a run, there whole or not at all.

A run is prepared in a staging folder and moved into place by one rename, under a lock of its own. A process
that is killed leaves at most a staging folder, which the next holder of that lock removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from gnncompress.errors import ResultsError
from gnncompress.experiments.spec import RunSpec
from gnncompress.files import sync, writable_folder, write_json

SPEC, ENVIRONMENT, RESULTS, MODEL, SAMPLES, ERROR = (
    "spec.json",
    "environment.json",
    "results.csv",
    "model.safetensors",
    "samples.npz",
    "error.json",
)


class Store:
    """The runs under ``folder``.

    Raises:
        UsageError: if the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = writable_folder(folder, "--output")

    def path(self, spec: RunSpec) -> Path:
        """Return where the run's files are, or will be."""
        return self.folder / spec.run_id

    def finished(self, spec: RunSpec) -> bool:
        """Say whether the run is there, whole."""
        return (self.path(spec) / RESULTS).is_file()

    def results(self, spec: RunSpec) -> Path:
        """Return the results.csv of a finished run."""
        return self.path(spec) / RESULTS

    @contextlib.contextmanager
    def lock(self, spec: RunSpec) -> Iterator[None]:
        """Hold the run, so that no other process works on it; wait for one that does."""
        locks = self.folder / ".locks"
        locks.mkdir(exist_ok=True)
        with FileLock(locks / f"{spec.run_id}.lock"):
            yield

    @contextlib.contextmanager
    def staged(self, spec: RunSpec) -> Iterator[Path]:
        """Yield an empty folder for the run's files; on success it becomes the run, on failure it is removed.

        The caller holds the run's lock, so whatever is staged there was left by a process that died.
        """
        stage = self.folder / ".staging" / spec.run_id
        for left_over in (stage, _replaced(stage)):
            shutil.rmtree(left_over, ignore_errors=True)
        stage.mkdir(parents=True)
        try:
            yield stage
            self._publish(stage, self.path(spec))
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def fail(self, spec: RunSpec, error: BaseException) -> None:
        """Record a failed run: its spec and error.json; it is tried again next time."""
        with self.lock(spec):
            if not self.finished(spec):
                self._write_error(spec, error)

    def _write_error(self, spec: RunSpec, error: BaseException) -> None:
        with self.staged(spec) as stage:
            write_json(stage / SPEC, spec.model_dump(mode="json"))
            write_json(
                stage / ERROR,
                {
                    "type": type(error).__name__,
                    "message": str(error),
                    "traceback": "".join(traceback.format_exception(error)),
                },
            )

    def _publish(self, stage: Path, final: Path) -> None:
        for file in stage.iterdir():
            sync(file)
        sync(stage)
        if final.exists():  # what a failed attempt left; a finished run is never staged again
            final.rename(_replaced(stage))
            os.replace(stage, final)
            shutil.rmtree(_replaced(stage))
        else:
            os.replace(stage, final)
        sync(final.parent)


def _replaced(stage: Path) -> Path:
    """Return where a failed attempt is put aside while its successor takes its place."""
    return stage.with_name(f"{stage.name}.old")


def read_spec(run: Path) -> dict[str, object]:
    """Return a run's spec as plain JSON values.

    Raises:
        ResultsError: naming the file, if it is missing or no JSON.
    """
    try:
        spec: dict[str, object] = json.loads((run / SPEC).read_text())
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{run / SPEC}: cannot be read ({error}); delete the run's folder and run it again"
        ) from error
    return spec
