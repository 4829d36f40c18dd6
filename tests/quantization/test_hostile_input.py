"""Whole models, compiled and of integers, on tensors of any shape, type and layout: eager's numbers, or one line."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import GATConv, GCNConv, GINConv, SAGEConv, global_add_pool

import gnncompress
from gnncompress.errors import ExecutionError, GnncompressError
from gnncompress.models.spline import SplineConv
from gnncompress.runtime import executor

WIDTH, CLASSES, NODES, EDGES = 6, 4, 90, 200
Given = tuple[Any, ...]
thorough = settings(max_examples=40, deadline=None)


class Net(nn.Module):
    """Two layers; of a GCN with weights, of a SplineCNN with coordinates, of a GIN with graphs that are added up."""

    def __init__(self, name: str) -> None:
        super().__init__()
        make: dict[str, Callable[[int, int], nn.Module]] = {
            "gcn": GCNConv,
            "gin": lambda width, out: GINConv(nn.Linear(width, out)),
            "sage": SAGEConv,
            "gat": GATConv,
            "spline": lambda width, out: SplineConv(width, out, 1, 2),
        }
        self.name, self.first, self.second = name, make[name](WIDTH, 16), make[name](16, CLASSES)


class Weighted(Net):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.second(F.relu(self.first(x, edge_index, edge_weight)), edge_index, edge_weight)


class Plain(Net):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x, edge_index)), edge_index)


class Pooled(Net):
    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return global_add_pool(self.second(F.relu(self.first(x, edge_index)), edge_index), batch)


class OnGrid(Net):
    def forward(self, x: Tensor, edge_index: Tensor, pseudo: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x, edge_index, pseudo)), edge_index, pseudo)


NETS: dict[str, type[Net]] = {"gcn": Weighted, "gin": Pooled, "sage": Plain, "gat": Plain, "spline": OnGrid}


def valid(name: str) -> Given:
    """What the model is meant for: numbers that are the same in all types."""
    torch.manual_seed(5)
    x, edges = torch.randint(0, 2, (NODES, WIDTH)).float(), torch.randint(0, NODES, (2, EDGES))
    third = {
        "gcn": torch.randint(1, 4, (EDGES,)).float(),
        "gin": torch.arange(NODES) // 9,
        "spline": torch.randint(0, 2, (EDGES, 1)).float(),
    }
    return (x, edges, third[name]) if name in third else (x, edges)


@lru_cache
def models(name: str) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """Eager in floats, compiled, simulated, integer."""
    torch.manual_seed(2)
    eager = NETS[name](name).eval()
    model = gnncompress.prepare(NETS[name](name).eval(), "ptq-int8")
    model.load_state_dict(eager.state_dict(), strict=False)
    gnncompress.calibrate(model, lambda: model(*valid(name)))
    return eager, gnncompress.to_compiled(eager), model.eval(), gnncompress.to_integer(model)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Blocks of a few rows on some threads, or all rows at once on one."""
    before, size = torch.get_num_threads(), executor._BLOCK_BYTES
    torch.set_num_threads(number)
    executor._BLOCK_BYTES = size if number == 1 else 1
    try:
        yield
    finally:
        executor._workers.cache_clear()
        executor._BLOCK_BYTES = size
        torch.set_num_threads(before)


def plain(value: Any) -> Any:
    """The dense tensor of the usual type with the same numbers."""
    if not isinstance(value, Tensor) or value.is_complex() or value.is_meta or value.is_nested:
        return None
    return value.to_dense()


def wanted(model: nn.Module, given: Given, name: str) -> Tensor | None:
    """What eager makes of the same numbers in the usual types and shapes, nothing if that is not defined."""
    try:
        x, edges, *rest = (one if one is None else plain(one) for one in given)
        if edges.is_floating_point() or edges.dtype is torch.bool or x.dim() != 2:
            return None
        if name == "gcn" and rest[0] is not None and rest[0].dim() and rest[0].numel() == len(rest[0]):
            rest = [rest[0].flatten()]  # weights of one column
        rest = [one if one is None else one.long() if name == "gin" else one.float() for one in rest]
        with torch.no_grad():
            return model(x.float(), edges.long(), *rest)
    except Exception:  # whatever torch and PyG say of it
        return None


def run(program: nn.Module, given: Given) -> Tensor | str:
    """What a program returns, or the line that says why not; what torch says where a program has it compute is its own.

    These are pools, functions of a user's, and layers in floats.
    """
    try:
        return program(*given)
    except GnncompressError as error:
        return str(error)
    except (RuntimeError, TypeError, AttributeError, ValueError, IndexError) as error:
        frames = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
        if "call" not in frames:  # what ``Call`` calls
            raise
        return "torch's"


