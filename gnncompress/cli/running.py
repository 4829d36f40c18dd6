"""What train and prune share: carrying out specs with a progress bar, and printing what came of it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gnncompress.cli.console import errors, told
from gnncompress.cli.options import Output
from gnncompress.errors import ParameterError
from gnncompress.experiments.api import describe
from gnncompress.experiments.stages import Chain
from gnncompress.experiments.store import Store
from gnncompress.experiments.sweep import Observer, Outcome, Outdated, Sweep, reason
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

    def started(self, chain: Chain) -> None:
        """Begin the bar of a run's epochs."""
        self._bar.reset(self._epochs, description=visible(chain.label), visible=True)

    def epoch(self, progress: training.Progress) -> None:
        """Advance it, the latest score on it."""
        self._bar.update(
            self._epochs,
            completed=progress.epoch,
            total=progress.epochs,
            score=f"validation {progress.score:.3f}  loss {progress.loss:.3f}",
        )

    def warned(self, chain: Chain, warning: str) -> None:
        """Print a warning above the bars."""
        self._bar.print(told("warning", f"{chain.label}: {warning}"), soft_wrap=True)

    def finished(self, chain: Chain) -> None:
        """Advance the bar of runs."""
        self._bar.update(self._epochs, visible=False, score="")
        self._bar.advance(self._runs)

    def outdated(self, chains: list[Chain]) -> None:
        """Print once that other code made what is used again."""
        self._bar.print(
            told(
                "warning",
                f"{len(chains)} finished stages were made by other code than this version's and are used as they are "
                f"(such as {chains[0].id}, {chains[0].label}); --outdated rerun makes them anew",
            ),
            soft_wrap=True,
        )

    def failed(self, chain: Chain, error: Exception) -> None:
        """Print why a run failed above the bars."""
        self.finished(chain)
        self._bar.print(told("failed", f"{chain.label} ({chain.id}): {reason(error)}"), soft_wrap=True)
        if self._debug:
            self._bar.print("".join(traceback.format_exception(error)))


def run_all(chains: Sequence[Chain], data_root: Path | None, output: Output) -> Outcome:
    """Carry out ``chains``, with a progress bar on a terminal.

    Raises:
        UsageError: if --outdated is neither keep nor rerun.
    """
    if output.outdated not in get_args(Outdated):
        raise ParameterError("outdated", output.outdated, f"use {' or '.join(get_args(Outdated))}")
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[score]}"),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        refresh_per_second=2,  # drawing it runs beside what is measured
        disable=output.quiet or not errors.is_terminal,
    )
    with bar:
        observer = ProgressBar(bar, output.debug)
        return Sweep(Store(output.output), data_root, observer, cast(Outdated, output.outdated)).run(chains)


def carry_out(chains: Sequence[Chain], data_root: Path | None, output: Output, remeasure: bool = False) -> None:
    """Carry out runs, and what they are compared with; print a table, or one JSON object; exit 1 if a run failed.

    They are compared with the base models, which are measured too, and with controls of equal training.
    """
    store = Store(output.output)
    asked = again(chains, output.output) if remeasure else list(chains)
    others = list({one.id: one for chain in asked for one in (chain.base, chain.control) if one is not None}.values())
    outcome = run_all([*others, *asked], data_root, output)
    if output.as_json:
        unpruned = any(chain.sparsity == 0 for chain in asked)
        controls = [chain.control for chain in asked if chain.control is not None and unpruned]
        finished = {chain.id for chain in outcome.finished}
        shown = {chain.id: chain for chain in (*asked, *controls) if chain.id in finished}
        typer.echo(json.dumps(_payload(outcome, list(shown.values()), store)))
    elif outcome.finished:
        _print_table(outcome, store)
    if outcome.failed:
        raise typer.Exit(1)


def again(chains: Sequence[Chain], folder: Path) -> list[Chain]:
    """Return runs with the first repetitions of their measurement that have not been made."""
    store = Store(folder)
    return [_again(chain, store) for chain in chains]


def _again(chain: Chain, store: Store) -> Chain:
    measure = chain.measure
    while measure is not None and store.finished(chain):
        measure = measure.model_copy(update={"repetition": measure.repetition + 1})
        chain = chain.model.then(measure)
    return chain


def _payload(outcome: Outcome, shown: Sequence[Chain], store: Store) -> dict[str, object]:
    payload: dict[str, object] = {"runs": [describe(chain, store) for chain in shown]}
    if outcome.failed:
        payload["failed"] = [{"run_id": run_id, "error": reason(error)} for run_id, error in outcome.failed.items()]
    return payload


def _print_table(outcome: Outcome, store: Store) -> None:
    """Print the runs asked for, and those that they are compared with."""
    from gnncompress.cli.tables import print_whole, width
    from gnncompress.reporting.render import terminal_tables
    from gnncompress.reporting.results import read_results
    from gnncompress.reporting.summary import summarize

    wanted = {chain.id for chain in outcome.finished}
    print_whole(terminal_tables(summarize(read_results(store.folder, only=wanted)), width()))
    errors.print(f"runs are in {store.folder}", highlight=False, soft_wrap=True)
