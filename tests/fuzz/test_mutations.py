"""Thousands of damaged and forged files: refused in one line, or read as what was packed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.mutations import attempt


@pytest.mark.parametrize("first", range(0, 9_000, 1_500))
def test_mutated_files_are_refused_or_unharmed(first: int, tmp_path: Path) -> None:
    outcomes = Counter(attempt(seed, tmp_path) for seed in range(first, first + 1_500))
    assert outcomes["unharmed"] < 0.1 * outcomes.total(), "the mutations must do harm"
    assert len(outcomes) > 10, "they must be of many kinds"