def insist(name: str, given: Given, what: str, may_refuse: bool = True) -> None:
    """Insist on eager's numbers, the simulation's to a step, or one line that says what is wrong."""
    eager, compiled, simulated, integer = models(name)
    for of, program, close in ((eager, compiled, 1e-4), (simulated, integer, 0.02)):
        expected = wanted(of, given, name)
        for _ in range(2):  # the second call is bound to what the first one made
            found = run(program, given)
            if isinstance(found, str):
                assert "\n" not in found
                assert may_refuse or expected is None, f"{what}: {found}"
                continue
            assert expected is not None, f"{what} gave {found.flatten()[:5]}"
            assert found.shape == expected.shape, what
            error = (found.double() - expected.double()).abs().max() if found.numel() else torch.zeros(())
            size = expected.abs().max() if expected.numel() else 1
            assert error <= close * size + 1e-4, f"{what}: {float(error)} of {float(size)}"


def as_it_is(x: Tensor) -> Tensor:
    return x


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "as it is": as_it_is,
    "short": lambda x: x[:-1],
    "long": lambda x: torch.cat([x, x[-1:]]),
    "one column less": lambda x: x[..., :-1],
    "one column more": lambda x: torch.cat([x, x[..., -1:]], -1),
    "twice the columns": lambda x: torch.cat([x, x], -1),
    "a column of its own": lambda x: x.unsqueeze(-1),
    "two columns": lambda x: torch.stack([x, x], -1),
    "a row of its own": lambda x: x.unsqueeze(0),
    "turned": lambda x: x.t() if x.dim() == 2 else x.flip(0),
    "flat": lambda x: x.flatten(),
    "one number": lambda x: x.flatten()[0],
    "empty": lambda x: x[:0],
    "no columns": lambda x: x[..., :0],
    "a step apart": lambda x: x.repeat_interleave(2, 0)[::2],
    "by column": lambda x: x.t().contiguous().t() if x.dim() == 2 else x,
    "spread": lambda x: x[:1].expand(x.shape),
    "negated": lambda x: torch._neg_view(-x) if x.is_floating_point() else x,
    "far": lambda x: x * 1000,
    "below": lambda x: -x - 1,
    "coo": lambda x: x.to_sparse(),
    "csr": lambda x: x.to_sparse_csr() if x.dim() == 2 else x.to_sparse(),
    "csc": lambda x: x.to_sparse_csc() if x.dim() == 2 else x.to_sparse(),
    "nothing": lambda x: None,
    "a list": lambda x: x.tolist(),
    "a number": lambda x: 3,
    "on meta": lambda x: x.to("meta"),
    "nested": lambda x: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "parameter": lambda x: nn.Parameter(x) if x.is_floating_point() else x,
}
TYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64, torch.complex64, torch.uint16, torch.uint32,
]  # fmt: skip
HARMLESS = {"as it is", "a step apart", "by column", "negated", "parameter"}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", NETS)
def test_each_input_in_each_shape_and_layout(name: str, number: int) -> None:
    usual = valid(name)
    with threads(number):
        for at in range(len(usual)):
            for how, change in CHANGES.items():
                if number > 1 and how not in HARMLESS and how not in ("short", "two columns", "spread", "csr"):
                    continue  # what is refused is refused before there are threads
                insist(name, (*usual[:at], change(usual[at]), *usual[at + 1 :]), f"{at} {how}", how not in HARMLESS)


@pytest.mark.parametrize("name", NETS)
def test_each_input_in_each_type(name: str) -> None:
    usual = valid(name)
    for at, one in enumerate(usual):
        for kind in TYPES:
            insist(name, (*usual[:at], one.to(kind), *usual[at + 1 :]), f"{at} {kind}", kind is not one.dtype)


@thorough
@given(data=st.data(), name=st.sampled_from(sorted(NETS)), number=st.sampled_from([1, 2]))
def test_all_inputs_at_once(data: st.DataObject, name: str, number: int) -> None:
    changes = st.lists(st.sampled_from(sorted(CHANGES)), max_size=2)
    changed = []
    for one in valid(name):
        value: Any = one
        for how in data.draw(changes):
            try:
                value = CHANGES[how](value)
            except Exception:  # torch has no such tensor
                break
        if isinstance(value, Tensor) and not value.is_nested and value.layout is torch.strided:
            value = value.to(data.draw(st.sampled_from([value.dtype, *TYPES])))
        changed.append(value)
    with threads(number):
        insist(name, tuple(changed), str(changed)[:500])


def csr(x: Tensor, **changed: Callable[[Tensor], Tensor]) -> Tensor:
    made = x.to_sparse_csr()
    parts = {"crow": made.crow_indices(), "col": made.col_indices(), "values": made.values()}
    parts |= {name: change(parts[name].clone()) for name, change in changed.items() if name in parts}
    shape = changed["shape"](torch.tensor(x.shape)).tolist() if "shape" in changed else x.shape
    return torch.sparse_csr_tensor(*parts.values(), tuple(shape), check_invariants=False)


