"""The compression methods by name and the options each takes; a new one adds an entry here. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from gnncompress.errors import UsageError
from gnncompress.registry import Entry, Registry, unknown
from gnncompress.schedules import after_rounds
from gnncompress.schemes import AUTO, CALIBRATIONS, CONFIGS, INTEGER, SCHEMES, SIMULATED

Setting = str | int | float | dict[str, float]
RATE = 0.2
BASE: Literal["base"] = "base"
EXECUTE = "execute"


@dataclass(frozen=True)
class Other:
    """The run of another method, with its usual settings, fine-tuned as the spec says of pruned models."""

    method: str
    sparsity: float


@dataclass(frozen=True)
class Same:
    """The run that differs in these settings alone."""

    settings: dict[str, Setting]


Start = Literal["base"] | tuple[float, dict[str, Setting]] | Other | Same | None
StartsFrom = Callable[[float, Mapping[str, Setting]], Start]


def _base(sparsity: float, settings: Mapping[str, Setting]) -> Start:
    return BASE


def _own_training(sparsity: float, settings: Mapping[str, Setting]) -> Start:
    return (0.0, dict(settings)) if sparsity > 0 else None


def _ticket(sparsity: float, settings: Mapping[str, Setting]) -> Start:
    """A control starts from the ticket of its round, a ticket from that of the round before."""
    number, rate = int(cast(int, settings.get("round", 0))), float(cast(float, settings.get("rate", RATE)))
    if settings.get("arm", "ticket") != "ticket":
        return sparsity, {name: value for name, value in settings.items() if name != "arm"}
    if number <= 1:
        return BASE
    return after_rounds(number - 1, rate), {**settings, "round": number - 1}


def _quantized(sparsity: float, settings: Mapping[str, Setting]) -> Start:
    """A model that runs in integers is the simulated one; that starts from a pruned one if it is to be sparse."""
    if EXECUTE in settings:
        return Same({name: value for name, value in settings.items() if name != EXECUTE})
    return Other("global", sparsity) if sparsity > 0 else BASE


@dataclass(frozen=True)
class Option:
    """An option of a method: its default, None if it must be given; its words, or the range of its numbers.

    ``kind`` is the type of a number, at least ``least`` and below ``below``.
    """

    default: Setting | None
    choices: tuple[str, ...] = ()
    kind: type[int] | type[float] | None = None
    least: float = 0.0
    below: float = math.inf

    def value(self, name: str, given: Any) -> Any:
        """Return what was given as this option's type, so that 1 and 1.0 are one run.

        Raises:
            UsageError: if it is none of the words, no such number, or out of range.
        """
        if self.choices and given not in self.choices:
            raise UsageError(f"{_flag(name)}: {unknown(name, str(given), self.choices)}")
        if self.kind is None:
            if self.default is not None and not isinstance(given, type(self.default)):
                raise UsageError(f"{_flag(name)} {given}: must be a {type(self.default).__name__}")
            return given
        try:
            value = self.kind(given)
        except (TypeError, ValueError):
            raise UsageError(f"{_flag(name)} {given}: must be a number") from None
        if value != given or not self.least <= value < self.below:
            limit = "" if math.isinf(self.below) else f" and below {self.below:g}"
            what = "a whole number" if self.kind is int else "a finite number"
            raise UsageError(f"{_flag(name)} {given}: must be {what}, at least {self.least:g}{limit}")
        return value


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method: its options, and how it sits among runs.

    ``starts_from`` says for a sparsity and settings which run's model the method is given: BASE, the plainly trained
    one; the sparsity and settings of another run of the same method, or its settings alone; another method's run; or
    None, a fresh model.
    ``reshapes``: it changes the shapes of a model's tensors. ``rebuilds``: it changes a model's modules, and its class
    has ``rebuilt`` to do so again. ``dense``: it compresses at sparsity 0, too. ``retrains``: it trains on as long as
    training was, others half as long. ``analysis``: it only looks at the model. ``study``: a command of its own runs
    it.
    """

    options: Mapping[str, Option] = field(default_factory=dict)
    starts_from: StartsFrom = _base
    reshapes: bool = False
    rebuilds: bool = False
    dense: bool = False
    retrains: bool = False
    analysis: bool = False
    study: bool = False

    @property
    def trains(self) -> bool:
        """Whether the method trains a fresh model at sparsity 0."""
        return self.starts_from(0.0, {}) is None

    def settings(self, given: Mapping[str, Any]) -> dict[str, Setting]:
        """Return the options that differ from their defaults; what is None was not given.

        Raises:
            UsageError: for an option that the method does not have, that it needs, or that has another value.
        """
        given = {name: value for name, value in given.items() if value is not None}
        for name in given:
            if name not in self.options:
                others = [method.name for method in METHODS if name in method.options]
                hint = f"it belongs to {', '.join(others)}" if others else f"it has {_listed(self.options)}"
                raise UsageError(f"{_flag(name)}: method {self.name} has no such option; {hint}")
        settings: dict[str, Setting] = {}
        for name, option in self.options.items():
            value = given.get(name, option.default)
            if value is None:
                raise UsageError(f"method {self.name} needs {_flag(name)}")
            value = option.value(name, value)
            if value != option.default:
                settings[name] = value
        return settings


