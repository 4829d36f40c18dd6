"""First calls are compared with the model that a program stands for; programs that differ give no result."""

from __future__ import annotations

import copy
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook
from torch_geometric.data import Data
from torch_geometric.nn import APPNP, GATConv, GCNConv, GINConv, SAGEConv, global_mean_pool

import gnncompress
from gnncompress.errors import ExecutionError
from gnncompress.quantization.lowering import verifying
from gnncompress.quantization.lowering.verifying import CALLS, Verifier
from gnncompress.runtime.aggregation import Aggregate, Weighted
from gnncompress.runtime.model import ProgramModel
from gnncompress.runtime.operations import Linear
from gnncompress.runtime.rounding import SHIFT

WIDE = 8


class Net(nn.Module):
    """Convolutions of each kind, a linear layer, and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.gcn, self.gat = GCNConv(WIDE, WIDE), GATConv(WIDE, 4, heads=2)
        self.gin = GINConv(nn.Sequential(nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE)))
        self.sage, self.lin = SAGEConv(WIDE, WIDE), nn.Linear(WIDE, 3)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        x = self.gat(self.gcn(x, edge_index).relu(), edge_index)
        x = self.sage(self.gin(x, edge_index), edge_index).tanh()
        return self.lin(x if batch is None else global_mean_pool(x, batch))


def graph(nodes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(nodes, WIDE, generator=generator), torch.randint(nodes, (2, 4 * nodes), generator=generator)


def quantized(scheme: str = "qat-int8") -> nn.Module:
    torch.manual_seed(1)
    model = gnncompress.prepare(Net().eval(), scheme, config="gc-abs")
    gnncompress.calibrate(model, lambda: model(*graph(50)))
    return gnncompress.freeze(model)


class Altered:
    """A verifier that is given another program than the one that ran."""

    def __init__(self, verifier: Verifier, change: Any) -> None:
        self.verifier, self.change = verifier, change

    def is_due(self, given: Any) -> bool:
        return self.verifier.is_due(given)

    def verify(self, program: Any, given: Any, state: Tensor) -> None:
        self.verifier.verify(self.change(program), given, state)


def altered(model: ProgramModel, change: Any) -> ProgramModel:
    model.verifier = Altered(model.verifier, change)
    return model


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the calls that were compared."""
    found: list[int] = []
    compare = verifying._compare

    def counted(model: Any, program: Any, given: Any, state: Any) -> Any:
        found.append(len(given["x"]))
        return compare(model, program, given, state)

    monkeypatch.setattr(verifying, "_compare", counted)
    return found


@pytest.mark.parametrize("kind", [Linear, Aggregate, Weighted])
def test_an_operation_that_is_two_steps_off_is_named_with_both_values(kind: type) -> None:
    def change(program: Any) -> Any:
        at = next(n for n, one in enumerate(program.operations) if isinstance(one, kind))
        one = program.operations[at]
        if isinstance(one, Linear):
            numbers = one.numbers.copy()
            numbers[SHIFT] += 5
            wrong: Any = replace(one, numbers=numbers)
        else:
            wrong = replace(one, shift=one.shift + 5)
        self.out = one.out
        return replace(program, operations=(*program.operations[:at], wrong, *program.operations[at + 1 :]))

    self = type("Found", (), {})()
    model = altered(gnncompress.to_integer(quantized()), change)
    with pytest.raises(ExecutionError) as raised:
        model(*graph(40))
    assert str(raised.value).startswith(f"{self.out}: {kind.__name__} gives code ")
    codes = re.search(r"gives code (-?\d+) at \[\d+, \d+\], the model (-?\d+);", str(raised.value))
    assert codes is not None
    assert abs(int(codes[1]) - int(codes[2])) > 1


@pytest.mark.parametrize("by", [1e-4, -3e-5])
def test_floats_that_are_off_by_more_than_rounding_are_named(by: float) -> None:
    torch.manual_seed(0)
    compiled = gnncompress.to_compiled(Net().eval())
    compiled(*graph(40))  # right as it is

    def change(program: Any) -> Any:
        at = next(n for n, one in enumerate(program.operations) if type(one).__name__ == "FloatLinear")
        wrong = replace(program.operations[at], bias=program.operations[at].bias + by)
        return replace(program, operations=(*program.operations[:at], wrong, *program.operations[at + 1 :]))

    with pytest.raises(ExecutionError, match=r"gives -?\d.* at \[\d+, \d+\], the model -?\d.*run the model itself"):
        altered(compiled, change)(*graph(41))


