"""What a compression method is: a frozen, typed configuration that can be applied to a model.

A method is a frozen dataclass derived from ``CompressionMethod``. Its fields, made by ``option``, are all that is
configured of it: the command line's options, their bounds and help, validation, hashes of runs and tables follow from
them. Nothing here imports torch, nor should a method's module: ``gnncompress prune --help`` imports it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache
from numbers import Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Union, cast, get_args, get_origin, get_type_hints

from gnncompress.errors import ParameterError
from gnncompress.registry import unknown

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Self

    from gnncompress.measurements import Measurement
    from gnncompress.tasks.base import Task
    from gnncompress.tasks.recipe import Recipe
    from gnncompress.tasks.trainer import Trainer

_OPTION = "option"


@dataclass(frozen=True)
class Option:
    """What is known of a field beside its type and default.

    ``help`` is a line for people. A string is one of ``choices`` if there are any; a number is at least ``least``
    and below ``below``. ``flag`` is the command line's name of it, by default ``--name-with-dashes``, and
    ``letter`` its short one. ``several`` says that the command line takes several values, a run for each. What is
    ``hidden`` is no option of a command line. ``short`` is its name in tables, which show it only where it is no
    default, unless it is ``shown`` always.
    """

    help: str
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    below: float = math.inf
    flag: str = ""
    letter: str = ""
    several: bool = False
    hidden: bool = False
    short: str = ""
    shown: bool = False


def option(default: Any = MISSING, *, default_factory: Any = MISSING, **about: Any) -> Any:
    """Return a dataclass field with what ``Option`` says of it."""
    metadata = {_OPTION: Option(**about)}
    if default_factory is not MISSING:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def option_of(one: Field[Any]) -> Option:
    """Return what is known of a field."""
    found: Option = one.metadata.get(_OPTION, Option(""))
    return found


def flag_of(one: Field[Any]) -> str:
    """Return a field's name on the command line."""
    return option_of(one).flag or f"--{one.name.replace('_', '-')}"


def default_of(one: Field[Any]) -> Any:
    """Return a field's default; MISSING if it must be given."""
    return one.default_factory() if one.default_factory is not MISSING else one.default


@lru_cache
def types_of(kind: Hashable) -> dict[str, Any]:
    """Return the types of a dataclass's fields."""
    return get_type_hints(kind)


@dataclass(frozen=True)
class Config:
    """Frozen fields, each checked against its type and its ``Option``.

    Raises:
        ParameterError: naming the field, its value, and what it may be.
    """

    def __post_init__(self) -> None:
        types = types_of(cast(Hashable, type(self)))
        for one in fields(self):
            object.__setattr__(self, one.name, checked(one, types[one.name], getattr(self, one.name)))

    def changed(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, as JSON values, in the order of the fields."""
        found = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if value != default_of(one):
                found[one.name] = list(value) if isinstance(value, tuple) else value
        return found

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return the configuration with the fields ``given``; what is None was not given.

        Raises:
            ParameterError: for an option that there is not, that is needed, or that has a value it cannot have.
        """
        given = {name: value for name, value in given.items() if value is not None}
        known = {one.name: one for one in fields(cls)}
        for name in given:
            if name not in known:
                having = ", ".join(known) or "none"
                raise ParameterError(name, "", f"{cls.title()} has no such option; it has {having}")
        for name, one in known.items():
            if default_of(one) is MISSING and name not in given:
                raise ParameterError(name, "", f"{cls.title()} needs it")
        return cls(**given)

    @classmethod
    def title(cls) -> str:
        """Return what messages call it."""
        return cls.__name__


def checked(one: Field[Any], kind: Any, value: Any) -> Any:
    """Return a value as a field's type has it, so that 1 and 1.0 are the same.

    Raises:
        ParameterError: if it is of another type, out of bounds or none of the choices.
    """
    about, name = option_of(one), one.name
    kinds = [part for part in get_args(kind) if part is not NoneType] if get_origin(kind) in (Union, UnionType) else []
    if kinds:
        if value is None:
            return None
        kind = kinds[0]
    choices = about.choices or (get_args(kind) if get_origin(kind) is Literal else ())
    if choices:
        return _choice(name, value, choices)
    if kind in (int, float):
        return _number(name, value, kind, about)
    if get_origin(kind) is tuple:
        parts = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]
        if not all(isinstance(part, str) for part in parts):
            raise ParameterError(name, value, "must be names")
        return tuple(sorted(set(parts)))
    if get_origin(kind) is Mapping:
        if not isinstance(value, Mapping):
            raise ParameterError(name, value, "must be numbers by name")
        return {str(key): _number(f"{name} of {key}", number, float, about) for key, number in value.items()}
    if isinstance(kind, type) and not isinstance(value, kind):
        raise ParameterError(name, value, f"must be a {kind.__name__}")
    return value


