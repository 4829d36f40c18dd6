"""The options of compression methods, as a command line has them: made of the fields of the methods' classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, make_dataclass
from functools import lru_cache
from itertools import product
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from gnncompress.cli import completing
from gnncompress.cli.options import HOW
from gnncompress.compression import CompressionMethod, default_of, flag_of, option_of, types_of
from gnncompress.errors import ParameterError
from gnncompress.methods import find_method, method_named, methods

# Shells complete the values of these.
_COMPLETED = {"scheme": completing.schemes}


@lru_cache
def method_options(command: str) -> type:
    """Return a dataclass with an option for each field of the methods that a command runs; None is: not given."""
    having: dict[str, list[tuple[type[CompressionMethod], Field[Any]]]] = {}
    kinds = list(methods(command))
    for method in kinds:
        for one in fields(method):
            if not option_of(one).hidden:
                having.setdefault(one.name, []).append((method, one))
    made: list[tuple[str, Any, Any]] = []
    for name, pairs in having.items():
        method, one = pairs[0]
        names = [] if len(pairs) == len(kinds) else [kind.name for kind, _ in pairs]
        about = typer.Option(
            *filter(None, (flag_of(one), option_of(one).letter)),
            help=_help(pairs, names),
            rich_help_panel=HOW,
            autocompletion=_COMPLETED.get(name),
        )
        made.append((name, Annotated[_asked(one, types_of(method)[name]), about], field(default=None)))
    return make_dataclass(f"{command.title()}Options", made, frozen=True)


def given_options(options: Any) -> dict[str, Any]:
    """Return the options that were given, by name."""
    given = {one.name: getattr(options, one.name) for one in fields(options)}
    return {name: value for name, value in given.items() if not (value is None or value is False or value == [])}


def one_for_each(name: str, given: Mapping[str, Any]) -> Iterator[CompressionMethod]:
    """Yield the method called ``name`` for each combination of the values of options that take several.

    Raises:
        UsageError: as the method's ``of`` does; for values that are no list of such.
    """
    method = find_method(name)
    about = {one.name: one for one in fields(method)}
    several = {
        key: _values(about[key], types_of(method)[key], value)
        for key, value in given.items()
        if key in about and option_of(about[key]).several and isinstance(value, str)
    }
    for values in product(*several.values()):
        yield method_named(name, {**given, **dict(zip(several, values, strict=True))})


def _values(one: Field[Any], kind: Any, text: str) -> list[Any]:
    from gnncompress.experiments.levels import parse_levels, parse_rates

    if kind is float:
        return parse_levels(text, flag_of(one)) if option_of(one).below <= 1 else parse_rates(text)
    return [part.strip() for part in text.split(",")]


def _asked(one: Field[Any], kind: Any) -> Any:
    """Return the type that Typer is to read an option as."""
    parts = [part for part in get_args(kind) if part is not NoneType]
    if NoneType in get_args(kind):
        kind = parts[0]
    if option_of(one).several or get_origin(kind) is Literal:
        return str | None
    if get_origin(kind) is tuple:
        return list[str] | None
    return bool if kind is bool else kind | None


def _help(pairs: list[tuple[type[CompressionMethod], Field[Any]]], names: list[str]) -> str:
    parts = [option_of(pairs[0][1]).help]
    choices = {}
    for method, one in pairs:
        kind = types_of(method)[one.name]
        inner = next((part for part in get_args(kind) if get_origin(part) is Literal), kind)
        if get_origin(inner) is Literal:
            choices[method.name] = " or ".join([", ".join(get_args(inner)[:-1]), get_args(inner)[-1]])
    if len(set(choices.values())) == 1:
        first = next(iter(choices.values()))
        parts += (
            [] if first.split(", ")[0].split(" or ")[0] in parts[0] else [f"{first}."]
        )  # which the help says itself
    else:
        most = next(iter(choices.values()), "")
        others = [f"for {name} {text}" for name, text in choices.items() if text != most]
        parts += [f"{'; '.join([most, *others])}."] if most else []
    defaults = {default_of(one) for _, one in pairs if default_of(one) is not MISSING and _plain(default_of(one))}
    if len(defaults) == 1 and "Default" not in parts[0]:
        parts.append(f"Default: {next(iter(defaults))}.")
    if names:
        parts.append(f"({', '.join(names)})")
    return " ".join(parts)


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def named_values(method: type[CompressionMethod], pairs: Sequence[str]) -> dict[str, Any]:
    """Return options given as name=value, each of the type that the method's field has.

    Raises:
        ParameterError: for what is no such pair, or no value of that type.
    """
    known = {one.name: one for one in fields(method)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise ParameterError("option", pair, "write name=value, such as --option every=4")
        kind = types_of(method)[name] if name in known else str
        kinds = [part for part in get_args(kind) if part is not NoneType] or [kind]
        found[name] = _typed(name, text, kinds[0])
    return found


def _typed(name: str, text: str, kind: Any) -> Any:
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        raise ParameterError("option", f"{name}={text}", "must be a number") from None
