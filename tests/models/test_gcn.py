from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.models import MODELS, build_model
from gnncompress.models.dropout import FeatureDropout


def test_matches_a_dense_numpy_version() -> None:
    rng = np.random.default_rng(0)
    adjacency = np.triu(rng.uniform(size=(8, 8)) < 0.4, 1)
    adjacency = (adjacency | adjacency.T).astype(float)
    x = rng.normal(size=(8, 5))
    torch.manual_seed(0)
    model = build_model("gcn", 5, 3, {"hidden": 4, "dropout": 0.5}).eval()
    for bias in (model.conv1.bias, model.conv2.bias):
        torch.nn.init.normal_(bias)
    state = {name: tensor.numpy().astype(float) for name, tensor in model.state_dict().items()}
    with_loops = adjacency + np.eye(8)
    scale = np.diag(with_loops.sum(1) ** -0.5)
    propagate = scale @ with_loops @ scale
    hidden = np.maximum(propagate @ x @ state["conv1.lin.weight"].T + state["conv1.bias"], 0)
    expected = propagate @ hidden @ state["conv2.lin.weight"].T + state["conv2.bias"]
    edges = torch.tensor(np.array(np.nonzero(adjacency)))
    got = model(torch.tensor(x).float(), edges).detach().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


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


def test_every_model_has_a_citation_and_builds() -> None:
    for entry in MODELS:
        assert entry.citation
        assert entry.summary
        assert sum(p.numel() for p in build_model(entry.name, 6, 3, entry.arguments).parameters()) > 0
