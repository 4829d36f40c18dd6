"""The preconditioner against numpy, written from the formula, and on problems where curvature decides."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.nn import Linear as PyGLinear
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_dense_adj

from gnncompress.datasets.transforms import sparse_features
from gnncompress.masks import hold
from gnncompress.tasks.kfac import KFAC


def expected(a: Tensor, arriving: Tensor, eps: float, bias: bool) -> np.ndarray:
    """(G + eps I)^-1 [dW | db] (A + eps I)^-1, one row at a time, from inputs and what arrives at the outputs."""
    rows = a.detach().double().numpy()
    if bias:
        rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    arrived = arriving.detach().double().numpy()
    n, wide, high = len(rows), rows.shape[1], arrived.shape[1]
    moment_a, moment_g, grad = np.zeros((wide, wide)), np.zeros((high, high)), np.zeros((high, wide))
    for row, g in zip(rows, arrived, strict=True):
        moment_a += np.outer(row, row) / n
        moment_g += np.outer(n * g, n * g) / n
        grad += np.outer(g, row)
    return np.linalg.solve(moment_g + eps * np.eye(high), grad) @ np.linalg.inv(moment_a + eps * np.eye(wide))


def grad(parameter: object) -> Tensor:
    assert isinstance(parameter, Tensor)
    assert parameter.grad is not None
    return parameter.grad


def gradient(layer: nn.Module) -> np.ndarray:
    """[dW | db] of a linear layer."""
    parts = [grad(layer.weight)] if layer.bias is None else [grad(layer.weight), grad(layer.bias).unsqueeze(1)]
    return torch.cat(parts, dim=1).numpy().copy()


@pytest.mark.parametrize("kind", [nn.Linear, PyGLinear])
@pytest.mark.parametrize("bias", [True, False])
@given(seed=st.integers(0, 1000), rows=st.integers(1, 9), eps=st.sampled_from([0.01, 0.1, 1.0]))
def test_linear_by_hand(kind: Callable[..., nn.Module], bias: bool, seed: int, rows: int, eps: float) -> None:
    torch.manual_seed(seed)
    # With fewer rows than inputs A is singular, and 1 / eps would enlarge the rounding of single precision.
    layer, x, y = kind(4, 3, bias=bias).double(), torch.randn(rows, 4).double(), torch.randn(rows, 3)
    kfac = KFAC(layer, eps=eps)
    out = layer(x)
    out.retain_grad()
    (out - y).square().sum(1).mean().backward()
    kfac.step()
    np.testing.assert_allclose(gradient(layer), expected(x, out.grad, eps, bias), rtol=1e-6, atol=1e-8)


def test_leading_dimensions_are_rows() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.randn(2, 5, 4)
    gradients: list[np.ndarray] = []
    for shaped in (x, x.flatten(0, 1)):
        layer.zero_grad()
        kfac = KFAC(layer)
        layer(shaped).square().sum().backward()
        kfac.step()
        kfac.close()
        gradients.append(gradient(layer))
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-5)


def test_a_shared_layer_adds_up_its_calls() -> None:
    torch.manual_seed(0)
    layer, x, y = nn.Linear(4, 3).double(), torch.randn(3, 4).double(), torch.randn(3, 4).double()
    kfac = KFAC(layer)
    first, second = layer(x), layer(y)
    first.retain_grad()
    second.retain_grad()
    (first.square().sum() + second.square().sum()).backward()
    arriving = torch.cat([first.grad, second.grad])
    kfac.step()
    # Each call counts its own 3 rows, so what arrives is scaled by 3: half of what one call with 6 rows would give.
    rows = torch.cat([torch.cat([x, y]), torch.ones(6, 1)], 1)
    left = torch.linalg.inv((3 * arriving).t() @ (3 * arriving) / 6 + 0.01 * torch.eye(3))
    right = torch.linalg.inv(rows.t() @ rows / 6 + 0.01 * torch.eye(5))
    np.testing.assert_allclose(gradient(layer), (left @ arriving.t() @ rows @ right).numpy(), rtol=1e-6)


@pytest.fixture
def graph() -> Data:
    torch.manual_seed(0)
    x = (torch.rand(30, 40) < 0.06).float() * torch.rand(30, 40)
    x[0, 0] = 1
    return Data(x=x, edge_index=torch.randint(0, 30, (2, 80)), y=torch.randint(0, 3, (30,)))


@pytest.mark.parametrize("bias", [True, False])
def test_csr_equals_dense(graph: Data, bias: bool) -> None:
    sparse = sparse_features(graph).x
    assert sparse.layout == torch.sparse_csr
    layer = PyGLinear(40, 3, bias=bias)
    gradients: list[np.ndarray] = []
    for x in (graph.x, sparse):
        layer.zero_grad()
        with KFAC(layer) as kfac:
            F.cross_entropy(layer(x), graph.y).backward()
            kfac.step()
        gradients.append(gradient(layer))
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


def test_gcn_conv(graph: Data) -> None:
    """What arrives at the linear layer inside is propagated backwards: A'^T times the gradient of the output."""
    conv = GCNConv(40, 3)
    kfac = KFAC(conv)
    out = conv(graph.x, graph.edge_index)
    out.retain_grad()
    F.cross_entropy(out, graph.y).backward()
    bias = conv.bias.grad.clone()
    kfac.step()
    normed, values = gcn_norm(graph.edge_index, None, 30)
    propagation = to_dense_adj(normed, edge_attr=values, max_num_nodes=30)[0].t()
    want = expected(graph.x, propagation.t() @ out.grad, 0.01, bias=False)
    np.testing.assert_allclose(gradient(conv.lin), want, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(conv.bias.grad, bias)


def test_factors_wait_for_the_interval() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3, bias=False)
    kfac = KFAC(layer, update_every=3)
    factors = None
    for step in range(7):
        x = torch.randn(6, 4) * (step + 1)
        out = layer(x)
        out.retain_grad()
        layer.zero_grad()
        out.square().sum(1).mean().backward()
        plain = gradient(layer)
        if step % 3 == 0:
            identity = torch.eye(4), torch.eye(3)
            factors = (x.t() @ x / 6 + 0.01 * identity[0], 6 * out.grad.t() @ out.grad + 0.01 * identity[1])
        kfac.step()
        assert factors is not None
        want = np.linalg.inv(factors[1].numpy()) @ plain @ np.linalg.inv(factors[0].numpy())
        np.testing.assert_allclose(gradient(layer), want, rtol=1e-3, atol=1e-5)


