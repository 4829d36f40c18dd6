from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.pruning.selection import keep_mask


@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5]) | st.floats(0, 10, width=32), min_size=1, max_size=60),
    data=st.data(),
)
def test_matches_a_stable_sort(scores: list[float], data: st.DataObject) -> None:
    remove = data.draw(st.integers(0, len(scores)))
    expected = np.ones(len(scores), bool)
    expected[np.argsort(np.array(scores, np.float32), kind="stable")[:remove]] = False
    assert keep_mask(torch.tensor(scores, dtype=torch.float32), remove).tolist() == expected.tolist()
