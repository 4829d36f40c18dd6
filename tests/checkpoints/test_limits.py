from __future__ import annotations

import numpy as np
import pytest

from gnncompress.checkpoints.dtypes import LAYOUTS
from gnncompress.checkpoints.limits import entropy_limit


def words(values: list[float], dtype: str) -> np.ndarray:
    array = np.array(values, dtype)
    return array.view(LAYOUTS[dtype].dtype)


@pytest.mark.parametrize(
    ("values", "dtype", "bits"),
    [
        ([0, 0, 0, 0], "float32", 0),
        ([1.0, 1.5, -1.25, -1.0], "float32", 4 * 24),  # one exponent only
        ([1.0, 2.0, 0.0, 0.0], "float32", 4 * 1 + 2 * (24 + 1)),  # H(1/2) a word, two exponents
        ([1.0, 2.0, 0.0, 0.0], "float64", 4 * 1 + 2 * (53 + 1)),
        ([1, 1, 2, 3], "int8", 4 * 1.5),
        ([0, 0, 5, 5], "int32", 4 * 1),
        ([], "float32", 0),
    ],
)
def test_by_hand(values: list[float], dtype: str, bits: float) -> None:
    assert entropy_limit(words(values, dtype), LAYOUTS[dtype]) == pytest.approx(bits / 8)
