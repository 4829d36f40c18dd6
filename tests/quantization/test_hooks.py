"""Features of other types than float32: a quantized model rounds them as it does the same floats, or refuses them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv

import gnncompress
from gnncompress.errors import ExecutionError, QuantizationError
from gnncompress.models.spline import SplineConv

WIDTH, NODES, EDGES = 6, 12, 40
CONVOLUTIONS: dict[str, Callable[[], nn.Module]] = {
    "gcn": lambda: GCNConv(WIDTH, 4),
    "gin": lambda: GINConv(nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 4))),
    "sage": lambda: SAGEConv(WIDTH, 4),
    "gat": lambda: GATConv(WIDTH, 4, heads=2),
    "spline": lambda: SplineConv(WIDTH, 4, 1, 2),
    "linear": lambda: nn.Linear(WIDTH, 4),
}
TYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float64,
]  # fmt: skip


class Net(nn.Module):
    """One layer, called as it is called."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.layer = CONVOLUTIONS[name]()

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            return self.layer(x)
        return self.layer(x, edge_index, edge_attr) if isinstance(self.layer, SplineConv) else self.layer(x, edge_index)


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Features that are the same in all types, and edges with a coordinate each."""
    torch.manual_seed(3)
    return torch.randint(0, 2, (NODES, WIDTH)).float(), torch.randint(0, NODES, (2, EDGES)), torch.rand(EDGES, 1)


def simulated(name: str, x: Tensor, *rest: Tensor, scheme: str = "ptq-int8") -> nn.Module:
    torch.manual_seed(1)
    model = gnncompress.prepare(Net(name).eval(), scheme)
    gnncompress.calibrate(model, lambda: model(x, *rest))
    return model.eval()


def or_refused(model: nn.Module, *given: Tensor) -> Tensor | None:
    """What a model returns; nothing if it takes no such features, or torch has no product of the two types."""
    try:
        with torch.no_grad():
            return model(*given)
    except (QuantizationError, ExecutionError, RuntimeError):
        return None


@pytest.mark.parametrize("kind", TYPES, ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_features_of_any_type_are_rounded_as_floats_or_refused(name: str, kind: torch.dtype) -> None:
    x, *rest = data()
    model = simulated(name, x * 1.3, *rest)  # so that no value is on the grid by itself
    integer = gnncompress.to_integer(model)
    compiled = gnncompress.to_compiled(Net(name).eval())
    for one in (model, integer, compiled):
        found, wanted = or_refused(one, x.to(kind), *rest), or_refused(one, x, *rest)
        assert wanted is not None
        if found is not None:
            torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.02 if kind in TYPES[-3:-1] else 1e-6)
    assert or_refused(integer, x.to(kind), *rest) is not None, "codes are made of any numbers"
    if name == "gin" and kind is not torch.float64:
        assert or_refused(model, x.to(kind), *rest) is not None, "it takes what the model of floats takes"


def test_whole_numbers_are_not_rounded_to_whole_numbers() -> None:
    x, *rest = data()
    counts = (x * 7).long()
    for scheme in ("ptq-int8", "qat-int4"):
        model = simulated("gin", counts.float(), *rest, scheme=scheme)
        again = simulated("gin", counts, *rest, scheme=scheme)
        with torch.no_grad():
            wanted = model(counts.float(), *rest)
            assert torch.equal(model(counts, *rest), wanted)
            assert torch.equal(again(counts, *rest), wanted), "calibrated with whole numbers"
    training = copy.deepcopy(model).train()
    training(counts, *rest).sum().backward()
    assert all(bool(one.grad.isfinite().all()) for one in training.parameters() if one.grad is not None)


def test_a_layer_that_multiplies_says_what_it_takes() -> None:
    x, *rest = data()
    model = simulated("sage", x, *rest)
    refused = nn.Sequential(copy.deepcopy(simulated("linear", x, *rest).layer))
    with pytest.raises(
        QuantizationError, match=r"^layer\.inputs: .* must be features of floats, not torch\.int64: give"
    ):
        refused(x.long())
    with pytest.raises(QuantizationError, match=r"^layer\.message: values are torch\.complex64, and must be real$"):
        model(x.to(torch.complex64), *rest)
