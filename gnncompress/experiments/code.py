"""The digest of the package's own code that a stage's numbers depend on."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from gnncompress.experiments.stages import Stage

_PACKAGE = Path(__file__).resolve().parents[1]
# What carries out all stages.
_SHARED = ("experiments/building.py", "experiments/execution.py", "experiments/given.py")


def code_digest(stage: Stage) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the code of a stage's rooms, and of what all rooms share."""
    return _digest(stage.ROOMS)


@lru_cache
def _digest(rooms: tuple[str, ...]) -> str:
    files = [*_PACKAGE.glob("*.py"), *(_PACKAGE / name for name in _SHARED)]
    for room in rooms:
        files += (_PACKAGE / room).rglob("*.py")
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(str(file.relative_to(_PACKAGE)).encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]