def test_nothing_happens_in_evaluation() -> None:
    layer = nn.Linear(4, 3)
    kfac = KFAC(layer)
    layer.eval()
    layer(torch.randn(5, 4)).square().sum().backward()
    before = gradient(layer)
    kfac.step()
    np.testing.assert_array_equal(gradient(layer), before)
    # A forward pass in evaluation leaves no trace, so there is no factor for this gradient either.
    layer.train()
    kfac.step()
    np.testing.assert_array_equal(gradient(layer), before)
    kfac = KFAC(layer)
    layer(torch.randn(5, 4)).square().sum().backward()
    kfac.step()
    before = gradient(layer)
    layer.eval()
    kfac.step()
    np.testing.assert_array_equal(gradient(layer), before)


def test_a_forward_pass_without_gradient_leaves_no_trace() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.randn(5, 4)
    gradients: list[np.ndarray] = []
    for looks in (0, 2):
        layer.zero_grad()
        with KFAC(layer) as kfac:
            for _ in range(looks):
                with torch.no_grad():
                    layer(100 * x)
                layer(100 * x)
            layer(x).square().sum().backward()
            kfac.step()
        gradients.append(gradient(layer))
    np.testing.assert_array_equal(gradients[0], gradients[1])


def test_close_removes_the_hooks() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with KFAC(model) as kfac:
        assert all(len(model[index]._forward_hooks) == 1 for index in (0, 2))
        model(torch.randn(5, 4)).square().sum().backward()
        kfac.step()
    assert not any(module._forward_hooks for module in model.modules())
    before = gradient(model[0])
    kfac.step()
    kfac.close()
    np.testing.assert_array_equal(gradient(model[0]), before)