def _word(name: str, value: str | bool | list[str]) -> str:
    if isinstance(value, bool):
        return name.replace("_", "-")
    return value if isinstance(value, str) else f"{name}={','.join(value)}"


def _choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if value in choices:
        return str(value)
    folded = {choice.lower(): choice for choice in choices}
    if isinstance(value, str) and value.lower() in folded:
        return folded[value.lower()]
    raise ParameterError(name, "", unknown(name, str(value), choices))


def _number(name: str, value: Any, kind: type[int] | type[float], about: Option) -> Any:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        raise ParameterError(name, value, "must be a number")
    try:
        found = kind(value) if math.isfinite(value) else math.nan
    except OverflowError:  # a whole number that no float can hold
        found = math.nan
    if found != value or not about.least <= found < about.below:
        what = "a whole number" if kind is int else "a finite number"
        bounds = [f"at least {about.least:g}"] if about.least > -math.inf else []
        bounds += [f"below {about.below:g}"] if about.below < math.inf else []
        raise ParameterError(name, value, f"must be {what}{', ' + ' and '.join(bounds) if bounds else ''}")
    return abs(found) if found == 0 else found  # -0.0 is 0


@dataclass
class CompressionResult:
    """What a method returns: the compressed model, what it measured, and what the user must be told."""

    model: nn.Module
    measurements: list[Measurement] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


# What a method starts from: a trained model, a fresh one, or the model that a method has compressed before.
Start = Literal["trained", "fresh"]


@dataclass(frozen=True)
class CompressionMethod(Config, ABC):
    """A way to make a model smaller; its fields are its configuration.

    A new method is a class in a file of its own and a line in ``gnncompress.methods``. ``command`` is the command that
    runs it: prune, quantize, or one of its own. ``version`` is raised when a default, or what the method does, changes.
    ``reshapes`` says that tensors of the model have other shapes after it,
    ``analyzes`` that it only looks at the model.

    Raises:
        ParameterError: for a value that a field cannot have.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    command: ClassVar[str] = "prune"
    version: ClassVar[int] = 1
    reshapes: ClassVar[bool] = False
    analyzes: ClassVar[bool] = False

    @abstractmethod
    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        """Compress ``model``, in place or not, and train it on if ``trainer`` has a recipe for that."""

    def rebuilt(self, model: nn.Module) -> nn.Module:
        """Give a fresh model the modules that ``apply`` leaves it with, so that it can take the compressed tensors."""
        return model

    def starts_from(self) -> Start | CompressionMethod:
        """Return what the method is given: a trained model, a fresh one, or what another method makes of one."""
        return "trained"

    def does_nothing(self) -> bool:
        """Say whether the method would leave a trained model as it is."""
        return False

    def finetuning(self, recipe: Recipe) -> Recipe | None:
        """Return how a compressed model is trained on if the user says nothing; None if it is not."""
        return recipe.halved

    def for_task(self, task: str) -> CompressionMethod:
        """Return the method with what is usual in a task where nothing else was said."""
        return self

    def penalized(self, recipe: Recipe) -> Recipe:
        """Return a recipe as the method changes it, for itself and for the control that it is compared with."""
        return recipe

    def refusal(self, earlier: Sequence[CompressionMethod]) -> str:
        """Say why the method cannot follow the ``earlier`` ones, and what to do; nothing if it can."""
        return ""

    def check(self, model: nn.Module, task: Task) -> None:
        """Look at a fresh, untrained model, and refuse what cannot be done with it.

        Raises:
            GnncompressError: naming the layer and what to do.
        """
        return

    def label(self, execute: str = "") -> str:
        """Return what tables show of the configuration: words, ``execute`` the last of them, then numbers by name."""
        shown = {one.name: getattr(self, one.name) for one in fields(self) if option_of(one).shown}
        short = {one.name: option_of(one).short or one.name for one in fields(self)}
        changed = {short[name]: value for name, value in {**shown, **self.changed()}.items() if name != "sparsity"}
        words = [_word(name, value) for name, value in changed.items() if isinstance(value, (str, bool, list))]
        numbers = [f"{name}={value:g}" for name, value in changed.items() if type(value) in (int, float)]
        return " ".join([*words, *([execute] if execute else []), *numbers])

    @classmethod
    def title(cls) -> str:
        """Return what messages call it."""
        return f"method {cls.name}"
