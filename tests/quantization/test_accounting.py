"""The bits of a model, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import SAGEConv

from gnncompress.quantization import calibrate, prepare, quantizers
from gnncompress.quantization.accounting import bit_measurements
from tests.models.graphs import random_data


def bits(model: nn.Module, run: object) -> dict[str, float]:
    return {row.metric: float(row.value or 0) for row in bit_measurements(model.eval(), run)}  # type: ignore[arg-type]


def test_a_linear_layer() -> None:
    model = prepare(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)), "ptq-int8", keep_float=["1"]).eval()
    x = torch.randn(10, 6)
    calibrate(model, lambda: model(x))
    found = bits(model, lambda: model(x))
    # 24 weights of 8 bits and a range of two floats, 8 weights in floats
    assert found["bits_average_weights"] == pytest.approx((24 * 8 + 64 + 8 * 32) / 32)
    # 60 inputs and 40 outputs of 8 bits, a range each; 40 inputs and 20 outputs in floats
    assert found["bits_average_activations"] == pytest.approx((100 * 8 + 2 * 64 + 60 * 32) / 160)


def test_learnt_bits() -> None:
    data = random_data(10, 5, 0)
    model = prepare(SAGEConv(5, 4), "a2q")
    model(data.x, data.edge_index)
    inputs = dict(quantizers(model))["lin_l.inputs"]
    with torch.no_grad():
        inputs.bits.copy_(torch.arange(10) / 2 + 1)
        dict(quantizers(model))["lin_r.inputs"].bits.fill_(3.0)
    whole = (torch.arange(10) / 2 + 1).round()
    found = bits(model, lambda: model(data.x, data.edge_index))
    assert found["bits_average_weights"] == pytest.approx((40 * 4 + 8 * 32) / 40)
    # what is propagated is raw input, 32 bits; both layers have ten nodes' steps and bits
    activations = 50 * 32 + 5 * float(whole.sum()) + 50 * 3 + 40 * 32
    assert found["bits_average_activations"] == pytest.approx(activations / 150)
    assert found["bits_average_published"] == pytest.approx((float((whole - 1).mean()) + 2) / 2)


def test_nothing_is_counted_where_nothing_is_quantized() -> None:
    assert bits(nn.Linear(3, 2), lambda: None) == {}
