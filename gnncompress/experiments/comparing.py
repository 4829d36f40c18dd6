"""Two runs' models against each other: quality on the same items, latency and energy in turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from gnncompress.errors import ResultsError, UsageError
from gnncompress.experiments.building import load_task
from gnncompress.experiments.inference import inferring, runnable
from gnncompress.experiments.legacy import chain_of
from gnncompress.experiments.stages import Chain, Workload
from gnncompress.experiments.store import MODEL, SPEC
from gnncompress.factories import is_reference, source_digest
from gnncompress.files import read_json, why
from gnncompress.profiling.comparison import (
    Difference,
    difference,
    difference_of_scores,
    energies,
    interleaved,
    pairs_needed,
)
from gnncompress.profiling.energy import insist_on_meter, open_meter, reads
from gnncompress.profiling.isolation import isolated, start_server
from gnncompress.profiling.joules import name_of
from gnncompress.profiling.latency import Window
from gnncompress.profiling.load import Load, Usage
from gnncompress.tasks.base import Predictions, Task
from gnncompress.texts import one_line


@dataclass(frozen=True)
class Compared:
    """One figure of A and of B, and the interval of their difference: of B / A if ``ratio``, else of B - A.

    ``difference`` is None for what is exact, such as the size of a file. ``words`` are for a B with less and with more.
    """

    metric: str
    unit: str
    a: float
    b: float
    difference: Difference | None
    source: str
    words: tuple[str, str] = ("less", "more")
    ratio: bool = True

    @property
    def verdict(self) -> str:
        """What may be said, in words."""
        if self.difference is None:
            return "the same" if self.a == self.b else f"B is {self.b / self.a:.3g} times A's"
        if not self.difference.significant:
            return "no difference shown"
        word, gap = self.words[self.difference.value > 0], abs(self.difference.value)
        return f"B is {math.exp(gap):.4g} times {word}" if self.ratio else f"B is {word} by {gap:.3g}"


@dataclass(frozen=True)
class Run:
    """A run's name, its folder, and the chain that made it."""

    run_id: str
    folder: Path
    chain: Chain

    @property
    def model(self) -> Path:
        """The packed model."""
        return self.folder / MODEL


