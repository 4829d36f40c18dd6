"""The compression methods by name and the options each takes; a new one adds an entry here. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gnncompress.errors import UsageError
from gnncompress.registry import Entry, Registry, unknown

Setting = str | int | float | dict[str, float]


@dataclass(frozen=True)
class Option:
    """An option of a method: its default, None if it must be given, and its choices, if it is one of a few words."""

    default: Setting | None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method: its options; whether it trains its own model; whether it changes the shapes of a model's tensors."""

    options: Mapping[str, Option] = field(default_factory=dict)
    trains: bool = False
    reshapes: bool = False

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
            if option.choices and value not in option.choices:
                raise UsageError(f"{_flag(name)}: {unknown(name, str(value), option.choices)}")
            if value != option.default:
                settings[name] = value
        return settings


def scheme_of(settings: Mapping[str, Setting]) -> str:
    """Return what a table shows of a method's settings: words as they are, numbers with their names."""
    words = [str(value) for value in settings.values() if isinstance(value, str)]
    numbers = [f"{name}={value:g}" for name, value in settings.items() if isinstance(value, (int, float))]
    return " ".join(words + numbers)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _listed(options: Mapping[str, Option]) -> str:
    return ", ".join(_flag(name) for name in options) or "none"


_WEIGHTS = {
    "importance": Option("magnitude", ("magnitude", "gradient", "taylor", "random")),
    "min_keep": Option(0.0),
    "steps": Option(1),
}

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
            options={"rate": Option(None)},
            trains=True,
        ),
        MethodEntry(
            name="structured",
            summary="whole channels go, by Torch-Pruning's dependency graph; sparsity counts all parameters",
            target="gnncompress.pruning.structured.method:StructuredPruning",
            citation="Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023",
            options={"importance": Option("l2", ("l1", "l2", "taylor", "random"))},
            reshapes=True,
        ),
    ],
)
