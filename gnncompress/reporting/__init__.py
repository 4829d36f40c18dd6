"""Tables from rows; knows nothing of torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnncompress.reporting.lottery import verdicts
    from gnncompress.reporting.results import read_results
    from gnncompress.reporting.sensitivity import recommend
    from gnncompress.reporting.summary import summarize

_HOMES = {"read_results": "results", "recommend": "sensitivity", "summarize": "summary", "verdicts": "lottery"}

__all__ = ["read_results", "recommend", "summarize", "verdicts"]


def __getattr__(name: str) -> Any:
    """Import pandas only when a table is wanted."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
