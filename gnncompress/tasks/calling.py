"""Calling a user's model: the names of ``forward``'s parameters say which fields of the data it wants."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from gnncompress.errors import UsageError


def caller(model: nn.Module, data: Data) -> Callable[[], Tensor]:
    """Return a function without arguments that calls ``model`` on ``data``.

    A parameter called ``data`` or ``batch_data`` gets the whole object; any other gets the field of that name
    (``x``, ``edge_index``, ``edge_attr``, ``edge_weight``, ...) or its own default.

    Raises:
        UsageError: naming the parameter that neither the data nor a default fills.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(model.forward).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in ("data", "batch_data"):
            arguments[name] = data
        elif data.get(name) is not None:
            arguments[name] = data[name]
        elif parameter.default is parameter.empty:
            raise UsageError(
                f"{type(model).__name__}.forward wants {name!r}, which the data does not have; "
                f"it has: {', '.join(data.keys())}"
            )
    return lambda: model(**arguments)
