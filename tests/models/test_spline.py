"""SplineConv against a slow numpy version written from the formula, message by message."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.datasets.transforms import sparse_features
from gnncompress.models import build_model
from gnncompress.models.spline import SplineConv
from gnncompress.splines import spline_basis


def slow_segments(f: float, degree: int) -> list[float]:
    """Cox-de Boor recursion on the uniform knots -degree .. degree + 1, evaluated at f in [0, 1)."""

    def b(i: int, m: int) -> float:
        if m == 0:
            return 1.0 if i <= f < i + 1 else 0.0
        return (f - i) / m * b(i, m - 1) + (i + m + 1 - f) / m * b(i + 1, m - 1)

    return [b(k - degree, degree) for k in range(degree + 1)]


def slow_conv(conv: SplineConv, x: np.ndarray, edges: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    weight = conv.weight.detach().numpy().astype(np.float64)
    root = conv.lin.weight.detach().numpy().astype(np.float64)
    out = x @ root.T + conv.bias.detach().numpy()
    for node in range(len(x)):
        messages = []
        for edge in np.flatnonzero(edges[1] == node):
            message = np.zeros(conv.out_channels)
            axes = []
            for d, (size, opened) in enumerate(zip(conv.kernel_size, conv.is_open_spline, strict=True)):
                v = pseudo[edge, d] * (size - conv.degree if opened else size)
                start = int(np.floor(v))
                segments = slow_segments(v - start, conv.degree)
                axes.append([((start + k) % size, segments[k]) for k in range(conv.degree + 1)])
            for combination in itertools.product(*axes):
                index, stride, basis = 0, 1, 1.0
                for (local, value), size in zip(combination, conv.kernel_size, strict=True):
                    index, stride, basis = index + local * stride, stride * size, basis * value
                message += basis * (x[edges[0, edge]] @ weight[index])
            messages.append(message)
        if messages:
            out[node] += np.mean(messages, axis=0)
    return out


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("is_open", [True, False])
def test_layer_matches_the_slow_version(dim: int, degree: int, is_open: bool) -> None:
    rng = np.random.default_rng(dim * 10 + degree)
    torch.manual_seed(0)
    conv = SplineConv(5, 3, dim=dim, kernel_size=degree + 2 - (dim == 3), is_open_spline=is_open, degree=degree)
    torch.nn.init.normal_(conv.bias)
    x, edges, pseudo = rng.normal(size=(6, 5)), rng.integers(0, 6, (2, 14)), rng.uniform(size=(14, dim))
    edges[1][edges[1] == 5] = 4  # node 5 has no neighbour
    got = conv(torch.tensor(x).float(), torch.tensor(edges), torch.tensor(pseudo).float())
    np.testing.assert_allclose(got.detach().numpy(), slow_conv(conv, x, edges, pseudo), atol=2e-6)


def test_by_hand() -> None:
    conv = SplineConv(1, 1, dim=1, kernel_size=2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[2.0]], [[10.0]]]))
        conv.lin.weight.fill_(100.0)
        conv.bias.fill_(1000.0)
    x = torch.tensor([[1.0], [2.0], [3.0]])
    out = conv(x, torch.tensor([[1, 2], [0, 0]]), torch.tensor([[0.25], [1.0]]))
    # node 0: mean of 2 (0.75 * 2 + 0.25 * 10) = 8 and 3 * 10 = 30, plus 100 and 1000
    assert out.flatten().tolist() == [19 + 100 + 1000, 1200, 1300]


@given(
    degree=st.integers(1, 3),
    extra=st.integers(1, 4),
    is_open=st.booleans(),
    u=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8),
)
def test_basis_is_a_partition_of_unity(degree: int, extra: int, is_open: bool, u: list[float]) -> None:
    basis, index = spline_basis(torch.tensor(u).unsqueeze(1), [degree + extra], [is_open], degree)
    torch.testing.assert_close(basis.sum(1), torch.ones(len(u)), atol=1e-5, rtol=0)
    assert basis.min() >= -1e-6
    assert index.min() >= 0
    assert index.max() < degree + extra


def test_sparse_and_dense_features_agree(data_root: object) -> None:
    from gnncompress.experiments.building import load_task
    from gnncompress.experiments.resolve import WorkloadChoices, resolve_workload

    workload = resolve_workload(WorkloadChoices(dataset="cora", model="spline"), seed=0)
    task = load_task(workload, data_root)  # type: ignore[arg-type]
    data = task.data
    assert data.x.layout == torch.sparse_csr
    model = build_model("spline", 1433, 7, {}).eval()
    sparse = model(data.x, data.edge_index, data.edge_attr)
    dense = model(data.x.to_dense(), data.edge_index, data.edge_attr)
    torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=1e-5)


def test_gradients_of_sparse_and_dense_features_agree() -> None:
    from torch_geometric.data import Data

    x = (torch.rand(20, 50) < 0.05).float()
    x[0, 0] = 1
    edges, pseudo = torch.randint(0, 20, (2, 60)), torch.rand(60, 1)
    conv = SplineConv(50, 4, dim=1, kernel_size=2)
    gradients = []
    for features in (x, sparse_features(Data(x=x)).x):
        conv.zero_grad()
        conv(features, edges, pseudo).square().sum().backward()
        gradients.append(conv.weight.grad.clone())  # type: ignore[union-attr]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_paper_count_and_names() -> None:
    model = build_model("spline", 1433, 7, {"hidden": 16})
    assert sum(parameter.numel() for parameter in model.parameters()) == 69_143
    assert list(model.state_dict()) == [f"conv{i}.{name}" for i in (1, 2) for name in ("weight", "bias", "lin.weight")]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="need one value for each of the 2 dimensions"):
        SplineConv(1, 1, dim=2, kernel_size=[2])
    with pytest.raises(ValueError, match="spline degree 4 is not one of 1, 2, 3"):
        SplineConv(1, 1, dim=1, kernel_size=6, degree=4)(
            torch.ones(1, 1), torch.zeros(2, 1, dtype=torch.long), torch.zeros(1, 1)
        )
