"""The compression methods by name; a new one adds a line here. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.metadata import entry_points
from typing import Any

from gnncompress.compression import CompressionMethod
from gnncompress.errors import ParameterError, UsageError
from gnncompress.factories import is_reference, load_reference
from gnncompress.registry import unknown

# An installed package adds methods of its own by entry points of this group.
GROUP = "gnncompress.methods"
_TARGETS = {
    "global": "gnncompress.pruning.magnitude:GlobalPruning",
    "fine-grained": "gnncompress.pruning.magnitude:FineGrainedPruning",
    "l2": "gnncompress.pruning.l2:L2Regularization",
    "structured": "gnncompress.pruning.structured.method:StructuredPruning",
    "quantize": "gnncompress.quantization.method:Quantization",
    "lottery": "gnncompress.pruning.lottery:LotteryTicket",
    "sensitivity": "gnncompress.pruning.sensitivity:LayerSensitivity",
}

# Classes of the user's own, by what they were named.
_references: dict[Any, str] = {}


def method_names() -> list[str]:
    """Return the names of all methods, the package's own first."""
    return list(dict.fromkeys([*_TARGETS, *(point.name for point in entry_points(group=GROUP))]))


def find_method(name: str) -> type[CompressionMethod]:
    """Return the method called ``name``, or what a reference such as ``my_file.py:Halving`` points at.

    Raises:
        UsageError: with near misses, if there is none; if it is no compression method.
    """
    if is_reference(name):
        found = load_reference(name)
        _references[found] = name
    elif name.lower() in _TARGETS:
        found = load_reference(_TARGETS[name.lower()])
    else:
        installed = {point.name.lower(): point for point in entry_points(group=GROUP)}
        if name.lower() not in installed:
            raise UsageError(unknown("method", name, method_names()))
        found = installed[name.lower()].load()
    if not (isinstance(found, type) and issubclass(found, CompressionMethod)):
        raise UsageError(f"method {name}: {found!r} is no subclass of gnncompress.compression.CompressionMethod")
    return found


def methods(command: str | None = None) -> Iterator[type[CompressionMethod]]:
    """Yield all methods, or those that a command runs."""
    for name in method_names():
        method = find_method(name)
        if command in (None, method.command):
            yield method


def name_of(method: CompressionMethod) -> str:
    """Return the name by which ``find_method`` finds a method's class again: a registered one, or its reference.

    Raises:
        UsageError: if the class cannot be imported again, such as one made within a function.
    """
    kind = type(method)
    if kind.name in method_names() and find_method(kind.name) is kind:
        return kind.name
    if kind in _references:
        return _references[kind]
    reference = f"{kind.__module__}:{kind.__qualname__}"
    try:
        found: object = find_method(reference)
    except UsageError:
        found = None
    if found is not kind:
        raise UsageError(
            f"method {kind.__name__}: {reference} cannot be imported; put the class into a module of its own, or name "
            "it as my_file.py:Name"
        )
    return reference


def method_named(name: str, given: Mapping[str, Any]) -> CompressionMethod:
    """Return a method with the options ``given``; what is None was not given.

    Raises:
        UsageError: for an unknown method.
        ParameterError: for an option that it does not have, and which method has it, or a value that one cannot have.
    """
    method = find_method(name)
    known = [one.name for one in fields(method)]
    for option, value in given.items():
        if value is not None and option not in known:
            having = [other.name for other in methods() if option in {one.name for one in fields(other)}]
            hint = f"it belongs to {', '.join(having)}" if having else f"it has {', '.join(known)}"
            raise ParameterError(option, "", f"{method.title()} has no such option; {hint}")
    return method.of(given)
