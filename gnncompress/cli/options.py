"""The options that commands have in common, in groups: each is a dataclass, and a panel of ``--help``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from gnncompress.cli import completing
from gnncompress.errors import UsageError

if TYPE_CHECKING:
    from gnncompress.experiments.resolve import FinetuneChoices, MeasureChoices, WorkloadChoices

WHAT, HOW, TRAINING, MEASURING, OUTPUT = "What", "How", "Training", "Measuring", "Output"


def _option(*names: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **more)


DataRoot = Annotated[
    Path | None,
    _option(
        "--data-root", panel=WHAT, help="Folder of raw data, only read. Default: GNNCOMPRESS_DATA, then the cache."
    ),
]
Threads = Annotated[int, _option("--threads", panel=TRAINING, min=1, help="Threads that torch may use.")]
Energy = Annotated[
    str,
    _option(
        "--energy",
        panel=MEASURING,
        help="auto (counters or unavailable), rapl, pyrapl, codecarbon (else an estimate that says so), none.",
    ),
]
Quick = Annotated[
    bool, _option("--quick", panel=MEASURING, help="Windows of 1 s for energy: less exact, and the rows say so.")
]
BatchSize = Annotated[
    int,
    _option(
        "--batch-size",
        panel=MEASURING,
        min=0,
        help="Graphs in a call whose latency is measured. Default: all test graphs.",
    ),
]
Country = Annotated[
    str,
    _option(
        "--country", panel=MEASURING, help="Also give carbon dioxide, of this country's electricity: FRA, USA, ..."
    ),
]
Runs = Annotated[
    Path, _option("--runs", panel=WHAT, help="Folder of runs, where ids are looked for that are no paths.")
]
Json = Annotated[bool, _option("--json", panel=OUTPUT, help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, _option("--quiet", "-q", panel=OUTPUT, help="Print no progress.")]
Debug = Annotated[bool, _option("--debug", panel=OUTPUT, help="Show a traceback when something fails.")]


@dataclass(frozen=True)
class What:
    """Which data, task and model, with which seeds."""

    workload: Annotated[
        str | None,
        _option(
            *("--workload", "-w"),
            panel=WHAT,
            autocompletion=completing.workloads,
            help="Data set, task, model and recipe by one name; see 'gnncompress workloads'.",
        ),
    ] = None
    dataset: Annotated[
        str | None,
        _option(
            *("--dataset", "-d"),
            panel=WHAT,
            autocompletion=completing.datasets,
            help="Data set; see 'gnncompress datasets'; or my_file.py:load. Default: digits.",
        ),
    ] = None
    model: Annotated[
        str | None,
        _option(
            *("--model", "-m"),
            panel=WHAT,
            autocompletion=completing.models,
            help="Model; see 'gnncompress models'; or my_file.py:build. Default: the task's.",
        ),
    ] = None
    task: Annotated[
        str | None,
        _option(
            "--task",
            panel=WHAT,
            help="node, link, graph or multilabel. Default: the data set's first that the model can do.",
        ),
    ] = None
    split: Annotated[
        str | None,
        _option(
            "--split",
            panel=WHAT,
            help="random, public, stratified-kfold, scaffold or hgpsl. Default: the workload's or random.",
        ),
    ] = None
    split_seed: Annotated[
        int | None,
        _option("--split-seed", panel=WHAT, min=0, help="One split for all seeds. Default: every seed draws its own."),
    ] = None
    features: Annotated[
        str | None,
        _option(
            "--features",
            panel=WHAT,
            help="auto (categories one-hot, numbers as they are), raw, one-hot, or standard (z-scores).",
        ),
    ] = None
    weights: Annotated[
        Path | None,
        _option("--weights", panel=WHAT, help="File with the weights of a model that is trained already."),
    ] = None
    key: Annotated[
        str, _option("--key", panel=WHAT, help="Where in that file the state_dict is, such as ema.model.")
    ] = ""
    seeds: Annotated[
        int, _option("--seeds", panel=WHAT, min=1, help="How many seeds to run, each a run of its own.")
    ] = 1
    seed: Annotated[
        int, _option("--seed", panel=WHAT, min=0, help="The first seed, of the model and, unless told, the split.")
    ] = 0
    data_root: DataRoot = None

    @property
    def numbers(self) -> range:
        """The seeds."""
        return range(self.seed, self.seed + self.seeds)


@dataclass(frozen=True)
class FiveSeeds(What):
    """The same, with five seeds where nothing else is said."""

    seeds: Annotated[
        int, _option("--seeds", panel=WHAT, min=1, help="How many seeds to run, each a run of its own.")
    ] = 5


@dataclass(frozen=True)
class Training:
    """How models are trained."""

    epochs: Annotated[
        int | None, _option("--epochs", panel=TRAINING, min=1, help="Most epochs of training. Default: the workload's.")
    ] = None
    changes: Annotated[
        list[str] | None,
        _option(
            "--set",
            panel=TRAINING,
            help="Change the recipe or the model: learning_rate=0.01, weight_decay=0, hidden=32, ...; repeatable.",
        ),
    ] = None
    device: Annotated[str, _option("--device", panel=TRAINING, help="auto, cpu or cuda.")] = "auto"
    threads: Threads = 1
    train: Annotated[
        str | None,
        _option("--train", panel=TRAINING, help="A training loop of your own, such as my_file.py:train."),
    ] = None
    loss: Annotated[
        str | None, _option("--loss", panel=TRAINING, help="A loss of your own, such as my_file.py:loss.")
    ] = None
    score: Annotated[
        str | None, _option("--score", panel=TRAINING, help="A metric of your own, such as my_file.py:score.")
    ] = None


@dataclass(frozen=True)
class Finetuning:
    """How compressed models are trained on."""

    finetune: Annotated[
        bool, _option("--finetune/--no-finetune", panel=TRAINING, help="Train compressed models on.")
    ] = True
    finetune_epochs: Annotated[
        int | None,
        _option(
            "--finetune-epochs",
            panel=TRAINING,
            min=1,
            help="Most epochs of that. Default: as many as training has, after unstructured pruning half as many.",
        ),
    ] = None

    def choices(self) -> FinetuneChoices:
        """Return them for ``resolve``."""
        from gnncompress.experiments.resolve import FinetuneChoices

        return FinetuneChoices(self.finetune, self.finetune_epochs)


@dataclass(frozen=True)
class Measuring:
    """How models are measured: none of it changes a model."""

    energy: Energy = "auto"
    energy_seconds: Annotated[
        float | None,
        _option(
            "--energy-seconds",
            panel=MEASURING,
            help="Seconds of each of three windows that energy is read over. Default: 10.",
        ),
    ] = None
    quick: Quick = False
    country: Country = ""
    inference_threads: Annotated[
        int | None,
        _option("--inference-threads", panel=MEASURING, min=1, help="Threads of inference. Default: --threads."),
    ] = None
    batch_size: BatchSize = 0
    remeasure: Annotated[
        bool, _option("--remeasure", panel=MEASURING, help="Measure finished models again; reports take the latest.")
    ] = False

    def choices(self, execute: str = "simulated") -> MeasureChoices:
        """Return them for ``resolve``.

        Raises:
            UsageError: if options contradict each other.
        """
        from gnncompress.experiments.resolve import MeasureChoices

        return MeasureChoices(
            execute=execute,
            energy=self.energy,
            energy_seconds=energy_seconds(self.energy_seconds, self.quick),
            country=self.country,
            inference_threads=self.inference_threads,
            inference_batch=self.batch_size,
        )


@dataclass(frozen=True)
class Output:
    """Where runs go, and what is printed."""

    output: Annotated[Path, _option("--output", "-o", panel=OUTPUT, help="Folder of the runs.")] = Path("runs")
    outdated: Annotated[
        str,
        _option(
            "--outdated",
            panel=OUTPUT,
            help="What becomes of finished stages that another version's code made: keep or rerun.",
        ),
    ] = "keep"
    as_json: Json = False
    quiet: Quiet = False
    debug: Debug = False


def workload_choices(what: What, training: Training, device: str | None = None) -> WorkloadChoices:
    """Return what is trained, and how, for ``resolve``."""
    from gnncompress.experiments.changes import parse_changes
    from gnncompress.experiments.resolve import WorkloadChoices

    return WorkloadChoices(
        workload=what.workload,
        dataset=what.dataset,
        model=what.model,
        task=what.task,
        split=what.split,
        split_seed=what.split_seed,
        features=what.features,
        epochs=training.epochs,
        changes=parse_changes(training.changes or []),
        device=training.device if device is None else device,
        threads=training.threads,
        data_root=what.data_root,
        weights=what.weights,
        key=what.key,
        train=training.train,
        loss=training.loss,
        score=training.score,
    )


def energy_seconds(asked: float | None, quick: bool) -> float:
    """Return how long a window of energy is.

    Raises:
        UsageError: if both options are given.
    """
    if quick and asked is not None:
        raise UsageError("--quick and --energy-seconds: give one of them")
    return 1.0 if quick else 10.0 if asked is None else asked


@dataclass(frozen=True)
class Made:
    """Annotates a parameter that is a group of options: ``make`` returns its dataclass, when a command needs it."""

    make: Callable[[], type]


def grouped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command whose parameters that are groups of options have become these options, as Typer reads them."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        made = [one.make() for one in getattr(hints[name], "__metadata__", ()) if isinstance(one, Made)]
        kind = made[0] if made else hints[name]
        if isinstance(kind, type) and is_dataclass(kind):
            groups[name] = kind
            inner = get_type_hints(kind, include_extras=True)
            parameters += [_parameter(one.name, inner[one.name], one.default) for one in fields(kind)]
        else:
            default = MISSING if parameter.default is parameter.empty else parameter.default
            parameters.append(_parameter(name, hints[name], default))

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        made = {}
        for name, kind in groups.items():
            made[name] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
        return function(**given, **made)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    missing = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=missing, annotation=annotation)
