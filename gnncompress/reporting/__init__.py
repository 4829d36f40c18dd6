"""Tables from rows; knows nothing of torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnncompress.reporting.results import read_results
    from gnncompress.reporting.summary import summarize

__all__ = ["read_results", "summarize"]


def __getattr__(name: str) -> Any:
    """Import pandas only when a table is wanted."""
    if name == "read_results":
        from gnncompress.reporting.results import read_results

        return read_results
    if name == "summarize":
        from gnncompress.reporting.summary import summarize

        return summarize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
