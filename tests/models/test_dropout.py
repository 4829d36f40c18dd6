from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.models.dropout import FeatureDropout


@given(p=st.floats(0, 0.9), seed=st.integers(0, 100))
def test_sparse_dropout_draws_as_dense_dropout_does(p: float, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(30, 20) * (torch.rand(30, 20) < 0.3)
    dropped = FeatureDropout(p)(x.to_sparse_csr()).to_dense()
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], x[kept] / (1 - p))
    share = float(kept.sum()) / max(int((x != 0).sum()), 1)
    assert abs(share - (1 - p)) < 0.25


def test_no_dropout_in_evaluation() -> None:
    x = torch.eye(4).to_sparse_csr()
    assert FeatureDropout(0.9).eval()(x) is x
