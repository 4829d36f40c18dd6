"""Prepared PyG layers against arrays from running the official quantized layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv
from torch_geometric.utils import add_self_loops

from gnncompress.quantization import prepare, quantizers
from tests.quantization.helpers import INDEX, arrays, needs_golden

pytestmark = needs_golden
# Where the official code sums in another order, sums differ by a few units in the last place.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def gcn(found: dict[str, Tensor]) -> tuple[nn.Module, list[Tensor], dict[str, nn.Parameter]]:
    """The official layer normalizes by the out-degree, PyG's by the in-degree: give it the official coefficients."""
    conv = GCNConv(5, 6, normalize=False)
    edges, _ = add_self_loops(found["edge_index"], num_nodes=14)
    scale = torch.bincount(edges[0], minlength=14).float().pow(-0.5)
    with torch.no_grad():
        conv.lin.weight.copy_(found["p_weight"].t())
        conv.bias.copy_(found["p_bias"])
    return conv, [edges, scale[edges[0]] * scale[edges[1]]], {"weight": conv.lin.weight, "bias": conv.bias}


def gin(found: dict[str, Tensor]) -> tuple[nn.Module, list[Tensor], dict[str, nn.Parameter]]:
    first, second = nn.Linear(5, 6), nn.Linear(6, 6)
    conv = GINConv(nn.Sequential(first, nn.ReLU(), second, nn.ReLU()), train_eps=True)
    parameters = {"w0": first.weight, "b0": first.bias, "w1": second.weight, "b1": second.bias, "eps": conv.eps}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found[f"p_{name}"])
    return conv, [found["edge_index"]], parameters


def gat(found: dict[str, Tensor]) -> tuple[nn.Module, list[Tensor], dict[str, nn.Parameter]]:
    conv = GATConv(5, 4, heads=2)
    with torch.no_grad():
        conv.lin.weight.copy_(found["p_weight"].t())
        conv.att_dst.copy_(found["p_att"][:, :, :4])
        conv.att_src.copy_(found["p_att"][:, :, 4:])
        conv.bias.copy_(found["p_bias"])
    parameters = {"weight": conv.lin.weight, "dst": conv.att_dst, "src": conv.att_src, "bias": conv.bias}
    return conv, [found["edge_index"]], parameters


@pytest.mark.parametrize(("build", "bits"), [(gcn, 8), (gin, 8), (gat, 4)])
def test_official_layer(build: object, bits: int) -> None:
    name = f"dq_layer_{build.__name__}_int{bits}.npz"  # type: ignore[attr-defined]
    found = arrays(name)
    conv, graph, parameters = build(found)  # type: ignore[operator]
    prepare(conv, f"dq-int{bits}", config="gc-abs")
    conv.quantization_context.draw = lambda edges, degree: found["mask"]
    x = found["x"].clone().requires_grad_()
    y = conv(x, *graph)
    y.backward(found["grad_out"])
    torch.testing.assert_close(y.detach(), found["y_train"], **CLOSE)
    torch.testing.assert_close(x.grad, found["dx"], **CLOSE)
    wanted = {key[2:]: value for key, value in found.items() if key.startswith("g_")}
    if "att" in wanted:
        wanted["dst"], wanted["src"] = wanted.pop("att").split(4, dim=2)
    for key, parameter in parameters.items():
        gradient = parameter.grad.t() if wanted[key].shape != parameter.shape else parameter.grad
        if key == "weight":
            gradient = parameter.grad.t()
        torch.testing.assert_close(gradient, wanted[key], **CLOSE)
    ranges = {key: one.observer.range for key, one in quantizers(conv)}
    assert len(ranges) == len(INDEX[name]["ranges_after_train_step"])
    for official, (low, high) in INDEX[name]["ranges_after_train_step"].items():
        torch.testing.assert_close(ranges[_ours(official, ranges)], torch.tensor([low, high]), **CLOSE)
    torch.testing.assert_close(conv.eval()(found["x_eval"], *graph), found["y_eval"], rtol=0, atol=0)


def _ours(official: str, names: dict[str, Tensor]) -> str:
    """Return our name of an official quantizer, such as mp_quantizers.message_low or nn.0.layer_quant.inputs."""
    point = official.rpartition(".")[2].removesuffix("_low")
    if official.startswith("nn."):
        return f"nn.{official.split('.')[1]}.{point}"
    (name,) = [name for name in names if name.rpartition(".")[2] == point and not name.startswith("nn.")]
    return name
