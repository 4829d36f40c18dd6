"""Forwards as users write them: integer and compiled models give what the model gives, or refuse in one line."""

from __future__ import annotations

import contextlib
import copy
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import utils
from torch_geometric.nn import (
    BatchNorm,
    GATConv,
    GCNConv,
    GINConv,
    MessagePassing,
    SAGEConv,
    global_add_pool,
    global_mean_pool,
)
from torch_geometric.utils import scatter

import gnncompress
from gnncompress.errors import ExecutionError, QuantizationError

WIDE = 8
Made = Callable[[], nn.Module]
CASES: dict[str, Made] = {}
# Those whose branches depend on values, shapes or Python's own state: no program of all calls can be told from tracing.
NOT_FOLLOWED: set[str] = set()


def graph(seed: int, nodes: int) -> dict[str, Tensor]:
    """A graph with self loops, a double edge and a node without edges."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, nodes - 1, (2, 4 * nodes), generator=generator)
    edges[:, 1] = edges[:, 0]
    return {
        "x": torch.randn(nodes, WIDE, generator=generator),
        "edge_index": edges,
        "edge_weight": torch.rand(4 * nodes, generator=generator) + 0.1,
        "batch": torch.arange(nodes) * 3 // nodes,
    }


GRAPHS = [graph(1, 40), graph(2, 57), graph(3, 33)]


class Net(nn.Module):
    """A convolution, a linear layer, and what a case makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.l = GCNConv(WIDE, WIDE), nn.Linear(WIDE, 4)


def case(followed: bool = True) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Make a class of a forward."""

    def register(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        kind = type(forward.__name__, (Net,), {"forward": forward})
        CASES[forward.__name__] = kind
        if not followed:
            NOT_FOLLOWED.add(forward.__name__)
        return forward

    return register


def model_case(made: Made) -> Made:
    """Take a function that makes a model as a case."""
    CASES[made.__name__] = made
    return made


# Branches on what is given


@case()
def instance_of_tensor(self: Any, x, edge_index):
    if isinstance(edge_index, Tensor):
        x = x * 3
    return self.l(self.c(x, edge_index))


@case()
def is_tensor(self: Any, x, edge_index):
    return self.l(self.c(x * 2 if torch.is_tensor(x) else x, edge_index))


@case()
def other_name_for_weight(self: Any, x, edge_index, edge_weight=None):
    w = edge_weight
    if w is not None:
        w = w * 2
    return self.l(self.c(x, edge_index, w))


@case()
def weight_none_in_an_expression(self: Any, x, edge_index, edge_weight=None):
    return self.l(self.c(x, edge_index)) * (1.0 if None is edge_weight else 2.0)


@case()
def weight_equal_none(self: Any, x, edge_index, edge_weight=None):
    given = [one for one in (edge_weight,) if one is not None]
    return self.l(self.c(x, edge_index, *given)) + len(given)


@case()
def weight_by_match(self: Any, x, edge_index, edge_weight=None):
    match edge_weight:
        case None:
            return self.l(self.c(x, edge_index))
        case _:
            return self.l(self.c(x, edge_index, edge_weight)) - 1


@case()
def weight_in_a_helper(self: Any, x, edge_index, edge_weight=None):
    def helper(given: Any) -> float:
        return 0.5 if given is None else 2.0

    return self.l(self.c(x, edge_index) * helper(edge_weight))


@case()
def weight_optional_without_data_name(self: Any, x, edge_index, w=None):
    return self.l(self.c(x, edge_index, w) if w is not None else self.c(x * 2, edge_index))


@case()
def weight_by_or_default(self: Any, x, edge_index, edge_weight=None):
    if edge_weight is None:
        edge_weight = torch.ones_like(edge_index[0], dtype=x.dtype) * 0.5
    return self.l(self.c(x, edge_index, edge_weight))


@case()
def readout_with_or_without_batch(self: Any, x, edge_index, batch=None):
    h = self.c(x, edge_index).relu()
    return self.l(global_mean_pool(h, batch))


@case()
def readout_if_batch(self: Any, x, edge_index, batch=None):
    h = self.c(x, edge_index).relu()
    return self.l(h) if batch is None else self.l(global_add_pool(h, batch))


@case()
def two_optional_inputs(self: Any, x, edge_index, edge_weight=None, batch=None):
    h = self.c(x, edge_index, edge_weight) if edge_weight is not None else self.c(x, edge_index) * 2
    return self.l(h) if batch is None else self.l(global_add_pool(h, batch))


@case()
def constant_option(self: Any, x, edge_index, scale=3.0, twice=True):
    h = self.c(x * scale, edge_index)
    return self.l(h + h if twice else h)


class Child(nn.Module):
    """A child that looks at what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.c = GCNConv(WIDE, WIDE)

    def forward(self, x, edge_index, edge_weight=None):
        if edge_weight is not None:
            return self.c(x, edge_index, edge_weight) * 2
        return self.c(x, edge_index)


