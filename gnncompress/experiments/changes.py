"""``--set name=value``: what a user changes of a recipe or of a model's arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_type_hints

from gnncompress.errors import UsageError
from gnncompress.models.registry import Argument
from gnncompress.registry import unknown
from gnncompress.tasks.recipe import Recipe

_POSITIVE = {"epochs", "patience", "hidden", "layers", "heads", "subgraphs", "walk_length"}


def parse_changes(pairs: Iterable[str]) -> dict[str, str]:
    """Read ``name=value`` pairs.

    Raises:
        UsageError: for one without an equals sign, or a name given twice.
    """
    changes: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"--set {pair}: write name=value, e.g. --set learning_rate=0.01")
        if name in changes:
            raise UsageError(f"--set {name}: given twice")
        changes[name] = value
    return changes


def with_changes(
    recipe: Recipe, arguments: Mapping[str, Argument], changes: Mapping[str, Any]
) -> tuple[Recipe, dict[str, Argument]]:
    """Return recipe and arguments with ``changes``, each of the type that is there already.

    Raises:
        UsageError: naming what neither of them has, or a value of another kind.
    """
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    choices = {name: get_args(kind) for name, kind in get_type_hints(Recipe).items()}
    changed_arguments = dict(arguments)
    for name, value in changes.items():
        if name in fields:
            fields[name] = _converted(name, value, fields[name], choices[name])
        elif name in arguments:
            changed_arguments[name] = _converted(name, value, arguments[name], ())
        else:
            raise UsageError(f"--set {name}: {unknown('setting', name, [*fields, *arguments])}")
    return Recipe(**fields), changed_arguments


def _converted(name: str, value: Any, old: Argument, choices: tuple[str, ...]) -> Any:
    if choices and value not in choices:
        raise UsageError(f"--set {name}={value}: use {', '.join(choice or 'nothing' for choice in choices)}")
    try:
        new = type(old)(value)
    except ValueError:
        kind = "a whole number" if isinstance(old, int) else "a number"
        raise UsageError(f"--set {name}={value}: must be {kind}, such as {old}") from None
    least = 1 if name in _POSITIVE else 0
    if isinstance(new, (int, float)) and not least <= new < float("inf"):
        raise UsageError(f"--set {name}={value}: must be a finite number, at least {least}")
    return new
