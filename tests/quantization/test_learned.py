"""A2Q's quantizer and its grouping against arrays from the official code, and against slow references."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.errors import QuantizationError
from gnncompress.quantization.learned import nearest_group, quantize_steps, rank_groups
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.memory import PENALTY, MemoryPenalty, kilobytes, memory_penalty, published_bits
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


@needs_golden
def test_official_memory_of_nodes() -> None:
    found = arrays("a2q_node_memory_penalty.npz")
    bits = [found[f"bit{layer}"].clone().requires_grad_() for layer in (1, 2)]
    size = kilobytes(bits, [16, 16])
    penalty = memory_penalty(size, 0.2, 2.5)
    penalty.backward()
    torch.testing.assert_close(size.detach(), found["aByte"])
    torch.testing.assert_close(penalty.detach(), found["loss"])
    for layer in (1, 2):
        torch.testing.assert_close(bits[layer - 1].grad, found[f"dbit{layer}"])
    published = [published_bits(b.detach()) for b in bits]
    assert published == pytest.approx(found["avg_bits_layers"].tolist())
    assert sum(published) / 2 == pytest.approx(float(found["avg_bits"]))


@needs_golden
def test_official_memory_of_groups() -> None:
    found = arrays("a2q_graph_nns_m16.npz")
    bits = found["bit"].clone().requires_grad_()
    size = kilobytes([bits[found["unique_index"]]], [8])
    penalty = memory_penalty(size, 0.01, 1e-3)
    penalty.backward()
    torch.testing.assert_close(size.detach(), found["bit_sum"])
    torch.testing.assert_close(penalty.detach(), found["mem_loss"])
    torch.testing.assert_close(bits.grad, found["dbit_mem"])


def test_a_penalty_of_bits_a_value_whatever_the_sizes() -> None:
    first, second = LearnedQuantizer("a", "row"), LearnedQuantizer("b", "row")
    penalty = MemoryPenalty([first, second], 2.0)
    assert penalty.auxiliary_loss() == 0.0
    for quantizer, shape in ((first, (5, 4)), (second, (5, 20))):
        quantizer(torch.randn(shape))
        with torch.no_grad():
            quantizer.bits.fill_(3.0 if quantizer is first else 5.0)
        quantizer(torch.randn(shape))
    mean = (4 * 3 + 20 * 5) / 24
    loss = penalty.auxiliary_loss()
    assert float(loss) == pytest.approx(PENALTY * (mean - 2) ** 2)
    loss.backward()  # type: ignore[union-attr]
    torch.testing.assert_close(first.bits.grad, torch.full((5,), PENALTY * 2 * (mean - 2) * 4 / 24 / 5))
    assert penalty.auxiliary_loss() == 0.0, "a call counts once"


@given(seed=st.integers(0, 10**6), by_row=st.booleans(), local=st.booleans())
def test_one_pass_gives_what_many_do(seed: int, by_row: bool, local: bool) -> None:
    """The compiled kernels against the torch expressions that they stand for, in float64, which they do not take."""
    torch.manual_seed(seed)
    x, gradient = torch.randn(7, 5) * 3, torch.randn(7, 5)
    shape = (7, 1) if by_row else (1, 5)
    step, bits = torch.rand(shape) + 0.1, torch.randint(1, 6, shape).float()
    found = []
    for dtype in (torch.float32, torch.float64):
        leaves = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in (x, step, bits)]
        feedback = "local" if local else "global"
        y = quantize_steps(*leaves, feedback, feedback)
        y.backward(gradient.to(dtype))
        found.append([y.detach().float(), *(leaf.grad.float() for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_first_values_come_from_the_first_tensor() -> None:
    quantizer = LearnedQuantizer("a", "row", most=4)
    x = torch.tensor([[1.0, -3.0], [0.0, 0.0]])
    quantizer(x)
    assert quantizer.bits.tolist() == [4, 4]
    assert quantizer.step.tolist() == pytest.approx([4 / 7**0.5] * 2), "a row of zeros takes the usual step"
    positive = LearnedQuantizer("b", "row")
    positive(x.abs())
    assert positive.bits.tolist() == [5, 5]
    groups = LearnedQuantizer("c", "group", groups=3)
    groups(torch.tensor([[1.0], [2.0], [30.0]]))
    assert groups.step.numel() == 3
    assert groups.bits.tolist() == [6, 6, 6]
    assert float(groups.step.max() * 2 ** (6 - 1)) > 10
    sparse = LearnedQuantizer("d", "slice", 0)
    sparse.start(torch.eye(3))
    with pytest.raises(QuantizationError, match=r"d: A2Q takes no sparse features"):
        sparse(torch.eye(3).to_sparse_csr())


def test_steps_take_their_shape_from_what_is_loaded() -> None:
    quantizer = LearnedQuantizer("a", "row")
    x = torch.randn(6, 3)
    quantizer(x)
    again = LearnedQuantizer("a", "row")
    again.load_state_dict(quantizer.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x), quantizer.eval()(x))
        assert torch.equal(quantizer.values(quantizer.codes_of(x)), quantizer(x))
