"""``--allocation``: a rule by name, or a file of budgets by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gnncompress.errors import UsageError
from gnncompress.files import read_text, why, write_json

GLOBAL = "global"
ALLOCATIONS = (GLOBAL, "uniform", "erk", "lamp-score")
Fraction = Annotated[float, Field(ge=0, lt=1)]


class AllocationFile(BaseModel):
    """The sparsity of each layer, and the sparsity of the whole model that this makes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sparsity: Fraction
    layers: Annotated[dict[str, Fraction], Field(min_length=1)]


def read_allocation(path: Path) -> AllocationFile:
    """Read a file of budgets.

    Raises:
        UsageError: naming the file and what is wrong with it.
    """
    try:
        return AllocationFile.model_validate_json(read_text(path))
    except FileNotFoundError:
        raise UsageError(
            f"--allocation {path}: neither {', '.join(ALLOCATIONS)} nor a file; 'gnncompress sensitivity' writes one"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"--allocation {path}: {place + ': ' if place else ''}{first['msg']}; it must be "
            '{"sparsity": 0.9, "layers": {"conv1.weight": 0.95, ...}}'
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--allocation {path}: cannot be read ({why(error)})") from error


def read_allocation_of(text: str) -> AllocationFile:
    """Return the budgets of a file that was named as an allocation."""
    return read_allocation(Path(text))


def write_allocation(path: Path, sparsity: float, layers: dict[str, float]) -> None:
    """Write a file of budgets."""
    write_json(path, AllocationFile(sparsity=sparsity, layers=layers).model_dump())


def with_allocation(method: str | None, allocation: str | None) -> tuple[str, dict[str, Any]]:
    """Return the method that ``--method`` and ``--allocation`` name together, and its settings.

    One threshold for the whole model is the method global, budgets by layer are the method fine-grained.

    Raises:
        UsageError: if the two contradict each other.
    """
    if allocation is None:
        return method or GLOBAL, {}
    wanted = GLOBAL if allocation == GLOBAL else "fine-grained"
    if method not in (None, wanted):
        raise UsageError(f"--allocation {allocation} makes the method {wanted}, not {method}; leave one of the two out")
    if allocation == GLOBAL:
        return GLOBAL, {}
    if allocation in ALLOCATIONS:
        return wanted, {"allocation": allocation}
    return wanted, {"allocation": "given", "layers": dict(read_allocation(Path(allocation)).layers)}