def scheme_of(settings: Mapping[str, Setting]) -> str:
    """Return what a table shows of a method's settings: words as they are, numbers with their names."""
    words = [
        f"float={value}" if name == "keep_float" else str(value)
        for name, value in settings.items()
        if isinstance(value, str)
    ]
    numbers = [f"{name}={value:g}" for name, value in settings.items() if isinstance(value, (int, float))]
    return " ".join(words + numbers)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _listed(options: Mapping[str, Option]) -> str:
    return ", ".join(_flag(name) for name in options) or "none"


_WEIGHTS = {
    "importance": Option("magnitude", ("magnitude", "gradient", "taylor", "random")),
    "min_keep": Option(0.0, kind=float, below=1),
    "steps": Option(1, kind=int, least=1),
}

QUANTIZE = "quantize"
METHODS = Registry(
    "method",
    [
        MethodEntry(
            name="global",
            summary="unstructured pruning under one threshold for the whole model",
            target="gnncompress.pruning.magnitude:GlobalPruning",
            citation="Han et al., NeurIPS 2015; arXiv 2510.22058, section 2.4",
            options=_WEIGHTS,
        ),
        MethodEntry(
            name="fine-grained",
            summary="unstructured pruning by a budget for each layer: uniform, ERK, layer-adaptive score, or given",
            target="gnncompress.pruning.magnitude:FineGrainedPruning",
            citation="arXiv 2510.22058, section 2.4; Evci et al., ICML 2020; Lee et al., ICLR 2021",
            options={
                **_WEIGHTS,
                "allocation": Option("uniform", ("uniform", "erk", "lamp-score", "given")),
                "layers": Option({}),
            },
        ),
        MethodEntry(
            name="l2",
            summary="training under an L2 penalty of a given rate, alone or followed by global pruning",
            target="gnncompress.pruning.l2:L2Regularization",
            citation="arXiv 2510.22058, section 2.4 and table 17",
            options={"rate": Option(None, kind=float)},
            starts_from=_own_training,
        ),
        MethodEntry(
            name="structured",
            summary="whole channels go, by Torch-Pruning's dependency graph; sparsity counts all parameters",
            target="gnncompress.pruning.structured.method:StructuredPruning",
            citation="Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023",
            options={"importance": Option("l2", ("l1", "l2", "taylor", "random"))},
            reshapes=True,
            retrains=True,
        ),
        MethodEntry(
            name=QUANTIZE,
            summary="fewer bits: after training, in training, Degree-Quant, A2Q; 'gnncompress quantize' runs it",
            target="gnncompress.quantization.method:Quantization",
            citation="Tailor et al., Degree-Quant, ICLR 2021; Zhu et al., A2Q, ICLR 2023; arXiv 2510.22058",
            options={
                "scheme": Option(None, SCHEMES),
                "calibration": Option(AUTO, CALIBRATIONS),
                "config": Option("usual", ("usual", *CONFIGS)),
                "weights": Option("tensor", ("tensor", "channel")),
                "head_bits": Option(8, kind=int, least=2, below=9),
                "protocol": Option("validated", ("validated", "official-protocol")),
                "draw": Option("forward", ("forward", "layer")),
                "protect": Option(0.0, kind=float, below=1.0),
                "protect_more": Option(0.1, kind=float, below=1.0),
                "groups": Option(0, kind=int),
                "target_bits": Option(0.0, kind=float, below=16.0),
                "keep_float": Option(""),
                EXECUTE: Option(SIMULATED, (SIMULATED, INTEGER)),
            },
            starts_from=_quantized,
            rebuilds=True,
            dense=True,
            retrains=True,
            study=True,
        ),
        MethodEntry(
            name="lottery",
            summary="a round of a lottery ticket or of its controls; 'gnncompress lottery' runs them all",
            target="gnncompress.pruning.lottery:LotteryTicket",
            citation="Frankle and Carbin, ICLR 2019; with --prune-edges Chen et al., ICML 2021",
            options={
                "arm": Option("ticket", ("ticket", "reinit", "random")),
                "round": Option(None, kind=int, least=1),
                "rate": Option(RATE, kind=float, below=1),
                "rewind": Option(0, kind=int),
                "edges": Option(0.0, kind=float, below=1),
            },
            starts_from=_ticket,
            study=True,
        ),
        MethodEntry(
            name="sensitivity",
            summary="each layer pruned alone, the model unchanged; 'gnncompress sensitivity' runs all levels",
            target="gnncompress.pruning.sensitivity:LayerSensitivity",
            citation="Li et al., ICLR 2017, section 3.2",
            options={"importance": _WEIGHTS["importance"]},
            analysis=True,
            study=True,
        ),
    ],
)
