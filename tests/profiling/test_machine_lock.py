"""The lock under which a measured phase has the machine: one a user, wherever it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gnncompress.errors import ResultsError
from gnncompress.profiling import machine_lock as module
from gnncompress.profiling.machine_lock import machine_lock


def test_a_lock_that_cannot_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another user made a file of that name."""
    (tmp_path / f"gnncompress-measure-{os.getuid()}.lock").symlink_to("made")
    monkeypatch.setattr(module, "Path", lambda _: tmp_path)
    refused = pytest.raises(ResultsError, match=r"measure-\d+\.lock: cannot be locked \(a link, not a file\)")
    with refused, machine_lock():
        pytest.fail("nothing is held")
    assert not (tmp_path / "made").exists()
