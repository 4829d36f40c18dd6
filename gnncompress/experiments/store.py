"""The folder of runs: one sub-folder for each stage of a chain, there whole or not at all.

A stage is prepared in a staging folder and moved into place by one rename, under a lock of its own. A process
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
from gnncompress.experiments.stages import Chain
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

SPEC, ENVIRONMENT, MODEL, ERROR = "spec.json", "environment.json", "model.safetensors", "error.json"
# The rows of a stage that makes a model; those of a run, what it was, and the raw samples of what was measured.
COSTS, RESULTS, RUNS, SAMPLES = "costs.csv", "results.csv", "runs.csv", "samples.npz"

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

    def path(self, chain: Chain) -> Path:
        """Return where the files of the chain's last stage are, or will be."""
        return self.folder / chain.id

    def finished(self, chain: Chain) -> bool:
        """Say whether the chain's last stage is there, whole.

        Raises:
            ResultsError: if its folder cannot be looked into.
        """
        try:
            return (self.path(chain) / (COSTS if chain.measure is None else RESULTS)).is_file()
        except OSError as error:  # such as one that another user keeps to themselves
            raise ResultsError(f"{self.path(chain)}: cannot be read ({why(error)}); choose another --output") from error

    def results(self, chain: Chain) -> Path:
        """Return the results.csv of a finished run."""
        return self.path(chain) / RESULTS

    def code(self, chain: Chain) -> str:
        """Return the digest of the code that made the chain's last stage, empty if that is not known."""
        try:
            found = read_json(self.path(chain) / ENVIRONMENT).get("code", "")
        except (OSError, ValueError):
            return ""
        return str(found)

    def insist_on_room(self, chain: Chain) -> None:
        """Find out whether the run could be locked and stored, before there is something to lose.

        Raises:
            ResultsError: naming what is in the way.
        """
        final, lock = self.path(chain), self._lock(chain)
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
    def lock(self, chain: Chain) -> Iterator[None]:
        """Hold the run, so that no other process works on it; wait for one that does.

        Raises:
            ResultsError: if it cannot be locked.
        """
        self._own(_LOCKS)
        with locked(self._lock(chain)):
            yield

    @contextlib.contextmanager
    def staged(self, chain: Chain) -> Iterator[Path]:
        """Yield an empty folder for the run's files; on success it becomes the run, on failure it is removed.

        The caller holds the run's lock, so whatever is staged there was left by a process that died. What a failed
        attempt left goes first: then all that may fail has been tried before there is a run to lose.

        Raises:
            ResultsError: naming what is in the way.
        """
        self.insist_on_room(chain)
        stage, final = self._own(_STAGING) / chain.id, self.path(chain)
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

    def fail(self, chain: Chain, error: BaseException) -> None:
        """Record a failed run: its spec and error.json; it is tried again next time."""
        with self.lock(chain):
            if not self.finished(chain):
                self._write_error(chain, error)

    def _write_error(self, chain: Chain, error: BaseException) -> None:
        with self.staged(chain) as stage:
            write_json(stage / SPEC, chain.dump())
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

    def _lock(self, chain: Chain) -> Path:
        return self.folder / _LOCKS / f"{chain.id}.lock"

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