@model_case
def weight_in_a_child() -> nn.Module:
    class Parent(Net):
        def __init__(self) -> None:
            super().__init__()
            self.c = Child()

        def forward(self, x, edge_index, edge_weight=None):
            return self.l(self.c(x, edge_index, edge_weight))

    return Parent()


@model_case
def weight_in_super() -> nn.Module:
    class Again(Child):
        def __init__(self) -> None:
            super().__init__()
            self.l = nn.Linear(WIDE, 4)

        def forward(self, x, edge_index, edge_weight=None):
            return self.l(super().forward(x, edge_index, edge_weight))

    return Again()


@model_case
def weight_in_a_method() -> nn.Module:
    class Method(Net):
        def convolve(self, x: Tensor, edge_index: Tensor, w: Tensor | None) -> Tensor:
            return self.c(x, edge_index) if w is None else self.c(x, edge_index, w).relu()

        def forward(self, x, edge_index, edge_weight=None):
            return self.l(self.convolve(x, edge_index, edge_weight))

    return Method()


# In-place changes


@case()
def zeroed_columns(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    h[:, :4].zero_()
    return self.l(h)


@case()
def elu_in_place(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    F.elu_(h)
    return self.l(h)


@case()
def part_added_to(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    k = h[:, :4]
    k += 1
    return self.l(h)


@case()
def part_changed_and_read(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    k = h[:, :4]
    k *= 2
    return self.l(torch.cat([k, h[:, 4:]], 1))


@case()
def columns_assigned(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    h[:, 0] = 1.0
    return self.l(h)


@case()
def mask_assigned(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    h[h < 0] = 0.25
    return self.l(h)


@case()
def relu_method_in_place(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    h.relu_()
    return self.l(h)


@case()
def relu_by_position(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    F.relu(h, True)
    return self.l(h)


@case()
def leaky_relu_by_position(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    F.leaky_relu(h, 0.3, True)
    return self.l(h)


@case()
def dropped_then_changed(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    d = F.dropout(h, training=self.training)
    d.add_(1)
    return self.l(h)


@case()
def viewed_then_changed(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    h.view(-1, 2, 4)[:, 0].mul_(-1)
    return self.l(h.relu())


@case()
def transposed_then_changed(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    h.t()[2:4].neg_()
    return self.l(h)


@case()
def chunk_changed(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    a, _ = h[:, :4], h[:, 4:]
    a.sigmoid_()
    return self.l(h)


@case()
def out_argument(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    torch.mul(h, 2, out=h)
    return self.l(h)


@case()
def same_name_kept(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    before = h
    h += 1
    return self.l(before)


@case()
def changed_before_two_readers(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    k = h.relu()
    h.mul_(3)
    return self.l(h + k)


@case()
def power_in_place(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    k = h[:, 4:]
    k **= 2
    return self.l(h)


@case()
def input_changed(self: Any, x, edge_index):
    x = x.clone()
    y = x[:, :3]
    y.fill_(0.5)
    return self.l(self.c(x, edge_index))


@case()
def added_to_a_sum(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    s = h + h.relu()
    t = s
    t.clamp_(min=-0.1)
    return self.l(s)


@case()
def data_attribute_changed(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    h.data.mul_(2)
    return self.l(h)


@model_case
def module_in_place_read_by_two() -> nn.Module:
    class InPlace(Net):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU(inplace=True)

        def forward(self, x, edge_index):
            h = self.c(x, edge_index)
            v = h.view(-1, WIDE)
            self.act(h)
            return self.l(v)

    return InPlace()


# Layers and hooks of one's own


@model_case
def propagate_overridden() -> nn.Module:
    class Doubled(GCNConv):
        def propagate(self, edge_index: Any, size: Any = None, **kwargs: Any) -> Tensor:
            return 2 * super().propagate(edge_index, size=size, **kwargs)

    return with_convolution(Doubled(WIDE, WIDE))


@model_case
def update_overridden() -> nn.Module:
    class Halved(SAGEConv):
        def update(self, inputs: Tensor) -> Tensor:
            return inputs / 2

    return with_convolution(Halved(WIDE, WIDE))


@model_case
def aggregate_replaced_on_the_object() -> nn.Module:
    conv = SAGEConv(WIDE, WIDE)

    def aggregate(self: Any, inputs: Tensor, index: Tensor, ptr: Any = None, dim_size: Any = None) -> Tensor:
        return self.aggr_module(inputs * 2, index, ptr=ptr, dim_size=dim_size, dim=self.node_dim)

    conv.aggregate = types.MethodType(aggregate, conv)
    return with_convolution(conv)


@model_case
def linear_overridden() -> nn.Module:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    class Own(Net):
        def __init__(self) -> None:
            super().__init__()
            self.l = Scaled(WIDE, 4)

        def forward(self, x, edge_index):
            return self.l(self.c(x, edge_index))

    return Own()


def with_convolution(conv: nn.Module) -> nn.Module:
    class Own(Net):
        def __init__(self) -> None:
            super().__init__()
            self.c = conv

        def forward(self, x, edge_index):
            return self.l(self.c(x, edge_index).relu())

    return Own()


def _plain() -> nn.Module:
    return with_convolution(GCNConv(WIDE, WIDE))


@model_case
def hook_on_the_model() -> nn.Module:
    model = _plain()
    model.register_forward_hook(lambda module, args, output: output * 2)
    return model


class Doubling(Net):
    """Computes outside of its forward, too."""

    def forward(self, x, edge_index):
        return self.l(self.c(x, edge_index))

    def __call__(self, x, edge_index):
        return super().__call__(x * 2, edge_index)


class Passing(Doubling):
    """Has a ``__call__`` for its types alone."""

    def __call__(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return nn.Module.__call__(self, x, edge_index)


@model_case
def call_of_its_own() -> nn.Module:
    return Doubling()


NOT_FOLLOWED.add("call_of_its_own")


@model_case
def call_of_its_own_with_a_hook() -> nn.Module:
    model = Passing()
    model.register_forward_hook(lambda module, args, output: output * 2)
    return model


@model_case
def call_that_passes_on() -> nn.Module:
    return Passing()


@model_case
def hook_before_the_model() -> nn.Module:
    model = _plain()
    model.register_forward_pre_hook(lambda module, args: (args[0] * 2, *args[1:]))
    return model


@model_case
def hook_with_names_before_the_model() -> nn.Module:
    model = _plain()
    model.register_forward_pre_hook(lambda module, args, kwargs: ((args[0] + 1, *args[1:]), kwargs), with_kwargs=True)
    return model


@model_case
def hook_on_a_convolution() -> nn.Module:
    model: Any = _plain()
    model.c.register_forward_hook(lambda module, args, output: output + 1)
    return model


@model_case
def hook_on_messages() -> nn.Module:
    model: Any = with_convolution(SAGEConv(WIDE, WIDE))
    model.c.register_message_forward_hook(lambda module, args, output: output * 3)
    return model


@model_case
def hook_on_a_child() -> nn.Module:
    class Parent(Net):
        def __init__(self) -> None:
            super().__init__()
            self.c = Child()

        def forward(self, x, edge_index):
            return self.l(self.c(x, edge_index))

    model = Parent()
    model.c.register_forward_hook(lambda module, args, output: output * 0.5)
    return model


@model_case
def hook_on_a_network_within() -> nn.Module:
    network = nn.Sequential(nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE))
    network.register_forward_hook(lambda module, args, output: output * 2)
    return with_convolution(GINConv(network))


@model_case
def forward_replaced_on_the_object() -> nn.Module:
    model: Any = _plain()
    old = model.forward
    model.forward = lambda x, edge_index: old(x, edge_index) * 2
    return model


NOT_FOLLOWED.add("forward_replaced_on_the_object")


@model_case
def child_forward_replaced_on_the_object() -> nn.Module:
    model: Any = _plain()
    old = model.c.forward
    model.c.forward = lambda x, edge_index: old(x, edge_index) * 2
    return model


# What follows a model line by line


@case()
def residual(self: Any, x, edge_index):
    return self.l(self.c(x, edge_index).relu() + x)


@case()
def scaled_and_shifted(self: Any, x, edge_index):
    return self.l(torch.tanh(self.c(x, edge_index)) * 0.5 + 0.1)


@case()
def the_same_layer_twice(self: Any, x, edge_index):
    return self.l(self.c(self.c(x, edge_index).relu(), edge_index))


@case()
def loop_of_layers(self: Any, x, edge_index):
    hs = []
    for _ in range(3):
        x = self.c(x, edge_index).relu()
        hs.append(x)
    return self.l(sum(hs))


@case()
def reversed_edges(self: Any, x, edge_index):
    return self.l(self.c(x, edge_index) + self.c(x, edge_index.flip(0)))


@case()
def rows_picked(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    return self.l(h[edge_index[0]] * h[edge_index[1]])


@case()
def softmax_of_rows(self: Any, x, edge_index):
    return F.log_softmax(self.l(F.normalize(self.c(x, edge_index))), -1)


@case()
def shape_read(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    return self.l(h.view(x.size(0), -1)) / x.shape[1]


@case()
def early_return(self: Any, x, edge_index):
    h = self.l(self.c(x, edge_index))
    if self.training:
        return h
    return h.sigmoid()


@case()
def parameter_used(self: Any, x, edge_index):
    return self.l(self.c(x, edge_index)) + self.l.bias


@case()
def tuple_unpacked(self: Any, x, edge_index):
    source, target = edge_index[0], edge_index[1]
    return self.l(self.c(x, torch.stack([target, source])))


@case()
def sparse_question(self: Any, x, edge_index):
    if x.is_sparse or x.layout == torch.sparse_csr:
        x = x.to_dense()
    return self.l(self.c(x, edge_index))


@case()
def swallowed_error(self: Any, x, edge_index):
    try:
        scale = 2.0 if x.sum() > -1e9 else 1.0
    except Exception:
        scale = 1.0
    return self.l(self.c(x * scale, edge_index))


NOT_FOLLOWED.add("swallowed_error")


@case(followed=False)
def branch_on_values(self: Any, x, edge_index):
    return self.l(self.c(x if x.mean() > 0 else -x, edge_index))


@case(followed=False)
def branch_on_shape(self: Any, x, edge_index):
    return self.l(self.c(x if x.size(0) > 50 else -x, edge_index))


@case(followed=False)
def exact_type(self: Any, x, edge_index):
    if type(x) is Tensor:
        x = x * 3
    return self.l(self.c(x, edge_index))


@case(followed=False)
def attribute_that_proxies_have(self: Any, x, edge_index):
    if hasattr(edge_index, "no_such_attribute"):
        x = x * 3
    return self.l(self.c(x, edge_index))


@case(followed=False)
def outer_list(self: Any, x, edge_index):
    return self.l(self.c(x * COUNTED[0], edge_index))


COUNTED = [1.0]
NOT_FOLLOWED.discard("outer_list")


@model_case
def attention_and_norm() -> nn.Module:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.n, self.b = GATConv(WIDE, 4, heads=2), BatchNorm(WIDE), SAGEConv(WIDE, 4)

        def forward(self, x, edge_index):
            return self.b(F.elu(self.n(self.a(x, edge_index))), edge_index)

    return Deep()


# More of the same kinds


@case()
def instance_of_parameter(self: Any, x, edge_index):
    return self.l(self.c(x * 3 if isinstance(x, nn.Parameter) else x, edge_index))


@case()
def device_asked_for(self: Any, x, edge_index):
    if x.is_cuda or x.device != self.l.weight.device:
        x = x * 2
    return self.l(self.c(x, edge_index))


@case()
def hidden_kept_on_the_model(self: Any, x, edge_index, edge_weight=None):
    self.hidden = self.c(x, edge_index, edge_weight)
    return self.l(self.hidden if edge_weight is None else self.hidden.relu())


@case()
def constant_kept_on_the_model(self: Any, x, edge_index, edge_weight=None):
    if not hasattr(self, "kept"):
        self.kept = torch.linspace(0, 1, WIDE)
    return self.l(self.c(x, edge_index, edge_weight) * self.kept)


@case()
def scattered_by_a_utility(self: Any, x, edge_index):
    around = scatter(x[edge_index[0]], edge_index[1], 0, dim_size=x.size(0), reduce="mean")
    return self.l(self.c(x, edge_index) + around + utils.scatter(x, edge_index[0][: x.size(0)], 0, x.size(0)))


@case()
def constant_added_to(self: Any, x, edge_index):
    total = torch.zeros(WIDE)
    total += self.c(x, edge_index).mean(0)
    return self.l(total.unsqueeze(0))


@case()
def constant_assigned_to(self: Any, x, edge_index):
    rows = torch.zeros(2, WIDE)
    rows[0] = self.c(x, edge_index).mean(0)
    rows[1] += x.mean(0)
    return self.l(rows)


@case()
def flattened_then_changed(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    h.flatten()[::3] = 0
    h.contiguous().abs_()
    return self.l(h)


@case()
def one_number(self: Any, x, edge_index):
    return self.l(self.c(x, edge_index)).sum()


@case()
def dropped_by_training_flag_of_a_layer(self: Any, x, edge_index):
    return self.l(F.dropout(self.c(x, edge_index), training=self.c.training))


class Counting(Net):
    """Counts its calls, which decides nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.log = 0, [0]

    def forward(self, x, edge_index):
        self.calls += 1
        self.log.append(self.calls)
        return self.l(self.c(x, edge_index))


CASES["calls_counted"] = Counting


@model_case
def mixed_in_behind_the_convolution() -> nn.Module:
    class Doubling(MessagePassing):
        def aggregate(self, inputs: Tensor, index: Tensor, ptr: Any = None, dim_size: Any = None) -> Tensor:
            return 2 * super().aggregate(inputs, index, ptr, dim_size)

    class MixedIn(GCNConv, Doubling):
        pass

    return with_convolution(MixedIn(WIDE, WIDE))


@model_case
def hook_on_an_aggregation() -> nn.Module:
    conv = SAGEConv(WIDE, WIDE)
    conv.aggr_module.register_forward_hook(lambda module, args, output: output * 2)
    return with_convolution(conv)


@model_case
def forward_of_an_aggregation_replaced() -> nn.Module:
    conv: Any = GCNConv(WIDE, WIDE)
    old = conv.aggr_module.forward
    conv.aggr_module.forward = lambda *args, **kwargs: old(*args, **kwargs) * 2
    return with_convolution(conv)


@model_case
def call_of_a_layer_overridden() -> nn.Module:
    class CalledOnTwice(nn.Linear):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x * 2) + 1

    model = _plain()
    model.l = CalledOnTwice(WIDE, 4)
    return model


@model_case
def call_overridden() -> nn.Module:
    class Called(Net):
        def __call__(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return super().__call__(x * 2, edge_index)

        def forward(self, x, edge_index):
            return self.l(self.c(x, edge_index))

    return Called()


NOT_FOLLOWED.add("call_overridden")


@model_case
def hook_that_looks_at_the_model() -> nn.Module:
    model = _plain()
    model.register_forward_hook(lambda module, args, output: output * (2 if isinstance(module, Net) else 1))
    model.register_forward_hook(lambda module, args, output: output + module.l.bias)
    return model


@model_case
def activations_in_place_on_views() -> nn.Module:
    class Activations(Net):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Mish(inplace=True), nn.Hardswish(inplace=True)

        def forward(self, x, edge_index):
            h = self.c(x, edge_index)
            part = h[:, :4]
            self.first(h)
            self.second(part)
            return self.l(h)

    return Activations()


@model_case
def batch_normalized_by_its_own_statistics() -> nn.Module:
    class Training(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(WIDE)

        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            self.norm.train()
            return self

        def forward(self, x, edge_index):
            return self.l(self.norm(self.c(x, edge_index)))

    return Training()


@model_case
def method_set_on_the_object() -> nn.Module:
    """PyG's Sequential does so."""

    def forward(self: Any, x, edge_index):
        return self.l(self.c(x * 2, edge_index))

    model: Any = _plain()
    model.forward = types.MethodType(forward, model)
    return model


def calls(model: nn.Module) -> list[list[dict[str, Tensor]]]:
    """The graphs' fields that a forward takes, with each optional one and without."""
    taken = list(model.forward.__code__.co_varnames[: model.forward.__code__.co_argcount])
    names = [name for name in taken if name in ("x", "edge_index", "edge_weight", "batch", "w")] or ["x", "edge_index"]
    optional = [name for name in names if name in ("edge_weight", "batch", "w")]
    found = []
    for chosen in range(2 ** len(optional)):
        left = {name for number, name in enumerate(optional) if chosen >> number & 1}
        found.append(
            [
                {name: one["edge_weight" if name == "w" else name] for name in names if name not in left}
                for one in GRAPHS
            ]
        )
    return found


def agree(found: Tensor, wanted: Tensor, exactly: bool) -> bool:
    """Say whether two results are the same: to float precision, or but for a few codes a step apart."""
    if found.shape != wanted.shape:
        return False
    close = torch.isclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()) + 1e-6)
    if exactly:
        return bool(close.all())
    apart = float((found - wanted).abs().max()) / max(float(wanted.abs().max()), 1e-6)
    return float(close.float().mean()) > 0.9 and apart < 0.1


def outcome(name: str, integer: bool) -> str:
    """Run a case: right, refused when converted, refused when called."""
    torch.manual_seed(0)
    model = CASES[name]().eval()
    kinds = calls(model)
    if integer:
        gnncompress.prepare(model, "qat-int8", config="gc-abs")
        gnncompress.calibrate(model, lambda: [call_of(model, call) for kind in kinds for call in kind])
        gnncompress.freeze(model)
    try:
        made = gnncompress.to_integer(model) if integer else gnncompress.to_compiled(model)
    except QuantizationError:
        return "refused"
    for kind in kinds:
        for call in kind:
            with torch.no_grad():
                wanted = call_of(model, call)
            try:
                found = call_of(made, call)
            except (ExecutionError, QuantizationError) as error:
                return "refused when called" if "\n" not in str(error) else "refused in more than a line"
            assert agree(found, wanted, not integer), f"{name}: wrong in silence, {found} for {wanted}"
    return "right"


def call_of(model: nn.Module, call: dict[str, Tensor]) -> Tensor:
    """Call a model on copies, the first of them by position."""
    (_, x), *rest = ((name, value.clone()) for name, value in call.items())
    result: Tensor = model(x, **dict(rest))
    return result


@pytest.mark.parametrize("integer", [False, True], ids=["compiled", "integer"])
@pytest.mark.parametrize("name", CASES)
def test_right_or_refused(name: str, integer: bool) -> None:
    allowed = ("right", "refused", "refused when called") if name in NOT_FOLLOWED else ("right",)
    assert outcome(name, integer) in allowed


def test_normalized_weights_are_right_in_floats_and_refused_by_name_in_codes() -> None:
    model: Any = _plain().eval()
    torch.nn.utils.parametrizations.weight_norm(model.l)
    (kind,) = (kind for kind in calls(model) if all(len(call) == 2 for call in kind))
    made = gnncompress.to_compiled(model)
    for call in kind:
        with torch.no_grad():
            assert agree(call_of(made, call), call_of(model, call), exactly=True)
    with pytest.raises(
        QuantizationError, match=r"^layer l \(ParametrizedLinear\): its weight is computed by WeightNorm"
    ):
        gnncompress.prepare(model, "qat-int8", config="gc-abs")


LATE: dict[str, Callable[..., Tensor]] = {}


def late(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Take a forward that goes another way only when first calls are over: it must be refused when converted."""
    LATE[forward.__name__] = forward
    return forward


@late
def counter_compared(self: Any, x, edge_index):
    self.n += 1
    return self.l(self.c(x, edge_index)) * (2 if self.n > 50 else 1)


@late
def flag_toggled(self: Any, x, edge_index):
    self.on = not self.on
    return self.l(self.c(x, edge_index)) * (2 if self.on else 1)


@late
def number_multiplied(self: Any, x, edge_index):
    self.n = self.n * 1.5
    return self.l(self.c(x, edge_index)) * self.n


@late
def buffer_counted(self: Any, x, edge_index):
    self.buffer += 1
    return self.l(self.c(x, edge_index)) * self.buffer


@late
def buffer_averaged(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    self.buffer.mul_(0.9).add_(h.mean())
    return self.l(h + self.buffer)


@late
def hidden_of_the_call_before(self: Any, x, edge_index):
    if self.before is None:
        self.before = x.mean(0)
    return self.l(self.c(x, edge_index) + self.before)


@late
def own_weights_halved(self: Any, x, edge_index):
    self.l.weight.data.mul_(0.5)
    return self.l(self.c(x, edge_index))


@late
def error_of_a_value_swallowed(self: Any, x, edge_index):
    try:
        large = bool(x.abs().max() > 1e6)
    except Exception:
        large = False
    return self.l(self.c(x * 2 if large else x, edge_index))


@late
def error_of_a_length_swallowed(self: Any, x, edge_index):
    with contextlib.suppress(Exception):
        if len(x) > 1000:
            x = x * 2
    return self.l(self.c(x, edge_index))


@late
def error_of_a_number_swallowed(self: Any, x, edge_index):
    with contextlib.suppress(Exception):
        x = x * 2 if float(x.max()) > 1e6 else x
    return self.l(self.c(x, edge_index))


@late
def data_replaced(self: Any, x, edge_index):
    h = self.c(x, edge_index)
    h.data = h * 2
    return self.l(h)


@pytest.mark.parametrize("name", LATE)
def test_what_no_first_call_shows_is_refused_when_converted(name: str) -> None:
    class Stateful(Net):
        def __init__(self) -> None:
            super().__init__()
            self.n, self.on, self.before = 1, False, None
            self.register_buffer("buffer", torch.ones(()))

    model = type(name, (Stateful,), {"forward": LATE[name]})().eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(QuantizationError, match="cannot be followed"):
        gnncompress.to_compiled(model, verify=False)
    assert model.n == 1
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_there_are_sixty_forwards() -> None:
    assert len(CASES) >= 60
