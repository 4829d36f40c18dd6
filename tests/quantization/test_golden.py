"""The quantizers against arrays from running Degree-Quant's official code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gnncompress.quantization import Quantizer, protection_probability
from gnncompress.quantization.observers import ranks
from tests.quantization.helpers import GOLDEN, INDEX, arrays, needs_golden

pytestmark = needs_golden
SINGLE = sorted(name for name in INDEX if name.startswith("dq_q"))


def quantizer(facts: dict[str, Any], gradient: str = "gc") -> Quantizer:
    return Quantizer(
        "layer", facts["num_bits"], facts["signed"], facts["symmetric"], facts.get("observer", "abs"), gradient
    )


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("gradient", ["gc", "ste"])
def test_values_ranges_and_gradients(name: str, gradient: str) -> None:
    facts, found = INDEX[name], arrays(name)
    module = quantizer(facts, gradient)
    for step in range(facts["T"]):
        x = found["x"][step].clone().requires_grad_()
        y = module(x)
        y.backward(found["grad_out"][step])
        assert torch.equal(y.detach(), found["y"][step])
        assert isinstance(x.grad, Tensor)
        wanted = found["dx_gc"][step] if gradient == "gc" else found["grad_out"][step]
        assert torch.equal(x.grad, wanted)
        assert torch.equal(module.observer.range[0].clamp(max=0), found["min_val"][step])
        assert torch.equal(module.observer.range[1].clamp(min=0), found["max_val"][step])
        grid = module.grid()
        assert np.float32(grid.scale) == found["scale"][step].numpy()
        assert grid.zero_point == float(found["zero_point"][step])
        assert (grid.codes.lowest, grid.codes.highest) == (found["qmin"][step], found["qmax"][step])
    assert torch.equal(module.eval()(found["x_eval"]), found["y_eval"])


EDGES = INDEX["dq_edge_cases.npz"]["cases"] if INDEX else []


@pytest.mark.parametrize("case", EDGES, ids=lambda case: case["desc"])
def test_edge_cases(case: dict[str, Any]) -> None:
    found = arrays("dq_edge_cases.npz")
    module = quantizer(case)
    x = found[f"c{case['i']}_x"].clone().requires_grad_()
    y = module(x)
    y.sum().backward()
    if case["symmetric"] and not case["signed"] and case["num_bits"] != 8:
        # The official zero point is 128 for 4 bits, too, so that every value becomes the largest; ours is 8.
        assert module.grid().zero_point == 8
        assert not torch.equal(y.detach(), found[f"c{case['i']}_y"])
        return
    assert torch.equal(y.detach(), found[f"c{case['i']}_y"])
    assert torch.equal(x.grad, found[f"c{case['i']}_dx_gc"])
    lowest, highest, zero, scale = found[f"c{case['i']}_qparams"].tolist()
    grid = module.grid()
    assert (grid.codes.lowest, grid.codes.highest, grid.zero_point) == (lowest, highest, zero)
    assert np.float32(grid.scale) == np.float32(scale)


def test_ranks_of_percentiles() -> None:
    for key, wanted in json.loads((Path(GOLDEN) / "dq_percentile_k.json").read_text()).items():
        count, percentile = key.split("_")
        assert list(ranks(int(count), float(percentile))) == wanted


def test_protection_probabilities() -> None:
    found = arrays("dq_protection_prob.npz")
    graphs = [name.removesuffix("_deg") for name in found if name.endswith("_deg")]
    assert len(graphs) == 5
    for low, change in ((0.0, 0.1), (0.1, 0.1), (0.0, 0.2), (0.2, 0.9)):
        degrees = [found[f"{graph}_deg"] for graph in graphs]
        wanted = [found[f"{graph}_lo{low}_ch{change}"] for graph in graphs]
        for degree, probability in zip(degrees, wanted, strict=True):
            torch.testing.assert_close(protection_probability(degree, low, change), probability, rtol=0, atol=1e-7)
        batch = torch.repeat_interleave(torch.arange(5), torch.tensor([len(degree) for degree in degrees]))
        together = protection_probability(torch.cat(degrees), low, change, batch, 5)
        torch.testing.assert_close(together, torch.cat(wanted), rtol=0, atol=1e-7)
