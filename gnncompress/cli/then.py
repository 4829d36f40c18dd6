"""``--then quantize --scheme dq-int8``: more methods, applied to what the command's own has made."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import typer

from gnncompress.cli.options import grouped
from gnncompress.errors import UsageError

if TYPE_CHECKING:
    from gnncompress.compression import CompressionMethod

THEN = "--then"
COMMANDS = ("train", "prune", "quantize")

_following: ContextVar[tuple[CompressionMethod, ...]] = ContextVar("following", default=())


def following() -> tuple[CompressionMethod, ...]:
    """Return the methods that come after the command's own."""
    return _following.get()


def take_following(arguments: Sequence[str]) -> list[str]:
    """Return the arguments before the first ``--then``; those after it are read, and kept for ``following``.

    Raises:
        UsageError: if a command takes none, or what follows names no method.
    """
    _following.set(())
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own = list(arguments[:end])
    if THEN not in own:
        return list(arguments)
    at = own.index(THEN)
    if not own or own[0] not in COMMANDS:
        raise UsageError(f"{THEN}: follows {', '.join(COMMANDS)} alone")
    parts: list[list[str]] = []
    for word in own[at:]:
        if word == THEN:
            parts.append([])
        else:
            parts[-1].append(word)
    _following.set(tuple(_method(part) for part in parts))
    return own[:at]


def _method(words: list[str]) -> CompressionMethod:
    if not words or words[0] not in ("prune", "quantize"):
        raise UsageError(
            f"{THEN} {' '.join(words)}: write {THEN} prune --method global, or {THEN} quantize --scheme ..."
        )
    found: list[CompressionMethod] | int = _parser()(words, standalone_mode=False)
    if isinstance(found, int):  # as when its help was asked for, and shown
        raise typer.Exit(found)
    if len(found) != 1:
        raise UsageError(f"{THEN} {' '.join(words)}: give one value for each option")
    return found[0]


def _parser() -> typer.Typer:
    from gnncompress.cli.method_options import given_options, method_options, one_for_each
    from gnncompress.cli.prune import methods_asked

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    pruning, quantizing = method_options("prune"), method_options("quantize")

    def prune(how: pruning, method: str | None = None) -> Any:  # type: ignore[valid-type]
        return methods_asked(method, how)

    def quantize(how: quantizing) -> Any:  # type: ignore[valid-type]
        return list(one_for_each("quantize", given_options(how)))

    for function, kind in ((prune, pruning), (quantize, quantizing)):
        function.__annotations__["how"] = kind
        app.command(function.__name__)(grouped(function))
    return app