def test_without_verifying_nothing_is_compared(compared: list[int]) -> None:
    assert gnncompress.to_integer(quantized(), verify=False)(*graph(40)).shape == (40, 3)
    assert gnncompress.to_compiled(Net().eval(), verify=False)(*graph(40)).shape == (40, 3)
    assert compared == []


def test_three_sizes_of_each_kind_of_call_are_compared(compared: list[int]) -> None:
    integer = gnncompress.to_integer(quantized())
    for nodes in (40, 40, 50, 40, 60, 70, 80):
        integer(*graph(nodes))
    assert compared == [40, 50, 60] == compared[:CALLS]
    x, edges = graph(45)
    integer(x, edges, torch.arange(45) // 9)  # a batch is given now
    integer(x, edges)  # of this kind enough were compared
    assert compared[3:] == [45]


def test_calls_that_tell_nothing_do_not_count(compared: list[int]) -> None:
    integer = gnncompress.to_integer(quantized())
    x, _ = graph(40)
    integer(x, torch.zeros(2, 0, dtype=torch.long))
    integer(x[:1], torch.zeros(2, 3, dtype=torch.long))
    integer(torch.zeros(30, WIDE), torch.arange(30).repeat(2, 1))  # one answer for all
    for nodes in (41, 42, 43, 44):
        integer(*graph(nodes))
    assert compared == [40, 1, 30, 41, 42, 43]


def test_no_end_of_calls_that_tell_nothing(compared: list[int]) -> None:
    integer = gnncompress.to_integer(quantized())
    for nodes in range(20, 50):
        integer(torch.zeros(nodes, WIDE), torch.arange(nodes).repeat(2, 1))
    assert len(compared) == verifying.MOST_CALLS


def test_calls_without_edges_do_not_use_up_those_that_are_compared(compared: list[int]) -> None:
    integer = gnncompress.to_integer(quantized())
    for nodes in range(2, 20):
        integer(torch.randn(nodes, WIDE), torch.zeros(2, 0, dtype=torch.long))
    assert len(compared) == verifying.MOST_CALLS
    for nodes in (40, 41, 42, 43):
        integer(*graph(nodes))
    assert compared[verifying.MOST_CALLS :] == [40, 41, 42]


class Scaled(Net):
    """Takes a number beside its features, and returns one for all."""

    def forward(self, factor: Tensor, x: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x * factor, edge_index).sum()


class Signs(Net):
    """Returns bools."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, edge_index) > 0


class Choices(Net):
    """Returns whole numbers."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, edge_index).argmax(1)


def test_numbers_without_dimensions_are_compared(compared: list[int]) -> None:
    torch.manual_seed(0)
    model, factor = Scaled().eval(), torch.tensor(0.5)
    prepared = gnncompress.prepare(copy.deepcopy(model), "ptq-int8")
    gnncompress.calibrate(prepared, lambda: prepared(factor, *graph(40)))
    compiled, integer = gnncompress.to_compiled(model), gnncompress.to_integer(prepared)
    for nodes in (40, 41, 42, 43):
        given = factor, *graph(nodes)
        torch.testing.assert_close(compiled(*given), model(*given).detach())
        assert integer(*given).shape == ()
    assert compared == [40, 40, 41, 41, 42, 42]


@pytest.mark.parametrize("kind", [Signs, Choices])
def test_results_that_are_no_floats_are_compared(kind: type[Net], compared: list[int]) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    compiled = gnncompress.to_compiled(model)
    assert torch.equal(compiled(*graph(40)), model(*graph(40)))
    assert compared == [40]


def test_a_global_hook_makes_another_kind_of_call() -> None:
    integer = gnncompress.to_integer(quantized())
    for nodes in (40, 50, 60):
        integer(*graph(nodes))
    handle = register_module_forward_hook(
        lambda module, args, output: output * 1.5 if isinstance(module, GCNConv) else None
    )
    try:
        with pytest.raises(ExecutionError, match="the program is not what the model computes"):
            integer(*graph(40))
    finally:
        handle.remove()
    integer(*graph(40))


def test_random_numbers_and_inputs_are_left_as_a_plain_call_leaves_them() -> None:
    class Noisy(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            x += 1
            return self.lin(F.dropout(self.gcn(x, edge_index), 0.5, training=True))

    torch.manual_seed(0)
    model = Noisy().eval()
    x, edges = graph(40)
    found = []
    for verify in (False, True):
        compiled, own = gnncompress.to_compiled(model, verify=verify), x.clone()
        torch.manual_seed(3)
        found.append((compiled(own, edges), own, torch.rand(2)))
    for plain, verified in zip(*found, strict=True):
        assert torch.equal(plain, verified)
    assert torch.equal(found[0][1], x + 1)


def test_the_model_that_is_converted_is_not_called_and_not_changed() -> None:
    model = quantized()
    before = copy.deepcopy(model.state_dict())
    called: list[int] = []
    integer = gnncompress.to_integer(model)
    model.get_submodule("gcn").register_forward_hook(lambda *_: called.append(1))
    integer(*graph(40))
    assert called == []
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_input_that_the_model_refuses_is_refused() -> None:
    class Strict(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.lin(self.gcn(x, edge_index) + torch.cat([x[:20], x[:20]]))

    torch.manual_seed(0)
    compiled = gnncompress.to_compiled(Strict().eval())
    assert compiled(*graph(40)).shape == (40, 3)
    with pytest.raises((ExecutionError, RuntimeError)):
        compiled(*graph(41))


def test_a_layer_that_caches_its_edges_may_be_given_others() -> None:
    torch.manual_seed(0)
    conv = GCNConv(WIDE, WIDE, cached=True)

    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index)

    compiled = gnncompress.to_compiled(Cached().eval())
    plain = GCNConv(WIDE, WIDE)
    plain.load_state_dict(conv.state_dict())
    for nodes in (30, 40):
        torch.testing.assert_close(compiled(*graph(nodes)), plain(*graph(nodes)).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", ["qat-int8", "dq-int4", "qat-int2"])
def test_many_graphs_and_bits_are_never_refused(scheme: str) -> None:
    model = quantized(scheme)
    for seed in range(8):
        integer = gnncompress.to_integer(model)
        for nodes in (11, 90, 300):
            integer(*graph(nodes, seed))


def test_values_between_two_codes_may_fall_either_way() -> None:
    """Means of two codes lie between two codes as often as not."""

    class Means(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = SAGEConv(4, 4)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index)

    made = gnncompress.prepare(Means().eval(), "qat-int8", config="gc-abs")
    x = torch.arange(-128.0, 128.0).repeat_interleave(4).reshape(-1, 4)
    nodes = torch.arange(256)
    edges = torch.stack([torch.cat([nodes, (nodes + 1) % 256]), nodes.repeat(2)])
    gnncompress.calibrate(made, lambda: made(x, edges))
    gnncompress.to_integer(gnncompress.freeze(made))(x, edges)


def test_a_child_that_cannot_be_followed_is_left_to_torch() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(WIDE, WIDE)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            h = self.conv(x, edge_index)
            return h if float(h.mean()) > 0 else -h

    class Parent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child, self.last = Branching(), SAGEConv(WIDE, 3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.last(self.child(x, edge_index), edge_index)

    torch.manual_seed(0)
    model = Parent().eval()
    compiled = gnncompress.to_compiled(model)
    assert "child" in dict(compiled.program.floats)
    for nodes in (30, 40):
        x, edges = graph(nodes)
        for given in (x, -x):
            torch.testing.assert_close(compiled(given, edges), model(given, edges).detach(), rtol=1e-4, atol=1e-5)


def test_a_model_of_whole_data_objects() -> None:
    class OfData(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lin = GCNConv(WIDE, WIDE), nn.Linear(WIDE, 3)

        def forward(self, data: Data) -> Tensor:
            return self.lin(self.conv(data.x, data.edge_index).relu())

    torch.manual_seed(0)
    model = OfData().eval()
    compiled = gnncompress.to_compiled(model)
    for nodes in (30, 40):
        x, edges = graph(nodes)
        data = Data(x=x, edge_index=edges)
        torch.testing.assert_close(compiled(data), model(data).detach(), rtol=1e-4, atol=1e-5)
        assert torch.equal(data.x, x)


def test_autocast_does_not_change_what_is_compared() -> None:
    integer = gnncompress.to_integer(quantized())
    with torch.autocast("cpu"):
        integer(*graph(40))


def test_calls_at_once_are_compared_one_after_the_other() -> None:
    integer = gnncompress.to_integer(quantized())
    plain = gnncompress.to_integer(quantized(), verify=False)
    sizes = [20 + 10 * (number % 6) for number in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda nodes: integer(*graph(nodes)), sizes))
    for nodes, result in zip(sizes, found, strict=True):
        assert torch.equal(result, plain(*graph(nodes)))


class OfData(nn.Module):
    """Takes what a graph holds, and looks at what it lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lin = GCNConv(WIDE, WIDE), nn.Linear(WIDE, 3)

    def forward(self, data: Any) -> Tensor:
        h = self.conv(data.x, data.edge_index)
        return self.lin(h if data.edge_weight is None else h * 2)


class OfDict(OfData):
    """The same of a dictionary."""

    def forward(self, data: Any) -> Tensor:
        h = self.conv(data["x"], data["edge_index"])
        return self.lin(h if data["edge_weight"] is None else h * 2)


@pytest.mark.parametrize(("made", "kind"), [(OfDict, dict), (OfData, Data)])
def test_what_an_argument_holds_makes_a_kind_of_call(made: Any, kind: Any) -> None:
    torch.manual_seed(0)
    model = made().eval()
    compiled = gnncompress.to_compiled(model)
    for nodes in (30, 40, 50, 60):
        x, edges = graph(nodes)
        given = kind(x=x, edge_index=edges, edge_weight=torch.ones(1))
        torch.testing.assert_close(compiled(given), model(given).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ExecutionError, match="the program is not what the model computes"):
        compiled(kind(x=x, edge_index=edges, edge_weight=None))


def test_sizes_of_what_an_argument_holds_are_told_apart(compared: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    class Pair(OfData):
        def forward(self, x: Any) -> Tensor:
            return self.lin(self.conv(x["x"], x["edge_index"]))

    compiled = gnncompress.to_compiled(Pair().eval())
    for nodes in (30, 30, 40, 50, 60):
        x, edges = graph(nodes)
        compiled({"x": x, "edge_index": edges})
    assert len(compared) == CALLS


@pytest.mark.parametrize("inputs", [64, 1433])
def test_small_tensors_that_are_exact_by_luck_are_not_refused(inputs: int) -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(inputs, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.lin(x)

    for seed in range(12):
        torch.manual_seed(seed)
        compiled = gnncompress.to_compiled(Single().eval())
        for rows in (2, 3, 7):
            compiled(torch.randn(rows, inputs))


def test_an_input_that_is_changed_in_place_hides_no_error() -> None:
    class Changing(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            x.add_(1)
            return self.lin(self.gcn(x, edge_index)) * 2

    torch.manual_seed(0)
    compiled = gnncompress.to_compiled(Changing().eval())
    compiled(*graph(40))

    def change(program: Any) -> Any:
        *rest, last = program.operations
        function = last.function
        return replace(program, operations=(*rest, replace(last, function=lambda *given: function(*given) + 1e-2)))

    with pytest.raises(ExecutionError, match=r"^result"):
        altered(compiled, change)(*graph(41))


def test_layers_within_layers_are_compared_too() -> None:
    class Inner(Net):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.gin(x, edge_index)

    torch.manual_seed(0)
    compiled = gnncompress.to_compiled(Inner().eval())

    def change(program: Any) -> Any:
        at = next(n for n, one in enumerate(program.operations) if type(one).__name__ == "FloatLinear")
        wrong = replace(program.operations[at], bias=program.operations[at].bias + 1e-3)
        return replace(program, operations=(*program.operations[:at], wrong, *program.operations[at + 1 :]))

    with pytest.raises(ExecutionError, match=r"^gin\.nn\.0: FloatLinear"):
        altered(compiled, change)(*graph(41))


def test_a_layer_may_return_what_it_is_given() -> None:
    class Returning(Net):
        def __init__(self) -> None:
            super().__init__()
            self.none = APPNP(0, 0.1)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            h = self.gcn(x, edge_index)
            self.none(h, edge_index).mul_(2)
            return self.lin(h)

    torch.manual_seed(0)
    model = Returning().eval()
    found = gnncompress.to_compiled(model)(*graph(40))
    torch.testing.assert_close(found, model(*graph(40)).detach(), rtol=1e-4, atol=1e-5)


def test_a_copy_has_the_same_hooks() -> None:
    model = quantized()
    model.register_forward_hook(lambda module, args, output: output * 2)
    integer = gnncompress.to_integer(model)
    assert torch.equal(copy.deepcopy(integer)(*graph(40)), integer(*graph(40)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_floats_run_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Net().eval()
    x, edges = graph(40)
    x = x.to(dtype)
    found = gnncompress.to_compiled(model.to(dtype))(x, edges)
    wanted = model.float()(x.float(), edges)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-4, atol=1e-5)
