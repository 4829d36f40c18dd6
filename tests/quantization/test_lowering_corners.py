"""What users do that a rule must not overlook: their own layers, hooks, branches, in-place changes, odd inputs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import BatchNorm, GCNConv, GINConv, SAGEConv, global_mean_pool

import gnncompress
from gnncompress.errors import ExecutionError, QuantizationError, UsageError
from gnncompress.models.convnet import read_out
from gnncompress.runtime import executor
from tests.memory import growth, needs_account
from tests.quantization.test_lowering import (
    CLASSES,
    FEATURES,
    GRAPH_MODELS,
    NODE_MODELS,
    Weighted,
    graphs,
    inputs,
    insist_on_the_same,
    quantized,
)

Forward = Callable[..., Tensor]


class Net(nn.Module):
    """Two layers with something of the user's between them."""

    def __init__(self, between: Callable[[Any, Tensor, Tensor], Tensor], wide: int = 16, **own: nn.Module) -> None:
        super().__init__()
        self.first, self.second = GCNConv(FEATURES, wide), SAGEConv(wide, CLASSES)
        self.own = nn.ModuleDict(own)
        self.between = between

    @property
    def lin(self) -> nn.Module:
        return self.own["lin"]

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.between(self, self.first(x, edge_index), x), edge_index)


class Doubled(GINConv):
    def message(self, x_j: Tensor) -> Tensor:
        return 2 * x_j


class Lone(SAGEConv):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index) - 3


class Absolute(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).abs()


