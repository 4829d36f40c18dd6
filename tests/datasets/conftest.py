"""What the loaders' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gnncompress.datasets import locations


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty root and an empty cache, and no network."""

    def offline(*_: object) -> Path:
        raise OSError("no network")

    monkeypatch.delenv("GNNCOMPRESS_DATA", raising=False)
    monkeypatch.setenv("GNNCOMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(locations, "fetch", offline)
    return tmp_path
