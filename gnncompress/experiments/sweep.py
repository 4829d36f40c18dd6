"""Many runs, one after the other: finished ones are found again, failed ones recorded and passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gnncompress.errors import DatasetError, GnncompressError, PruningError, UsageError
from gnncompress.experiments.methods import METHODS
from gnncompress.experiments.spec import NO_METHOD, RunSpec
from gnncompress.experiments.store import Store
from gnncompress.factories import is_reference
from gnncompress.profiling.energy import open_meter
from gnncompress.profiling.isolation import start_server

if TYPE_CHECKING:
    from gnncompress.tasks.training import Progress


class Observer:
    """Someone who is told how a sweep goes; this one does not listen."""

    def planned(self, runs: int) -> None:
        """Hear how many runs are asked for."""

    def started(self, spec: RunSpec) -> None:
        """Hear that a run begins."""

    def epoch(self, progress: Progress) -> None:
        """Hear of an epoch of the current run."""

    def warned(self, spec: RunSpec, warning: str) -> None:
        """Hear what the user must be told of a run."""

    def finished(self, spec: RunSpec) -> None:
        """Hear that a run asked for is there, new or found again."""

    def failed(self, spec: RunSpec, error: Exception) -> None:
        """Hear that a run asked for failed."""


@dataclass
class Outcome:
    """What became of the runs asked for, in the order asked."""

    finished: list[RunSpec] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)


class Sweep:
    """Runs specs against a store; a base model that failed is not tried twice in one sweep."""

    def __init__(self, store: Store, data_root: Path | None, observer: Observer) -> None:
        self._store = store
        self._data_root = data_root
        self._observer = observer
        self._errors: dict[str, Exception] = {}
        self._told: set[tuple[str, str]] = set()

    def run(self, specs: Iterable[RunSpec]) -> Outcome:
        """Carry out what is not finished yet.

        Raises:
            DatasetError, UsageError: at once, since no other run would fare better.
            PruningError: at once, if a model of the user's own cannot be pruned, before any is trained.
            ResultsError: at once, if something is in the way of a run that is to be made.
            MeasurementError: at once, if the source of energy that was asked for by name reads nothing here.
            KeyboardInterrupt: after it, finished runs are whole and the same sweep goes on where it stopped.
        """
        unique = list({spec.run_id: spec for spec in specs}.values())
        for spec in unique:
            for one in self._missing(spec):
                self._store.insist_on_room(one)
        for energy in {spec.energy for spec in unique if not self._store.finished(spec)}:
            open_meter(energy)  # what was asked for by name must read something, before hours of training
        self._insist_on_prunable(unique)
        self._observer.planned(len(unique))
        outcome = Outcome()
        for spec in unique:
            try:
                self._ensure(spec)
            except (DatasetError, UsageError):
                raise
            except Exception as error:
                outcome.failed[spec.run_id] = error
                self._observer.failed(spec, error)
            else:
                outcome.finished.append(spec)
                self._observer.finished(spec)
        return outcome

    def _insist_on_prunable(self, specs: Iterable[RunSpec]) -> None:
        """Look at each user's own model that is to be pruned, once; whatever else is wrong with it, its run says."""
        seen = set()
        for spec in specs:
            key = spec.dataset, spec.model, spec.method, str(spec.arguments)
            if spec.method == NO_METHOD or METHODS[spec.method].rebuilds or not is_reference(spec.model) or key in seen:
                continue
            seen.add(key)
            if not self._store.finished(spec):
                unprunable = _unprunable(spec, self._data_root)
                if unprunable is not None:
                    raise unprunable

    def _missing(self, spec: RunSpec) -> Iterator[RunSpec]:
        """Yield what is to be made for a run: itself and the runs that it builds on, as far as they are not there."""
        one: RunSpec | None = spec
        while one is not None and not self._store.finished(one):
            yield one
            one = one.origin

    def _ensure(self, spec: RunSpec) -> None:
        """Have the run in the store, after the run it builds on."""
        if self._store.finished(spec):
            return
        if spec.run_id in self._errors:
            raise self._errors[spec.run_id]
        start_server(["gnncompress.experiments.inference"])
        from gnncompress.experiments.run import execute

        if spec.origin is not None:
            self._ensure(spec.origin)
        try:
            with self._store.lock(spec):
                if self._store.finished(spec):
                    return
                self._observer.started(spec)
                warnings = execute(spec, self._store, self._data_root, self._observer.epoch)
        except Exception as error:
            self._errors[spec.run_id] = error
            try:
                self._store.fail(spec, error)
            except (OSError, GnncompressError) as second:  # the run's own error is the one that counts
                self._observer.warned(spec, f"that it failed cannot be stored ({reason(second)})")
            raise
        for warning in warnings:
            if (spec.dataset, warning) not in self._told:  # what is wrong with the data is the same for every run
                self._observer.warned(spec, warning)
            self._told.add((spec.dataset, warning))


def _unprunable(spec: RunSpec, data_root: Path | None) -> PruningError | None:
    """Return why a run's model cannot be pruned, if that is what is wrong with it."""
    from gnncompress.experiments.plan import plan

    try:
        plan(spec, data_root)
    except PruningError as error:
        return error
    except Exception:
        return None  # the run meets the same, and records it
    return None


def reason(error: Exception) -> str:
    """Say in one line why a run failed."""
    text = str(error) if isinstance(error, GnncompressError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