def set_last(to: int) -> Callable[[Tensor], Tensor]:
    def change(part: Tensor) -> Tensor:
        part[-1] = to
        return part

    return change


DAMAGES: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "fewer values than columns": {"values": lambda part: part[:-9]},
    "no values": {"values": lambda part: part[:0]},
    "fewer columns than values": {"col": lambda part: part[:-9]},
    "more rows than pointers": {"shape": lambda shape: shape + torch.tensor([5000, 0])},
    "fewer rows than pointers": {"shape": lambda shape: shape - torch.tensor([1, 0])},
    "no pointers": {"crow": lambda part: part[:0]},
    "a column too far": {"col": set_last(WIDTH)},
    "a column far away": {"col": set_last(10**9)},
    "a column below": {"col": set_last(-1)},
    "rows that end too far": {"crow": set_last(10**6)},
    "rows that fall": {"crow": lambda part: torch.cat([part[:9], part[3:4], part[10:]])},
    "values with rows": {"values": lambda part: part.unsqueeze(1).repeat(1, 2)},
}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["gcn", "sage", "gat", "spline"])
def test_damaged_csr_features_are_refused(name: str, how: str, number: int) -> None:
    x, *rest = valid(name)
    _, compiled, _, integer = models(name)
    damaged = csr(x, **DAMAGES[how])
    with threads(number):
        for program in (compiled, integer):
            with pytest.raises(ExecutionError) as caught:
                program(damaged, *rest)
            assert "\n" not in str(caught.value)


def test_damage_behind_the_first_block_is_seen_before_threads_start() -> None:
    rows, width = 300_000, 8
    starts = torch.arange(rows + 1)
    columns, values = torch.arange(rows) % width, torch.ones(rows)
    columns[rows // 2 :] = 10**9
    x = torch.sparse_csr_tensor(starts, columns, values, (rows, width), check_invariants=False)
    compiled = gnncompress.to_compiled(nn.Sequential(nn.Linear(width, 16)).eval())
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ExecutionError, match=r"^0: the sparse features are damaged: a row or a column is outside"):
            compiled(x)
    finally:
        executor._workers.cache_clear()
        torch.set_num_threads(before)


def test_csr_features_that_are_damaged_later_behind_their_back_are_refused() -> None:
    x, *rest = valid("gcn")
    good = x.to_sparse_csr()
    columns = good.col_indices().clone()
    _, compiled, _, integer = models("gcn")
    for program in (compiled, integer):
        shared = torch.sparse_csr_tensor(good.crow_indices(), columns.clone(), good.values(), x.shape)
        own = shared.col_indices()
        with torch.inference_mode():
            for _ in range(3):
                program(shared, *rest)
        version = shared._version
        own.numpy()[-1] = 10**9
        assert shared._version == version
        with pytest.raises(ExecutionError, match="the sparse features are damaged"):
            program(shared, *rest)


_change: dict[str, Callable[[Tensor], Any]] = {"now": as_it_is}


def changed(h: Tensor) -> Any:
    """A function that torch.fx does not look into."""
    return _change["now"](h)


torch.fx.wrap("changed")


class Odd(nn.Module):
    """A model of which a function returns anything, and layers read that."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.lin, self.second = GCNConv(WIDTH, 8), nn.Linear(8, 8), SAGEConv(8, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.lin(changed(self.first(x, edge_index))), edge_index)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("how", [*CHANGES, "halves", "doubles", "whole numbers", "an array"])
def test_what_a_function_of_the_users_returns(how: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    more: dict[str, Callable[[Tensor], Any]] = {
        "halves": lambda h: h.half(),
        "doubles": lambda h: h.double(),
        "whole numbers": lambda h: h.long(),
        "an array": lambda h: h.numpy(),
    }
    torch.manual_seed(4)
    eager = Odd().eval()
    x, edges = valid("sage")
    monkeypatch.setitem(_change, "now", as_it_is)
    with torch.no_grad():
        compiled = gnncompress.to_compiled(eager)
        simulated = gnncompress.prepare(eager, "ptq-int8")
        gnncompress.calibrate(simulated, lambda: simulated(x, edges))
        integer = gnncompress.to_integer(simulated)
        _change["now"] = {**CHANGES, **more}[how]
        for program in (compiled, integer):
            with threads(number):
                found = run(program, (x, edges))
            if isinstance(found, str):
                assert how not in HARMLESS, found
                assert "\n" not in found
                continue
            assert found.shape[1:] == (CLASSES,)
            assert bool(found.isfinite().all())
            assert float(found.abs().max()) < 10 or how == "far"
