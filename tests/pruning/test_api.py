"""The numbers that ``prune`` gives, against zeros counted in the weights that calls multiply by."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune
from torch.overrides import TorchFunctionMode
from torch_geometric.nn import GATConv, GCNConv, Linear, RGCNConv

import gnncompress
from gnncompress.errors import PruningError
from gnncompress.masks import hold

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Products(TorchFunctionMode):
    """Notes the weights that linear layers are called with: what the model computes with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            self.seen.append(args[1].detach())
        return func(*args, **(kwargs or {}))


def used(model: nn.Module) -> float:
    """Return the fraction of zeros among the weights that one call multiplies by."""
    with Products() as products, torch.no_grad():
        model(X)
    return sum(int((w == 0).sum()) for w in products.seen) / sum(w.numel() for w in products.seen)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 20), nn.ReLU(), Linear(20, 20), nn.ReLU(), nn.Linear(20, 10))


def by_torch(model: nn.Module, amount: float = 0.5) -> nn.Module:
    for layer in (model[0], model[2], model[4]):  # type: ignore[index]
        torch_prune.random_unstructured(layer, "weight", amount)
    return model


METHODS: dict[str, dict[str, Any]] = {
    "global": {"method": "global"},
    "fine-grained": {"method": "fine-grained"},
    "erk": {"method": "fine-grained", "allocation": "erk"},
    "lamp-score": {"method": "fine-grained", "allocation": "lamp-score"},
    "random": {"method": "global", "importance": "random"},
    "taylor": {"method": "global", "importance": "taylor", "loss": lambda model: model(X).square().mean()},
    "min-keep": {"method": "global", "min_keep": 0.05},
}


@pytest.mark.parametrize("settings", METHODS.values(), ids=METHODS.keys())
@pytest.mark.parametrize("masked", [None, "torch", "us", "permanent"])
def test_what_is_said_is_what_is_used(masked: str | None, settings: dict[str, Any]) -> None:
    model = network()
    if masked == "torch":
        by_torch(model)
    elif masked is not None:
        gnncompress.prune(model, "fine-grained", 0.5, importance="random", seed=1)
    if masked == "permanent":
        gnncompress.make_permanent(model)
    result = gnncompress.prune(model, sparsity=0.75, **settings)
    assert result.sparsity == used(model) == pytest.approx(0.75, abs=0.003)
    assert result.layers == {f"{i}.weight": float((model[i].weight == 0).double().mean()) for i in (0, 2, 4)}
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    assert used(model) == result.sparsity
    assert used(gnncompress.make_permanent(model)) == result.sparsity
    assert used(copy.deepcopy(model)) == result.sparsity


def test_a_mask_of_torch_and_one_of_ours_are_not_added_up_in_silence() -> None:
    model = by_torch(network())
    before = {index: model[index].weight != 0 for index in (0, 2, 4)}
    result = gnncompress.prune(model, "global", 0.5)
    assert result.sparsity == used(model) == pytest.approx(0.5)
    assert all(torch.equal(model[index].weight != 0, keep) for index, keep in before.items())


@pytest.mark.parametrize("masked", ["torch", "us", "permanent"])
def test_a_sparser_model_stays_as_it_is(masked: str) -> None:
    model = network()
    if masked == "torch":
        by_torch(model, 0.8)
    else:
        gnncompress.prune(model, "global", 0.8)
    if masked == "permanent":
        gnncompress.make_permanent(model)
    before = [weight.clone() for weight in (model[0].weight, model[2].weight, model[4].weight)]
    result = gnncompress.prune(model, "global", 0.5)
    assert result.sparsity == used(model) == pytest.approx(0.8, abs=0.003)
    for index, weight in zip((0, 2, 4), before, strict=True):
        assert torch.equal(model[index].weight, weight)


def test_a_sparser_layer_keeps_its_zeros() -> None:
    model = network()
    torch_prune.random_unstructured(model[0], "weight", 0.9)
    result = gnncompress.prune(model, "fine-grained", 0.6)
    assert result.layers == {"0.weight": 0.9, "2.weight": 0.6, "4.weight": 0.6}
    assert result.sparsity == used(model)
    assert torch.equal(result.masks["0.weight"], model[0].weight != 0)


