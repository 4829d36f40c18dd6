"""The calls that come into a model from outside: of the model itself, or of parts of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import nn

from gnncompress.global_state import RandomState


@dataclass(frozen=True)
class OutermostCall:
    """A module that was called from outside, with what, and what it returned."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    before: RandomState

    def repeated(self) -> Any:
        """Call the module again, with the random numbers that it drew before, and return what it returns."""
        after = RandomState()
        self.before.restore()
        try:
            return self.module(*self.args, **self.kwargs)
        finally:
            after.restore()


class OutermostCalls:
    """While entered: counts the calls that come into ``model`` from outside and does ``then`` after each.

    A user may call the model, or parts of it, as PyG's ``GAE.encode`` does. What quantizers and parametrizations are
    asked for does not count, nor do calls that ``then`` makes.
    """

    def __init__(self, model: nn.Module, then: Callable[[OutermostCall], None] = lambda call: None) -> None:
        self.count = 0
        self._model, self._then = model, then
        self._depth = 0
        self._busy = False
        self._before: RandomState | None = None
        self._hooks = ExitStack()

    def __enter__(self) -> OutermostCalls:
        for path, module in self._model.named_modules():
            if {"parametrizations", "quantizers"} & set(path.split(".")):
                continue
            self._hooks.callback(module.register_forward_pre_hook(self._begin).remove)
            handle = module.register_forward_hook(self._end, with_kwargs=True, always_call=True)
            self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._busy:
            return
        if not self._depth:
            self._before = RandomState()
        self._depth += 1

    def _end(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        if self._busy:
            return
        self._depth -= 1
        if self._depth or self._before is None or output is None:  # None: also where the call raised an error
            return
        self.count += 1
        self._busy = True
        try:
            self._then(OutermostCall(module, args, kwargs, output, self._before))
        finally:
            self._busy = False
