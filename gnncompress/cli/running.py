"""What train and prune share: carrying out specs with a progress bar, and printing what came of it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gnncompress.cli.console import errors, told
from gnncompress.experiments.api import describe
from gnncompress.experiments.spec import RunSpec
from gnncompress.experiments.store import Store
from gnncompress.experiments.sweep import Observer, Outcome, Sweep, reason
from gnncompress.texts import visible

if TYPE_CHECKING:
    from gnncompress.tasks import training


class ProgressBar(Observer):
    """Shows runs and epochs, with the validation score, on standard error."""

    def __init__(self, bar: Progress, debug: bool) -> None:
        self._bar = bar
        self._debug = debug
        self._runs = bar.add_task("runs", total=None, score="")
        self._epochs = bar.add_task("", total=None, visible=False, score="")

    def planned(self, runs: int) -> None:
        """Set the length of the bar of runs."""
        self._bar.update(self._runs, total=runs)

    def started(self, spec: RunSpec) -> None:
        """Begin the bar of a run's epochs."""
        self._bar.reset(self._epochs, description=visible(spec.label), visible=True)

    def epoch(self, progress: training.Progress) -> None:
        """Advance it, the latest score on it."""
        self._bar.update(
            self._epochs,
            completed=progress.epoch,
            total=progress.epochs,
            score=f"validation {progress.score:.3f}  loss {progress.loss:.3f}",
        )

    def warned(self, spec: RunSpec, warning: str) -> None:
        """Print a warning above the bars."""
        self._bar.print(told("warning", f"{spec.label}: {warning}"), soft_wrap=True)

    def finished(self, spec: RunSpec) -> None:
        """Advance the bar of runs."""
        self._bar.update(self._epochs, visible=False, score="")
        self._bar.advance(self._runs)

    def failed(self, spec: RunSpec, error: Exception) -> None:
        """Print why a run failed above the bars."""
        self.finished(spec)
        self._bar.print(told("failed", f"{spec.label} ({spec.run_id}): {reason(error)}"), soft_wrap=True)
        if self._debug:
            self._bar.print("".join(traceback.format_exception(error)))


def run_all(specs: Sequence[RunSpec], folder: Path, data_root: Path | None, quiet: bool, debug: bool) -> Outcome:
    """Run ``specs`` into ``folder``, with a progress bar on a terminal."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[score]}"),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        refresh_per_second=2,  # drawing it runs beside what is measured
        disable=quiet or not errors.is_terminal,
    )
    with bar:
        return Sweep(Store(folder), data_root, ProgressBar(bar, debug)).run(specs)


def carry_out(
    specs: Sequence[RunSpec], folder: Path, data_root: Path | None, as_json: bool, quiet: bool, debug: bool
) -> None:
    """Run ``specs`` and their controls into ``folder``, print a table, or one JSON object; exit 1 if a run failed."""
    controls = list({control.run_id: control for spec in specs if (control := spec.control)}.values())
    outcome = run_all([*specs, *controls], folder, data_root, quiet, debug)
    store = Store(folder)
    if as_json:
        unpruned = any(spec.sparsity == 0 for spec in specs)
        shown = [spec for spec in outcome.finished if unpruned or spec not in controls]
        typer.echo(json.dumps(_payload(outcome, shown, store)))
    elif outcome.finished:
        _print_table(outcome, store)
    if outcome.failed:
        raise typer.Exit(1)


def _payload(outcome: Outcome, shown: Sequence[RunSpec], store: Store) -> dict[str, object]:
    payload: dict[str, object] = {"runs": [describe(spec, store) for spec in shown]}
    if outcome.failed:
        payload["failed"] = [{"run_id": run_id, "error": reason(error)} for run_id, error in outcome.failed.items()]
    return payload


def _print_table(outcome: Outcome, store: Store) -> None:
    """Print the runs asked for, after the base models they were made from."""
    from gnncompress.cli.tables import print_whole, width
    from gnncompress.reporting.render import terminal_tables
    from gnncompress.reporting.results import read_results
    from gnncompress.reporting.summary import summarize

    wanted = {spec.run_id for spec in outcome.finished}
    wanted |= {spec.base().run_id for spec in outcome.finished}
    print_whole(terminal_tables(summarize(read_results(store.folder, only=wanted)), width()))
    errors.print(f"runs are in {store.folder}", highlight=False, soft_wrap=True)