def test_zeros_of_the_initialization_may_be_trained() -> None:
    model = network()
    with torch.no_grad():
        model[4].weight.zero_()
    result = gnncompress.prune(model, "fine-grained", 0.25)
    assert result.layers["4.weight"] == 1.0
    assert int(result.masks["4.weight"].sum()) == 150
    assert gnncompress.prune(network(), "global", 0.0).sparsity == 0.0


def test_shared_weights_count_once() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), nn.Linear(8, 4, bias=False))
    model[1].weight = model[0].weight
    result = gnncompress.prune(model, "global", 0.5)
    assert sum(keep.numel() for keep in result.masks.values()) == 96
    assert result.sparsity == 0.5
    assert torch.equal(model[0].weight, model[1].weight)
    state, expected = copy.deepcopy(model.state_dict()), model(X)
    model.load_state_dict(state)
    assert gnncompress.prune(model, "global", 0.75).sparsity == 0.75
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.make_permanent(model)
    assert not torch.equal(model(X), expected)


class Lists(nn.Module):
    """Weights in containers of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.ParameterList(nn.Parameter(torch.randn(8, 8)) for _ in range(3))
        self.named = nn.ParameterDict({"a": nn.Parameter(torch.randn(8, 8)), "b": nn.Parameter(torch.randn(8))})

    def weights(self) -> Iterator[Tensor]:
        yield from self.stack
        yield self.named["a"]

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights():
            x = F.linear(x, weight)
        return x * self.named["b"]


def test_containers_of_parameters() -> None:
    torch.manual_seed(0)
    model = Lists()
    result = gnncompress.prune(model, "global", 0.5)
    assert list(result.masks) == ["stack.0", "stack.1", "stack.2", "named.a"]
    assert result.sparsity == used(model) == 0.5
    expected = model(X)
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(gnncompress.make_permanent(model)(X), expected)
    other = Lists()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(X), expected)


EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
TYPES = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
ZEROED: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "GCNConv": (lambda: GCNConv(8, 8), (X, EDGES)),
    "GATConv": (lambda: GATConv(8, 4, heads=2), (X, EDGES)),
    "RGCNConv": (lambda: RGCNConv(8, 8, 3, num_bases=2), (X, EDGES, TYPES)),
    "LSTM": (lambda: nn.LSTM(8, 8, 2), (X,)),
    "GRU": (lambda: nn.GRU(8, 8), (X,)),
    "attention": (lambda: nn.MultiheadAttention(8, 2), (X, X, X)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16), (X,)),
    "embedding": (lambda: nn.Embedding(6, 8), (torch.arange(6),)),
    "bilinear": (lambda: nn.Bilinear(8, 8, 4), (X, X)),
}


@pytest.mark.parametrize(("layer", "inputs"), ZEROED.values(), ids=ZEROED.keys())
def test_a_masked_layer_computes_what_zeros_written_into_it_do(
    layer: Callable[[], nn.Module], inputs: tuple[Any, ...]
) -> None:
    torch.manual_seed(0)
    model = layer().eval()
    plain = copy.deepcopy(model)
    result = gnncompress.prune(model, "global", 0.5)
    with torch.no_grad():
        for name, keep in result.masks.items():
            plain.get_parameter(name).masked_fill_(~keep, 0)
        sizes = [p.numel() for p in plain.parameters() if p.dim() > 1]
        zeros = [int((p == 0).sum()) for p in plain.parameters() if p.dim() > 1]
        found, expected = model(*inputs), plain(*inputs)
    assert result.sparsity == sum(zeros) / sum(sizes)
    for one, other in zip(*((o if isinstance(o, tuple) else (o,)) for o in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_a_weight_that_something_else_decides_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    monkeypatch.setattr("gnncompress.masked_states.Mask.forward", lambda mask, weight: weight)
    with pytest.raises(PruningError, match=r"layer 0\.weight: 80 weights should be zero .* but 0 of 160"):
        hold(model, {"0.weight": torch.arange(160).view(20, 8) % 2 == 0})
