"""Calling a user's model: the names of ``forward``'s parameters say which fields of the data it wants."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from gnncompress.errors import GnncompressError, TaskError, UsageError

_WHOLE = ("data", "batch_data")
# What a model must not see: the labels of all items, those of the test items too, and which items these are.
ANSWERS = ("y", "label", "labels", "target", "targets", "edge_label", "train_mask", "val_mask", "test_mask")


def wants(model: nn.Module, field: str) -> bool:
    """Say whether ``model.forward`` has a parameter called ``field``."""
    return field in parameters_of(model)


def parameters_of(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of ``model.forward``; a model that was made of another one has that one's signature."""
    made: inspect.Signature | None = getattr(model, "__signature__", None)
    return (made or inspect.signature(model.forward)).parameters


def arguments(model: nn.Module, data: Data) -> Mapping[str, Any]:
    """Return what ``model.forward`` asks for by name.

    A parameter called ``data`` or ``batch_data`` gets the whole object; any other gets the field of that name
    (``x``, ``edge_index``, ``edge_attr``, ``edge_weight``, ``batch``, ...) or its own default. Labels and the split's
    masks are given in neither way.

    Raises:
        UsageError: naming the parameter that neither the data nor a default fills.
    """
    filled: dict[str, Any] = {}
    for name, parameter in parameters_of(model).items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in _WHOLE:
            filled[name] = _without_answers(data)
        elif name not in ANSWERS and data.get(name) is not None:
            filled[name] = data[name]
        elif parameter.default is parameter.empty:
            raise UsageError(_unfilled(model, name, data))
    return filled


def _without_answers(data: Data) -> Data:
    """Return a copy of ``data``, its tensors shared, without what a model must not see."""
    seen = copy.copy(data)
    for name in ANSWERS:
        if name in seen:
            del seen[name]
    return seen


def _unfilled(model: nn.Module, name: str, data: Data) -> str:
    """Say why a parameter gets nothing."""
    wants = f"{type(model).__name__}.forward wants {name!r}"
    if name in ANSWERS:
        return f"{wants}: a model is shown no labels and no split; remove the parameter"
    return f"{wants}, which the data does not have; it has: {', '.join(_without_answers(data).keys())}"


def call(model: nn.Module, data: Data) -> Tensor:
    """Return ``model``'s output for ``data``."""
    output: Tensor = model(**arguments(model, data))
    return output


def probe(model: nn.Module, data: Data) -> Tensor:
    """Call a model on data it has not seen yet; what it cannot take is told in one line.

    Raises:
        TaskError: naming the model, what it raised, and the shapes it was given.
    """
    given = arguments(model, data)
    shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in given.items() if isinstance(value, Tensor))
    try:
        output = model(**given)
    except GnncompressError:
        raise
    except Exception as error:
        raise TaskError(
            f"{type(model).__name__} cannot take this data ({shapes or 'the whole Data'}): "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(output, Tensor):
        raise TaskError(f"{type(model).__name__}.forward returns a {type(output).__name__}; it must return one tensor")
    return output


def insist_on_parameters(model: nn.Module) -> None:
    """Refuse a model without anything to train; called after ``probe``, for layers that are made in the first call.

    Raises:
        TaskError: naming the model.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TaskError(
            f"{type(model).__name__} has no parameters to train; "
            "assign its layers to self in __init__, in a ModuleList where they are many"
        )
