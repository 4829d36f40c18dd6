"""Many runs, one after the other: finished ones are found again, failed ones recorded and passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gnncompress.errors import DatasetError, GnncompressError, UsageError
from gnncompress.experiments.code import code_digest
from gnncompress.experiments.stages import Chain, Given, changed
from gnncompress.experiments.store import Store
from gnncompress.profiling.energy import open_meter
from gnncompress.profiling.isolation import start_server

if TYPE_CHECKING:
    from gnncompress.experiments.execution import Work
    from gnncompress.tasks.training import Progress


class Observer:
    """Someone who is told how a sweep goes; this one does not listen."""

    def planned(self, runs: int) -> None:
        """Hear how many runs are asked for."""

    def started(self, chain: Chain) -> None:
        """Hear that a run begins."""

    def epoch(self, progress: Progress) -> None:
        """Hear of an epoch of the current run."""

    def warned(self, chain: Chain, warning: str) -> None:
        """Hear what the user must be told of a run."""

    def finished(self, chain: Chain) -> None:
        """Hear that a run asked for is there, new or found again."""

    def failed(self, chain: Chain, error: Exception) -> None:
        """Hear that a run asked for failed."""

    def outdated(self, chains: list[Chain]) -> None:
        """Hear which finished stages were made by other code than this, and are used all the same."""


# What becomes of finished stages that other code made: they are used, or made anew.
Outdated = Literal["keep", "rerun"]


@dataclass
class Outcome:
    """What became of the runs asked for, in the order asked."""

    finished: list[Chain] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)


class Sweep:
    """Carries out chains against a store; a stage that failed is not tried twice in one sweep."""

    def __init__(self, store: Store, data_root: Path | None, observer: Observer, outdated: Outdated = "keep") -> None:
        self._store = store
        self._data_root = data_root
        self._observer = observer
        self._outdated = outdated
        self._anew: set[str] = set()
        self._errors: dict[str, Exception] = {}
        self._told: set[tuple[str, str]] = set()
        self._work: Work | None = None

    def run(self, chains: Iterable[Chain]) -> Outcome:
        """Carry out what is not finished yet.

        Raises:
            DatasetError, TaskError, UsageError, PruningError, QuantizationError: at once, before anything is trained,
                if the data or the model of any run cannot be used as asked.
            ResultsError: at once, if something is in the way of a run that is to be made.
            MeasurementError: at once, if the source of energy that was asked for by name reads nothing here.
            KeyboardInterrupt: after it, finished stages are whole and the same sweep goes on where it stopped.
        """
        unique = list({chain.id: chain for chain in chains}.values())
        self._look_for_outdated(unique)
        missing = {one.id: one for chain in unique for one in self._missing(chain)}
        for one in missing.values():
            self._store.insist_on_room(one)
        for energy in {one.measure.energy for one in missing.values() if one.measure is not None}:
            open_meter(energy)  # what was asked for by name must read something, before hours of training
        outcome = Outcome()
        self._observer.planned(len(unique))
        if missing:
            start_server(["gnncompress.experiments.inference"])
            from gnncompress.datasets.keeping import kept
            from gnncompress.experiments.execution import Work
            from gnncompress.global_state import global_state_kept

            self._work = Work(self._store, self._data_root, self._observer.epoch)
            with global_state_kept(), kept():
                self._insist_on_fit(list(missing.values()))
                self._carry_out(unique, outcome)
        else:
            outcome.finished += unique
            for chain in unique:
                self._observer.finished(chain)
        return outcome

    def _carry_out(self, chains: Iterable[Chain], outcome: Outcome) -> None:
        for chain in chains:
            try:
                self._ensure(chain, "auto" if chain.measure is None else chain.measure.energy)
            except (DatasetError, UsageError):
                raise
            except Exception as error:
                outcome.failed[chain.id] = error
                self._observer.failed(chain, error)
            else:
                outcome.finished.append(chain)
                self._observer.finished(chain)

    def _insist_on_fit(self, missing: Iterable[Chain]) -> None:
        """Look at each kind of data and model once, untrained, and at what is to be done with it."""
        from gnncompress.experiments.building import new_model
        from gnncompress.experiments.given import fill_with

        seen = set()
        same = {"seed", "split", "recipe", "threads"}
        for chain in missing:
            workload = chain.workload
            kind = workload.model_dump_json(exclude=same) + str(changed(chain.stages[0]))
            checks = [
                method
                for method in chain.methods
                if (kind, type(method), str({**method.changed(), "sparsity": 0, "round": 0})) not in seen
            ]
            if kind in seen and not checks:
                continue
            seen |= {kind, *((kind, type(one), str({**one.changed(), "sparsity": 0, "round": 0})) for one in checks)}
            task = self._working.tasks.of(workload)
            for method in checks:
                method.check(new_model(workload, task), task)
            if isinstance(chain.stages[0], Given):
                fill_with(new_model(workload, task), chain.stages[0])

    @property
    def _working(self) -> Work:
        assert self._work is not None
        return self._work

    def _look_for_outdated(self, chains: Iterable[Chain]) -> None:
        """Tell of stages that other code made, or take them, and what follows them, as not made."""
        found = {}
        for chain in chains:
            for one in reversed(list(chain.beginnings)):
                outdated = self._store.finished(one) and self._store.code(one) != code_digest(one.last)
                follows = one.parent is not None and one.parent.id in found
                if outdated or (follows and self._store.finished(one)):
                    found[one.id] = one
        if found and self._outdated == "rerun":
            self._anew |= found.keys()
        elif found:
            self._observer.outdated(list(found.values()))

    def _finished(self, chain: Chain) -> bool:
        return chain.id not in self._anew and self._store.finished(chain)

    def _missing(self, chain: Chain) -> Iterator[Chain]:
        """Yield what is to be made for a run: its stages, as far as they are not there, the last first."""
        for one in chain.beginnings:
            if self._finished(one):
                return
            yield one

    def _ensure(self, chain: Chain, energy: str) -> None:
        """Have a chain's stages in the store, one after the other."""
        if self._finished(chain):
            return
        if chain.id in self._errors:
            raise self._errors[chain.id]
        from gnncompress.experiments.execution import execute

        if chain.parent is not None:
            try:
                self._ensure(chain.parent, energy)
            except Exception as error:
                self._errors[chain.id] = error
                raise
        try:
            with self._store.lock(chain):
                if self._finished(chain):
                    return
                self._observer.started(chain)
                self._working.energy = energy
                warnings = execute(chain, self._working)
                self._anew.discard(chain.id)
        except Exception as error:
            self._errors[chain.id] = error
            try:
                self._store.fail(chain, error)
            except (OSError, GnncompressError) as second:  # the run's own error is the one that counts
                self._observer.warned(chain, f"that it failed cannot be stored ({reason(second)})")
            raise
        for warning in warnings:
            if (chain.workload.dataset, warning) not in self._told:  # what is wrong with the data is so for every run
                self._observer.warned(chain, warning)
            self._told.add((chain.workload.dataset, warning))


def reason(error: Exception) -> str:
    """Say in one line why a run failed."""
    text = str(error) if isinstance(error, GnncompressError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
