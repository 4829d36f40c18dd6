"""The golden arrays, made by running the official code of the methods; their folder lies beside the data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

_DATA = os.environ.get("GNNCOMPRESS_DATA", "")
GOLDEN = os.environ.get("GNNCOMPRESS_GOLDEN") or (str(Path(_DATA).parent / "golden") if _DATA else "")
INDEX: dict[str, Any] = (
    json.loads((Path(GOLDEN) / "index.json").read_text())["files"] if GOLDEN and Path(GOLDEN).is_dir() else {}
)
needs_golden = pytest.mark.skipif(not INDEX, reason="no golden arrays: neither GNNCOMPRESS_GOLDEN nor GNNCOMPRESS_DATA")


def arrays(name: str) -> dict[str, Tensor]:
    """Return the arrays of a golden file as tensors."""
    with np.load(Path(GOLDEN) / name) as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}
