"""The lock under which a measured phase has the machine."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from gnncompress.files import locked, user_id


def machine_lock() -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a measured phase, one a machine and user; wait for it.

    Raises:
        ResultsError: if it cannot be had.
    """
    # Not the folder for temporary files, of which each job of a cluster may have another.
    folder = Path(tempfile.gettempdir() if os.name == "nt" else "/tmp")
    return locked(folder / f"gnncompress-measure-{user_id()}.lock")