def test_masked_weight() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.randn(8, 4)
    keep = torch.rand(3, 4) < 0.5
    kfac = KFAC(layer)
    hold(layer, {"weight": keep})
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    out = layer(x)
    out.retain_grad()
    out.square().sum(1).mean().backward()
    original = layer.parametrizations.weight.original  # type: ignore[union-attr]
    plain = np.concatenate([grad(original).numpy(), grad(layer.bias).unsqueeze(1).numpy()], axis=1)
    kfac.step()
    ones = torch.cat([x, torch.ones(8, 1)], 1)
    left = np.linalg.inv((8 * out.grad.t() @ out.grad + 0.01 * torch.eye(3)).numpy())
    want = left @ plain @ np.linalg.inv((ones.t() @ ones / 8 + 0.01 * torch.eye(5)).numpy())
    np.testing.assert_allclose(grad(original).numpy(), want[:, :4], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(grad(layer.bias).numpy(), want[:, 4], rtol=1e-3, atol=1e-5)
    optimizer.step()
    assert not layer.weight[~keep].any()


def test_a_frozen_or_unused_layer_is_left_alone() -> None:
    model = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)])
    model[0].weight.requires_grad_(False)
    model[1].bias.requires_grad_(False)
    kfac = KFAC(model)
    x = torch.randn(5, 4)
    (model[0](x) + model[1](x)).square().sum().backward()
    bias = grad(model[0].bias).clone()
    kfac.step()
    assert model[0].weight.grad is None
    torch.testing.assert_close(grad(model[0].bias), bias)
    assert model[1].bias.grad is None
    assert model[2].weight.grad is None


def steps_to(loss_below: float, model: nn.Module, x: Tensor, y: Tensor, rate: float, natural: bool) -> int:
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    kfac = KFAC(model, eps=1e-6, update_every=1) if natural else None
    for step in range(2000):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        if loss.item() < loss_below:
            return step
        loss.backward()
        if kfac is not None:
            kfac.step()
        optimizer.step()
    return 2000


def test_an_ill_conditioned_problem_takes_fewer_steps() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 10) @ torch.diag(torch.logspace(0, -2, 10))
    y = x @ (torch.linspace(1, 5, 10) / torch.logspace(0, -2, 10) / 10).unsqueeze(1) + 0.5 * torch.randn(200, 1)
    model = nn.Linear(10, 1, bias=False)
    floor = float(((x @ torch.linalg.lstsq(x, y).solution - y) ** 2).mean())
    # The best rate of plain descent on a quadratic is near 1 over its largest curvature, here about 2.
    plain = min(steps_to(1.01 * floor, model, x, y, rate, natural=False) for rate in (0.1, 0.3, 0.9))
    natural = min(steps_to(1.01 * floor, model, x, y, rate, natural=True) for rate in (0.03, 0.1))
    assert natural * 5 < plain


class TwoConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = GCNConv(40, 16), GCNConv(16, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        logits: Tensor = self.conv2(self.conv1(x, edge_index).relu(), edge_index)
        return logits


def test_a_gcn_trains_with_it(graph: Data) -> None:
    torch.manual_seed(0)
    model, losses = TwoConvolutions(), []
    x = sparse_features(graph).x
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with KFAC(model, update_every=5) as kfac:
        for _ in range(60):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x, graph.edge_index)[:20], graph.y[:20])
            loss.backward()
            kfac.step()
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize(("eps", "update_every"), [(0.0, 1), (-1.0, 1), (0.1, 0)])
def test_bad_settings_are_refused(eps: float, update_every: int) -> None:
    with pytest.raises(ValueError, match="eps must be positive and update_every at least 1"):
        KFAC(nn.Linear(1, 1), eps, update_every)
