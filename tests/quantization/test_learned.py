"""A2Q's quantizer and its grouping against arrays from the official code, and against slow references."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.quantization.learned import nearest_group, quantize_steps, rank_groups
from tests.quantization.helpers import arrays, needs_golden

FEEDBACK = {
    "a2q_node_feature.npz": ("local", "local"),
    "a2q_node_weight.npz": ("global", "global"),
    "a2q_graph_weight.npz": ("global", "global"),
    "a2q_graph_xw.npz": ("local", "global"),
}


@needs_golden
@pytest.mark.parametrize("name", sorted(FEEDBACK))
def test_official_rows(name: str) -> None:
    found = arrays(name)
    x, step, bits = (found[key].clone().requires_grad_() for key in ("x", "step", "bit"))
    y = quantize_steps(x, step, bits, *FEEDBACK[name])  # type: ignore[arg-type]
    y.backward(found["grad_out"])
    torch.testing.assert_close(y.detach(), found["y"], rtol=0, atol=0)
    torch.testing.assert_close(x.grad, found["dx"], rtol=0, atol=0)
    sound = (step.detach() > 0).float()  # of negative steps the official sign is wrong
    torch.testing.assert_close(step.grad * sound, found["dstep"] * sound, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bits.grad, found["dbit"], rtol=1e-5, atol=1e-6)


@needs_golden
def test_official_groups() -> None:
    found = arrays("a2q_graph_nns_m16.npz")
    x, step, bits = (found[key].clone().requires_grad_() for key in ("x", "step", "bit"))
    index = nearest_group(x, rank_groups(step, bits))
    assert torch.equal(index, found["index"])
    y = quantize_steps(x, step[index], bits[index])
    y.backward(found["grad_out"])
    assert torch.equal(y.detach(), found["y"])
    torch.testing.assert_close(step.grad, found["dstep"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bits.grad, found["dbit"], rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 10**6), groups=st.integers(1, 30))
def test_groups_are_those_of_the_whole_distance_matrix(seed: int, groups: int) -> None:
    torch.manual_seed(seed)
    step, bits = torch.randint(-4, 5, (groups, 1)) / 4, torch.randint(0, 6, (groups, 1)).float()
    x = torch.randn(40, 3) * 4
    x[0] = 0
    reach = (step.abs() * 2 ** (bits.abs().round().clamp(min=1) - 1)).reshape(1, -1)
    distances = (x.abs().amax(1, keepdim=True) - reach) ** 2
    found = nearest_group(x, rank_groups(step, bits))
    assert torch.equal(distances.gather(1, found[:, None])[:, 0], distances.amin(1))
    assert torch.equal(found, distances.argmin(1))


def test_by_hand() -> None:
    # 3 bits: codes up to 3, step 0.5; halves away from zero; 2.6 and -9 are outside
    x = torch.tensor([[0.25, -0.25, 0.7, 2.6, -9.0]], requires_grad=True)
    step, bits = torch.tensor([[0.5]], requires_grad=True), torch.tensor([[3.2]], requires_grad=True)
    y = quantize_steps(x, step, bits)
    assert y.tolist() == [[0.5, -0.5, 0.5, 1.5, -1.5]]
    y.sum().backward()
    assert x.grad.tolist() == [[1.0] * 5]
    assert step.grad.item() == pytest.approx((1 - 0.5) + (-1 + 0.5) + (1 - 1.4) + 3 - 3)
    assert bits.grad.item() == pytest.approx(4 * math.log(2) * 0.5 * (1 - 1))


@pytest.mark.parametrize("bits", [0.0, 0.3, -0.4, 1.0, 1.4])
def test_a_row_of_one_bit_or_less_is_zero(bits: float) -> None:
    assert quantize_steps(torch.randn(1, 5), torch.ones(1, 1), torch.tensor([[bits]])).tolist() == [[0.0] * 5]


def test_a_negative_step_learns_like_its_absolute_value() -> None:
    gradients = []
    for sign in (1.0, -1.0):
        step = torch.tensor([[0.3 * sign]], requires_grad=True)
        quantize_steps(torch.tensor([[0.4, 1.7, -8.0]]), step, torch.tensor([[3.0]])).sum().backward()
        gradients.append(step.grad.item())
    assert gradients[0] == -gradients[1]