@dataclass
class Comparison:
    """What came of A against B; ``notes`` say what could not be compared and what disturbed the measurement."""

    a: str
    b: str
    confidence: float
    figures: list[Compared]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values; intervals of ratios are those of B / A."""
        return {
            "a": self.a,
            "b": self.b,
            "confidence": self.confidence,
            "figures": [_plain(one) for one in self.figures],
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Settings:
    """How long to measure: ``rounds`` of ``seconds`` for latency, ``energy_windows`` of ``energy_seconds`` each."""

    rounds: int = 20
    seconds: float = 1.0
    energy: str = "auto"
    energy_windows: int = 10
    energy_seconds: float = 10.0
    threads: int = 1
    confidence: float = 0.99
    batch_size: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        insist_on_meter(self.energy)
        if not 0.5 <= self.confidence < 1:
            raise UsageError(f"--confidence {self.confidence:g}: must be at least 0.5 and below 1")
        if self.rounds < 5 or self.threads < 1 or self.energy_windows < 2 or self.batch_size < 0:
            raise UsageError("at least 5 rounds, 2 windows of energy and 1 thread are needed")
        if self.seed < 0:
            raise UsageError(f"--seed {self.seed}: must be at least 0")
        if not 0 < self.seconds < math.inf or not 0.1 <= self.energy_seconds < math.inf:
            raise UsageError("--seconds must be above 0, --energy-seconds at least 0.1, and both finite")


def compare(
    a: str | Path,
    b: str | Path,
    data_root: str | Path | None = None,
    settings: Settings | None = None,
    trust: bool = False,
    on_start: Callable[[float], None] = lambda seconds: None,
) -> Comparison:
    """Compare two runs, each named by its folder or its model.safetensors, alone on the machine, in another process.

    Both models infer in turns, each in its run's own way (floats, simulated, integers); every round loads them anew.
    Intervals of latency and energy are those of medians, over rounds and over pairs of windows; those of quality are
    bootstrapped over test items.

    A run of your own model or data names a file of code in its spec; that is run only if you ``trust`` it. ``on_start``
    is told how many seconds the measurement takes at least, once everything has been checked.

    Raises:
        ResultsError: if a run's files cannot be used, or it names code and is not trusted.
        UsageError: if the runs differ in data, task or split, or an option is wrong.
        MeasurementError: if the source of energy that was asked for by name reads nothing here.
    """
    settings = settings or Settings()
    root = Path(data_root) if data_root else None
    runs = [_run(_folder(Path(path)), trust) for path in (a, b)]
    _insist_on_the_same_items(runs)
    seconds = 2 * settings.energy_windows * settings.energy_seconds
    on_start(settings.rounds * settings.seconds + (seconds if reads(open_meter(settings.energy)) else 0))
    start_server(["gnncompress.experiments.comparing"])
    found: Comparison = isolated(_compare, runs, root, settings)
    return found


def _insist_on_the_same_items(runs: list[Run]) -> None:
    a, b = (run.chain.workload for run in runs)
    which = f"{runs[0].folder} and {runs[1].folder} are not judged by the same items"
    for name in ("dataset", "data", "task"):
        if getattr(a, name) != getattr(b, name):
            raise UsageError(f"{which}: {name} {getattr(a, name)} and {getattr(b, name)}")
    if a.split.seed != b.split.seed:
        seeds = f"seeds {a.split.seed} and {b.split.seed} draw different splits"
        raise UsageError(f"{which}: {seeds}; compare runs of one seed, or make them with one --split-seed")
    if a.split != b.split:
        raise UsageError(f"{which}: their splits differ, {a.split.kind} and {b.split.kind}")


def _compare(runs: list[Run], root: Path | None, settings: Settings) -> Comparison:
    torch.set_num_threads(settings.threads)
    workloads = [run.chain.workload for run in runs]
    tasks = [load_task(workloads[0], root)]
    # Where data lie in memory changes speed, too, so that both models get the same if they can.
    tasks.append(tasks[0] if _prepared_alike(*workloads) else load_task(workloads[1], root))

    def model(which: int, verify: bool = True) -> nn.Module:
        return runnable(runs[which].chain, tasks[which], runs[which].model, verify)

    def call(which: int) -> Callable[[], object]:
        timed = model(which, verify=False)
        return inferring(tasks[which].inference(timed, settings.batch_size), workloads[which].device)

    makers = [lambda: call(0), lambda: call(1)]
    meter = open_meter(settings.energy, gpu=any(workload.device == "cuda" for workload in workloads))
    found = Comparison(runs[0].run_id, runs[1].run_id, settings.confidence, [])
    found.notes += _note_on_one_run(runs)
    found.figures += _quality(tasks, [model(0), model(1)], settings)
    if not found.figures:
        found.notes.append(f"{tasks[0].metric}: has no value for these test items, and is not compared")
    of_a, of_b = (run.model.stat().st_size for run in runs)
    found.figures.append(Compared("checkpoint_size", "bytes", of_a, of_b, None, "measured"))
    before = Usage.now()
    rounds = interleaved(makers, settings.rounds, settings.seconds, Window(), settings.seed)
    a, b = np.median(rounds.seconds, axis=0)
    faster = difference(rounds.log_ratios, settings.confidence)
    found.figures.append(Compared("latency_median", "s", float(a), float(b), faster, "measured", ("faster", "slower")))
    joules, notes = energies([makers[0](), makers[1]()], meter, settings.energy_windows, settings.energy_seconds)
    figures, unread = _energy(joules, settings.confidence)
    found.figures += figures
    if any(one.source == "estimated" for one in found.figures):
        notes.append("energy is estimated from load and time, so that it says little that latency does not")
    found.notes += _notes_on_few(settings, bool(joules))
    found.notes += [*notes, *unread, *Load.between(before, Usage.now()).warnings()]
    return found


def _energy(joules: dict[str, tuple[NDArray[np.float64], str]], confidence: float) -> tuple[list[Compared], list[str]]:
    """Return a figure for each component, of joules [windows, 2] and their source; and what nothing can be said of."""
    figures, notes = [], []
    for component, (values, source) in joules.items():
        name = name_of("energy", component)
        if not (values > 0).all():
            notes.append(f"{name}: a window read no energy, and is not compared; give longer ones, --energy-seconds")
            continue
        cheaper = difference(np.log(values[:, 1] / values[:, 0]), confidence)
        a, b = np.median(values, axis=0)
        figures.append(Compared(name, "J", float(a), float(b), cheaper, source, ("cheaper", "dearer")))
    return figures, notes


def _note_on_one_run(runs: list[Run]) -> list[str]:
    a, b = runs
    if a.run_id != b.run_id:
        return []
    alike = a.model.read_bytes() == b.model.read_bytes()
    what = "with one model: differences are chance" if alike else "with models that differ: one was made anew"
    return [f"{a.folder} and {b.folder} are one run, {a.run_id}, {what}"]


def _notes_on_few(settings: Settings, energy: bool) -> list[str]:
    level, needed = f"{100 * settings.confidence:g} %", pairs_needed(settings.confidence)
    measured = {"rounds": settings.rounds} | ({"windows of energy": settings.energy_windows} if energy else {})
    return [
        f"{count} {what}: intervals of {level} reach beyond the ratios seen, which they take to have one peak; "
        f"from {needed} on they need not"
        for what, count in measured.items()
        if count < needed
    ]


def _prepared_alike(a: Workload, b: Workload) -> bool:
    return (a.model, a.features, a.device) == (b.model, b.features, b.device)


def _quality(tasks: list[Task], models: list[nn.Module], settings: Settings) -> list[Compared]:
    a, b = (task.predictions(model) for task, model in zip(tasks, models, strict=True))
    metric = tasks[0].metric
    if not np.array_equal(a.truth, b.truth, equal_nan=a.truth.dtype.kind == "f"):
        raise UsageError("the runs' test items have other labels; compare runs of one data set and split")
    scores = a.score(a.truth, a.outputs), b.score(b.truth, b.outputs)
    gap = difference_of_scores(_gap(a, b), len(a.truth), settings.confidence, seed=settings.seed)
    if gap is None or scores[0] is None or scores[1] is None:
        return []
    return [Compared(metric, "fraction", scores[0], scores[1], gap, "measured", ("worse", "better"), ratio=False)]


def _gap(a: Predictions, b: Predictions) -> Callable[[NDArray], float | None]:
    def gap(items: NDArray) -> float | None:
        of_a, of_b = (one.score(one.truth[items], one.outputs[items]) for one in (a, b))
        return None if of_a is None or of_b is None else of_b - of_a

    return gap


def _folder(path: Path) -> Path:
    folder = path.parent if path.name == MODEL else path
    for name in (SPEC, MODEL):
        try:
            there = (folder / name).is_file()
        except OSError as error:  # such as one that another user keeps to themselves
            raise ResultsError(f"{folder}: cannot be read ({why(error)})") from error
        if not there:
            raise ResultsError(
                f"{folder}: has no {name}; name the folder of a finished run, such as runs/0123456789abcdef"
            )
    return folder


def _run(folder: Path, trust: bool) -> Run:
    file = folder / SPEC
    try:
        values = read_json(file)
        earlier = "version" in values
        chain = chain_of(values) if earlier else Chain.load(values)
    except (OSError, ValueError, UsageError, ValidationError) as error:
        detail = one_line(why(error))[:200]
        raise ResultsError(
            f"{file}: is no spec of this version of gnncompress ({detail}); make the run again"
        ) from error
    workload = chain.workload
    digests = {workload.model: workload.code}
    digests |= {reference: workload.own_code.get(name, "") for name, reference in workload.own.items()}
    digests |= {stage.method: stage.code for stage in chain.compressions}
    named = [name for name in (*digests, workload.dataset) if is_reference(name)]
    if named and not trust:
        raise ResultsError(f"{file}: names code, {' and '.join(named)}, which is run only with --trust")
    for name, code in digests.items():
        if is_reference(name) and source_digest(name) != code:
            raise ResultsError(f"{file}: {name} has changed since the run was made; make the run again")
    return Run(folder.resolve().name if earlier else chain.id, folder, chain)


def _plain(one: Compared) -> dict[str, Any]:
    interval = one.difference
    if interval is not None and one.ratio:
        interval = interval.as_ratio()
    return {
        "metric": one.metric,
        "unit": one.unit,
        "a": one.a,
        "b": one.b,
        "kind": "ratio" if one.ratio else "difference",
        "value": one.b / one.a if interval is None else interval.value,
        "low": None if interval is None else interval.low,
        "high": None if interval is None or math.isinf(interval.high) else interval.high,
        "significant": None if one.difference is None else one.difference.significant,
        "source": one.source,
        "verdict": one.verdict,
    }