class RowSoftmax(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


def negate(_: Any, h: Tensor, x: Tensor) -> Tensor:
    h.mul_(-1)
    return h


def add_to_itself(net: Any, h: Tensor, x: Tensor) -> Tensor:
    same = h
    h += net.lin(h)
    return same + h


BETWEEN: dict[str, tuple[Callable[[Any, Tensor, Tensor], Tensor], dict[str, Callable[[], nn.Module]]]] = {
    "linear of one's own": (lambda net, h, x: net.own["a"](h), {"a": lambda: Absolute(16, 16)}),
    "activation of one's own": (lambda net, h, x: net.own["a"](h), {"a": RowSoftmax}),
    "batch statistics": (
        lambda net, h, x: net.own["a"](h),
        {"a": lambda: nn.BatchNorm1d(16, track_running_stats=False)},
    ),
    "batch statistics of PyG": (
        lambda net, h, x: net.own["a"](h),
        {"a": lambda: BatchNorm(16, track_running_stats=False)},
    ),
    "layer norm": (lambda net, h, x: net.own["a"](h), {"a": lambda: nn.LayerNorm(16)}),
    "mean over nodes": (lambda net, h, x: h + h.mean(0, keepdim=True), {}),
    "one channel": (lambda net, h, x: h + x[:, :1], {}),
    "in place": (negate, {}),
    "in place activation": (lambda net, h, x: F.elu(h, inplace=True) + h, {}),
    "in place module": (lambda net, h, x: net.own["a"](h) + h, {"a": lambda: nn.ELU(inplace=True)}),
    "added in place": (add_to_itself, {}),
    "clamped by a value": (lambda net, h, x: h.clamp(max=h.mean()), {}),
    "called twice": (lambda net, h, x: net.lin(net.lin(h).relu()), {}),
    "concatenated and cut": (lambda net, h, x: torch.cat([h, net.lin(h)], 1)[:, 8:24], {}),
    "weighted sum": (lambda net, h, x: torch.add(h, net.lin(h), alpha=0.5), {}),
    "three summed": (lambda net, h, x: h + net.lin(h) + h.relu(), {}),
}


def both(model: nn.Module, data: tuple[Tensor, ...]) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return the simulated, the integer and the compiled model, the first two checked against each other."""
    model.eval()
    compiled = gnncompress.to_compiled(model)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*data), copy.deepcopy(model)(*data), rtol=1e-4, atol=1e-4)
    simulated = gnncompress.prepare(copy.deepcopy(model), "ptq-int8")
    with torch.no_grad():
        gnncompress.calibrate(simulated, lambda: simulated(*data))
    gnncompress.freeze(simulated)
    integer = gnncompress.to_integer(simulated)
    insist_on_the_same(simulated, integer, data)
    return simulated, integer, compiled


@pytest.mark.parametrize("what", BETWEEN)
def test_what_stands_between_two_layers(what: str) -> None:
    torch.manual_seed(0)
    between, own = BETWEEN[what]
    if "lin" in between.__code__.co_names:
        own = {**own, "lin": lambda: nn.Linear(16, 16)}
    both(Net(between, **{name: make() for name, make in own.items()}), inputs("gcn"))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Doubled(nn.Sequential(nn.Linear(FEATURES, FEATURES))), "it computes otherwise than GINConv"),
        (lambda: Lone(FEATURES, FEATURES), "it computes otherwise than SAGEConv"),
    ],
)
def test_layers_of_ones_own_compute_as_they_do(make: Callable[[], nn.Module], why: str) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = make(), SAGEConv(FEATURES, CLASSES)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.second(self.first(x, edge_index), edge_index)

    torch.manual_seed(0)
    _, integer, _ = both(Own(), inputs("gcn"))
    assert dict(integer.program.floats)["first"] == why


def test_hooks_are_not_passed_by() -> None:
    torch.manual_seed(0)
    model = Net(lambda net, h, x: h)
    model.second.register_forward_hook(lambda module, given, out: out + 3)
    _, integer, _ = both(model, inputs("gcn"))
    assert dict(integer.program.floats)["second"] == "it has hooks"
    model = Net(lambda net, h, x: h)
    model.first.register_message_forward_hook(lambda conv, given, out: 2 * out)
    _, integer, _ = both(model, inputs("gcn"))
    assert dict(integer.program.floats)["first"] == "it has hooks"


def test_a_network_of_one_layer_in_a_gin() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = GINConv(nn.Linear(FEATURES, 16)), GINConv(nn.Linear(16, CLASSES), train_eps=True)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.b(self.a(x, edge_index).relu(), edge_index)

    torch.manual_seed(0)
    _, integer, _ = both(One(), inputs("gcn"))
    assert not integer.program.floats


class Cut(nn.Module):
    """Another number of nodes from layer to layer."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a = GINConv(nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU()))
        self.b = GINConv(nn.Sequential(nn.Linear(16, CLASSES)))
        self.change = change

    def forward(self, x: Tensor, edge_index: Tensor, small: Tensor) -> Tensor:
        return self.b(self.change(self.a(x, edge_index)), edge_index[:, small])


@pytest.mark.parametrize("change", [lambda h: torch.cat([h, h]), lambda h: h[:50]])
def test_another_number_of_nodes_from_layer_to_layer(change: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    x, edges = inputs("gcn")
    small = ((edges < 50).all(0)).nonzero().squeeze(1)
    both(Cut(change), (x, edges, small))


def test_the_same_edges_for_fewer_nodes_are_refused() -> None:
    class Same(Cut):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.b(self.change(self.a(x, edge_index)), edge_index)

    torch.manual_seed(0)
    (x, edges), few = inputs("gcn"), torch.tensor([[0, 1], [1, 2]])
    model = Same(lambda h: h[:5]).eval()
    compiled = gnncompress.to_compiled(model)
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.calibrate(model, lambda: model(x, few))
    integer = gnncompress.to_integer(model)
    for one in (compiled, integer):
        one(x, few)
        with pytest.raises(ExecutionError, match="edge_index has node"):
            one(x, edges)


class Branching(nn.Module):
    """Pools if it is told how."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lin = SAGEConv(FEATURES, 16), nn.Linear(16, CLASSES)

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, factor: float = 2.0, edge: None = None
    ) -> Tensor:
        h = factor * self.conv(x, edge_index)
        if batch is not None:
            h = global_mean_pool(h, batch)
        return self.lin(h)


def test_branches_on_what_is_given() -> None:
    torch.manual_seed(0)
    x, edges, batch = graphs()
    model = Branching().eval()
    compiled = gnncompress.to_compiled(model)
    gnncompress.prepare(model, "ptq-int8")
    gnncompress.calibrate(model, lambda: (model(x, edges), model(x, edges, batch)))
    integer = gnncompress.to_integer(model)
    for data in ((x, edges), (x, edges, batch), (x, edges)):
        insist_on_the_same(model, integer, data)
        assert compiled(*data).shape == model(*data).shape


def test_a_weight_that_is_gone_is_not_remembered() -> None:
    x, edges = inputs("gcn")
    compiled = gnncompress.to_compiled(Weighted())
    expected = compiled(x, edges)
    compiled(x, edges, torch.rand(edges.size(1)) * 9)
    torch.testing.assert_close(compiled(x, edges), expected)
    with pytest.raises(ExecutionError, match=r"edge_weight must be weights \[2,658 edges\], not torch.float32 \[3\]"):
        compiled(x, edges, torch.rand(3))
    with pytest.raises(ExecutionError, match="a weight of an edge is NaN or infinite"):
        compiled(x, edges, torch.full((edges.size(1),), torch.nan))


def test_the_model_it_was_made_of_may_change() -> None:
    torch.manual_seed(0)
    model = Net(lambda net, h, x: net.own["a"](h.abs()), a=nn.BatchNorm1d(16))
    data = inputs("gcn")
    simulated, integer, _ = both(model, data)
    before = integer(*data)
    simulated.train()
    assert torch.equal(integer(*data), before)


def test_damaged_sparse_features_are_refused() -> None:
    x, edges = inputs("gcn")
    csr = (x * (x > 0)).to_sparse_csr()
    far = csr.col_indices().clone()
    far[0] = 10**10
    damaged = torch.sparse_csr_tensor(csr.crow_indices(), far, csr.values(), csr.shape, check_invariants=False)
    model = quantized("gcn")
    wide = torch.cat([x, x], 1)
    for one in (gnncompress.to_integer(model), gnncompress.to_compiled(NODE_MODELS["gcn"]().eval())):
        with pytest.raises(ExecutionError, match="the sparse features are damaged"):
            one(damaged, edges)
        for features in (wide, wide.to_sparse_csr(), x[:, 1:]):
            with pytest.raises(ExecutionError, match=rf"x must be features \[nodes, {FEATURES}\], not"):
                one(features, edges)
        with pytest.raises(ExecutionError, match="sparse features must be CSR"):
            one(x.to_sparse_coo(), edges)
        assert one(x.double(), edges.int()).dtype == torch.float32
        for wrong in (edges.repeat(2, 1)[:3], edges.float(), edges[0], [1]):
            with pytest.raises(ExecutionError, match="edge_index must be whole numbers"):
                one(x, wrong)
    for name in ("graphsage", "gin"):
        data = inputs(name)
        for one in (
            gnncompress.to_integer(quantized(name)),
            gnncompress.to_compiled({**NODE_MODELS, **GRAPH_MODELS}[name]().eval()),
        ):
            with pytest.raises(ExecutionError, match="give dense ones"):
                one(data[0].to_sparse_csr(), *data[1:])


@pytest.mark.parametrize("name", ["gin", "gcn", "graphsage", "gat", "spline", "gnnnet"])
def test_blocks_and_threads_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    integer, data = gnncompress.to_integer(quantized(name)), inputs(name)
    expected = integer(*data)
    threads = torch.get_num_threads()
    monkeypatch.setattr(executor, "_BLOCK_BYTES", 64 * 64)
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            assert torch.equal(integer(*data), expected)
    finally:
        torch.set_num_threads(threads)


def test_functions_that_run_in_floats_are_named() -> None:
    torch.manual_seed(0)
    _, integer, _ = both(Net(lambda net, h, x: torch.cat([h.abs(), h], 1)[:, :16]), inputs("gcn"))
    assert {"a tensor's abs", "torch's cat"} <= {why for _, why in integer.program.floats}


def test_a_forward_that_returns_no_tensor_is_refused() -> None:
    class Pair(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Any:
            return self.first(x, edge_index), x

    model = gnncompress.prepare(Pair(lambda net, h, x: h), "ptq-int8", keep_float=["second"]).eval()
    gnncompress.calibrate(model, lambda: model(*inputs("gcn")))
    with pytest.raises(QuantizationError, match="its forward must return one tensor"):
        gnncompress.to_integer(model)


def test_a_program_is_not_saved() -> None:
    integer, data = gnncompress.to_integer(quantized("gcn")), inputs("gcn")
    expected = integer(*data)
    for save in (lambda: integer.state_dict(), lambda: pickle.dumps(integer)):
        with pytest.raises(UsageError, match="save the model that it was made of"):
            save()
    assert torch.equal(copy.deepcopy(integer)(*data), expected)


def test_a_copy_has_the_hooks_of_the_model() -> None:
    model, data = quantized("gcn"), inputs("gcn")
    model.register_forward_pre_hook(lambda module, args, kwargs: (args, kwargs), with_kwargs=True)
    handle = model.register_forward_hook(lambda module, args, output: output * 3)
    integer = gnncompress.to_integer(model)
    copied = copy.deepcopy(integer)
    expected = integer(*data)
    assert torch.equal(copied(*data), expected)
    handle.remove()
    torch.testing.assert_close(gnncompress.to_integer(model)(*data) * 3, expected)


def test_models_without_kernels_are_refused() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(FEATURES, CLASSES)

        def forward(self, data: Data) -> Tensor:
            return self.conv(data.x, data.edge_index)

    with pytest.raises(QuantizationError, match=r"no kernels for any of its layers .*write its forward as forward\(x"):
        gnncompress.to_compiled(Whole())


def test_large_hubs_lose_no_digits() -> None:
    torch.manual_seed(0)
    number = 2_000_001
    x = torch.rand(1000, FEATURES) * 1.1 - 0.1  # a zero point that is no power of two
    x[0] = 0
    edges = torch.stack([torch.zeros(number, dtype=torch.long), torch.ones(number, dtype=torch.long)])
    one = Only(GINConv(nn.Sequential(nn.Linear(FEATURES, CLASSES)))).eval()
    gnncompress.prepare(one, "ptq-int8")
    gnncompress.calibrate(one, lambda: one(x, torch.randint(1000, (2, 3000))))
    found = gnncompress.to_integer(one)(x, edges)
    with torch.no_grad():
        torch.testing.assert_close(found[1], one(x, edges)[1], rtol=0, atol=1e-6)


class Only(nn.Module):
    """One layer."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index)


def test_what_is_no_tensor_is_refused() -> None:
    x, edges = inputs("gcn")
    integer = gnncompress.to_integer(quantized("gcn"))
    with pytest.raises(ExecutionError, match="x must be a tensor, not NoneType"):
        integer(None, edges)
    with pytest.raises(ExecutionError, match="x must be a tensor, not ndarray"):
        integer(x.numpy(), edges)


class Read(nn.Module):
    """A layer and a readout, in floats where the model is compiled."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = GCNConv(FEATURES, CLASSES), kind

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        return read_out(self.kind, self.conv(x, edge_index), batch)


@needs_account
@pytest.mark.parametrize("kind", ["sum", "mean", "max"])
def test_a_batch_with_gaps_is_refused_where_torch_pools(kind: str) -> None:
    model = Read(kind).eval()
    compiled, (x, edges) = gnncompress.to_compiled(model), inputs("gcn")
    near = torch.arange(len(x)) // 10
    for batch in (None, near, near * 3):
        torch.testing.assert_close(compiled(x, edges, batch), model(x, edges, batch))
    for batch, message in (
        (
            near + 2**30,
            f"batch has graph number {2**30 + int(near.max()):,} for {len(x)} nodes: number the graphs 0, 1",
        ),
        (near.bool(), "batch must hold the numbers of graphs: whole ones, from 0"),
        (near - 1, "batch must hold the numbers of graphs: whole ones, from 0"),
        (near[:-1], f"batch must have the number of a graph for each of {len(x)} nodes"),
    ):
        with growth() as grown, pytest.raises(ExecutionError, match=f"^{message}"):
            compiled(x, edges, batch)
        assert grown() < 16 * 2**20
