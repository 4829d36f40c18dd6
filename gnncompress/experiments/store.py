"""The folder of runs: one sub-folder a run, there whole or not at all.

A run is prepared in a staging folder and moved into place by one rename, under a lock of its own. A process
that is killed leaves at most a staging folder, which the next holder of that lock removes. The folders of locks and of
staging are the store's own: where a link stands in their place, nothing is made or deleted through it.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from gnncompress.errors import ResultsError, UsageError
from gnncompress.experiments.spec import RunSpec
from gnncompress.files import (
    insist_on_folder,
    insist_on_lockable,
    locked,
    own_folder,
    read_json,
    remove,
    sync,
    why,
    writable_folder,
    write_json,
)

SPEC, ENVIRONMENT, RESULTS, MODEL, SAMPLES, ERROR = (
    "spec.json",
    "environment.json",
    "results.csv",
    "model.safetensors",
    "samples.npz",
    "error.json",
)


_LOCKS, _STAGING = ".locks", ".staging"


class Store:
    """The runs under ``folder``.

    Raises:
        UsageError: if the folder, or that of locks or of staging in it, cannot be made or written, or is a link.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = writable_folder(folder, "--output")
        for name in (_LOCKS, _STAGING):
            writable_folder(self._own(name), "--output")

    def path(self, spec: RunSpec) -> Path:
        """Return where the run's files are, or will be."""
        return self.folder / spec.run_id

    def finished(self, spec: RunSpec) -> bool:
        """Say whether the run is there, whole.

        Raises:
            ResultsError: if its folder cannot be looked into.
        """
        try:
            return self.results(spec).is_file()
        except OSError as error:  # such as one that another user keeps to themselves
            raise ResultsError(f"{self.path(spec)}: cannot be read ({why(error)}); choose another --output") from error

    def results(self, spec: RunSpec) -> Path:
        """Return the results.csv of a finished run."""
        return self.path(spec) / RESULTS

    def insist_on_room(self, spec: RunSpec) -> None:
        """Find out whether the run could be locked and stored, before there is something to lose.

        Raises:
            ResultsError: naming what is in the way.
        """
        final, lock = self.path(spec), self._lock(spec)
        try:
            insist_on_lockable(lock)
        except OSError as error:
            raise ResultsError(f"{lock}: cannot be locked ({why(error)}); choose another --output") from error
        try:
            if os.path.lexists(final):
                insist_on_folder(final)
        except OSError as error:
            raise ResultsError(
                f"{final}: {why(error)}, where the run's files belong; move it away, or choose another --output"
            ) from error

    @contextlib.contextmanager
    def lock(self, spec: RunSpec) -> Iterator[None]:
        """Hold the run, so that no other process works on it; wait for one that does.

        Raises:
            ResultsError: if it cannot be locked.
        """
        self._own(_LOCKS)
        with locked(self._lock(spec)):
            yield

    @contextlib.contextmanager
    def staged(self, spec: RunSpec) -> Iterator[Path]:
        """Yield an empty folder for the run's files; on success it becomes the run, on failure it is removed.

        The caller holds the run's lock, so whatever is staged there was left by a process that died. What a failed
        attempt left goes first: then all that may fail has been tried before there is a run to lose.

        Raises:
            ResultsError: naming what is in the way.
        """
        self.insist_on_room(spec)
        stage, final = self._own(_STAGING) / spec.run_id, self.path(spec)
        replaced = stage.with_name(f"{stage.name}.old")
        try:
            for left_over in (stage, replaced):
                remove(left_over)
            if final.exists():
                final.rename(replaced)
                remove(replaced)
            stage.mkdir()
        except OSError as error:
            raise ResultsError(f"{stage}: cannot be made anew ({why(error)}); choose another --output") from error
        try:
            yield stage
            self._publish(stage, final)
        except BaseException:
            with contextlib.suppress(OSError):  # what is wrong is known; the next holder of the lock removes the rest
                insist_on_folder(stage.parent)
                remove(stage)
            raise

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
        """Move a run into its place; from there on it is finished, and nothing that fails is told any more."""
        for file in stage.iterdir():
            sync(file)
        sync(stage)
        self._own(_STAGING)
        os.replace(stage, final)
        with contextlib.suppress(OSError):
            sync(final.parent)

    def _lock(self, spec: RunSpec) -> Path:
        return self.folder / _LOCKS / f"{spec.run_id}.lock"

    def _own(self, name: str) -> Path:
        """Return a folder of the store's own, made if need be.

        Raises:
            UsageError: if it cannot be made, or something else is in its place.
        """
        try:
            return own_folder(self.folder / name)
        except OSError as error:
            hint = "remove it, or choose another folder"
            raise UsageError(f"--output {self.folder}: {name} in it cannot be used ({why(error)}); {hint}") from error


def read_spec(run: Path) -> dict[str, object]:
    """Return a run's spec as plain JSON values.

    Raises:
        ResultsError: naming the file, if it is missing or no JSON.
    """
    try:
        return read_json(run / SPEC)
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{run / SPEC}: cannot be read ({why(error)}); delete the run's folder and run it again"
        ) from error
