"""Programs of a few operations, run in blocks of rows, on threads, and on what does not fit them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from gnncompress.errors import ExecutionError
from gnncompress.runtime import aggregation, executor, places
from gnncompress.runtime.aggregation import Aggregate, Edges, Largest, Pool, PoolLargest
from gnncompress.runtime.arrays import numbers
from gnncompress.runtime.executor import phases_of
from gnncompress.runtime.floating import Call, FloatLinear, Rows
from gnncompress.runtime.model import ProgramModel
from gnncompress.runtime.operations import Add, Linear, LookUp, Quantize, Rescale, Values
from gnncompress.runtime.program import Operation, Program
from gnncompress.runtime.rounding import (
    ADD,
    AGAIN,
    HIGH,
    HIGH_2,
    LOW,
    LOW_2,
    MINUS_ZERO,
    OTHER,
    SCALE,
    SCALE_2,
    SHIFT,
    SHIFT_2,
)
from tests.memory import growth, needs_account

WIDTH, ZERO = 5, 3
# Code c stands for c / 8.
TABLE = (np.arange(-128, 128, dtype=np.float32) / 8)[:, None]
RESCALED = {SCALE: np.array([0.5, -0.5, 1, 0.25, 2]), SHIFT: 1, LOW: -90, HIGH: 90}


def quantize(out: str = "codes", source: str = "x", width: int = WIDTH) -> Quantize:
    return Quantize(out, source, 0.125, ZERO, -128, 127, width)


def small() -> Program:
    """Sums of neighbours, rescaled."""
    aggregate = Aggregate("sums", "around", "codes", ZERO, 0.25, -2.0, False, numbers(WIDTH, {LOW: -100, HIGH: 100}))
    return Program(
        (
            quantize(),
            Edges("around", "edge_index", "codes"),
            aggregate,
            Rescale("half", "sums", numbers(WIDTH, RESCALED)),
            Values("out", "half", TABLE, WIDTH),
        ),
        ("x", "edge_index"),
        "out",
        WIDTH,
    )


def by_hand(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """What ``small`` computes."""
    codes = np.clip(np.rint(x.astype(np.float64) / 0.125 + ZERO), -128, 127)
    sums = np.zeros(x.shape)
    np.add.at(sums, edges[1], codes[edges[0]] - ZERO)
    sums = np.clip(np.rint(sums * 0.25 - 2), -100, 100)
    return np.clip(np.rint(sums * RESCALED[SCALE] + 1), -90, 90) / 8


def large() -> Program:
    """Products and sums of all kinds; three phases by row, since two operations read whole registers made before."""
    rng = np.random.default_rng(7)

    def weight(inputs: int, outputs: int) -> np.ndarray:
        made = np.zeros((-(-inputs // 16) * 16, -(-outputs // 16) * 16), np.int8)
        made[:inputs, :outputs] = rng.integers(-128, 128, (inputs, outputs))
        return made

    then = {SCALE_2: 0.8, SHIFT_2: 3.0, LOW_2: -120, HIGH_2: 120, OTHER: 0.7}
    product = {MINUS_ZERO: -2, SCALE: 0.01, SHIFT: 1.5, **then}
    up = np.clip(np.arange(-128, 128) ** 3 // 5000, -128, 127).astype(np.int8)
    per_channel = np.tile(up[:, None], (1, 32))
    return Program(
        (
            quantize(),
            Edges("around", "edge_index", "codes"),
            Linear("first", "codes", weight(WIDTH, 20), WIDTH, ZERO, numbers(20, product), 20),
            Linear("own", "codes", weight(WIDTH, 20), WIDTH, ZERO, numbers(20, product), 20, AGAIN),
            Aggregate("both", "around", "first", 1.0, 0.3, 2.0, True, numbers(20, then), ADD, "own"),
            Largest("largest", "around", "both", 0, 20),
            LookUp("curve", "largest", per_channel, 20),
            Add("sum", "curve", "both", numbers(20, {SCALE: 1, **then})),
            Linear("last", "sum", weight(20, 3), 20, 0, numbers(3, product)[: SHIFT + 1], 3, floats=True),
        ),
        ("x", "edge_index"),
        "last",
        3,
    )


def features(rows: int, seed: int = 0) -> torch.Tensor:
    """Features without rounding errors: some beyond the range, some on the verge between two codes."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-1200, 1200, (rows, WIDTH)).astype(np.float32) / 64)


def some_edges(nodes: int, number: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, nodes, (2, number)))


@pytest.fixture
def threads() -> Iterator[None]:
    """Leave torch with as many threads as it had."""
    before = torch.get_num_threads()
    yield
    executor._workers.cache_clear()
    torch.set_num_threads(before)


@pytest.mark.parametrize(("nodes", "edges"), [(1, 0), (1, 3), (7, 20), (300, 900)])
def test_a_program_against_numpy(nodes: int, edges: int) -> None:
    x, edge_index = features(nodes), some_edges(nodes, edges)
    found = ProgramModel(small())(x, edge_index)
    assert found.shape == (nodes, WIDTH)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), by_hand(x.numpy(), edge_index.numpy()))


def test_inputs_stay_as_they_are_and_gradients_are_not_followed() -> None:
    x, edge_index = features(9).requires_grad_(), some_edges(9, 20)
    before = x.detach().clone(), edge_index.clone()
    model = ProgramModel(small())
    first, second = model(x, edge_index), model(edge_index=edge_index, x=x)
    assert not first.requires_grad
    assert torch.equal(x.detach(), before[0])
    assert torch.equal(edge_index, before[1])
    first += 1
    assert torch.equal(model(x, edge_index), second), "a result is the caller's own"


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int64])
def test_features_may_be_of_any_kind_and_a_view(kind: torch.dtype) -> None:
    x, edge_index = features(30).round().to(kind), some_edges(30, 90)
    wanted = by_hand(x.numpy(), edge_index.numpy())
    model = ProgramModel(small())
    np.testing.assert_array_equal(model(x, edge_index).numpy(), wanted)
    np.testing.assert_array_equal(model(x.t().contiguous().t(), edge_index).numpy(), wanted)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("make", [small, large])
def test_blocks_and_threads_change_nothing(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, edge_index = ProgramModel(make()), features(1111), some_edges(1111, 5000)
    torch.set_num_threads(1)
    wanted = model(x, edge_index).clone()
    assert len(wanted.unique()) > 50
    for size in (1, 3000, 1 << 19):
        monkeypatch.setattr(executor, "_BLOCK_BYTES", size)
        for number in (1, 2, 3, 1):
            torch.set_num_threads(number)
            assert torch.equal(model(x, edge_index), wanted), f"{size} bytes, {number} threads"
            assert torch.get_num_threads() == number


@pytest.mark.parametrize("rows", [63, 64, 65, 128, 129])
def test_the_last_block_may_be_short(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "_BLOCK_BYTES", 1)
    x, edge_index = features(rows), some_edges(rows, 4 * rows)
    found = ProgramModel(small())(x, edge_index).numpy()
    np.testing.assert_array_equal(found, by_hand(x.numpy(), edge_index.numpy()))


@pytest.mark.usefixtures("threads")
def test_an_error_in_a_thread_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(Rescale, "bound", lambda self, block: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ProgramModel(small())(features(1000), some_edges(1000, 10))


def test_calls_on_the_same_graph_are_bound_again_only_to_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    model, bound = ProgramModel(large()), []
    bind = Largest.bound
    monkeypatch.setattr(Largest, "bound", lambda self, block: bound.append(self.out) or bind(self, block))
    graphs = [(features(80, seed), some_edges(80, 200, 1 + seed // 2)) for seed in range(4)]
    graphs += [(features(30), some_edges(30, 60))]
    expected = [ProgramModel(large())(*graph) for graph in graphs]
    del bound[:]
    order = [0, 0, 1, 1, 0, 2, 3, 4, 4, 0, 4, 2]
    found = [model(*graphs[number]) for number in order]
    for number, result in zip(order, found, strict=True):
        torch.testing.assert_close(result, expected[number], rtol=0, atol=0)
    assert len(bound) == 1 + sum(a != b for a, b in pairwise(order)), "another graph is bound anew"


def test_a_phase_that_failed_is_bound_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, edge_index = ProgramModel(large()), features(80), some_edges(80, 200)
    expected = model(x, edge_index)
    with monkeypatch.context() as patch:
        patch.setattr(places.Bound, "run_again", lambda self, env: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model(x, edge_index)
    torch.testing.assert_close(model(x, edge_index), expected, rtol=0, atol=0)


def test_small_phases_run_again_as_they_were_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[bool] = []
    run_again = places.Bound.run_again
    patched = lambda self, env: again.append(run_again(self, env)) or again[-1]  # noqa: E731
    monkeypatch.setattr(places.Bound, "run_again", patched)
    model, edge_index = ProgramModel(large()), some_edges(80, 200)
    for seed in range(3):
        x = features(80, seed)
        torch.testing.assert_close(model(x, edge_index), ProgramModel(large())(x, edge_index), rtol=0, atol=0)
    assert again == [True] * 2, "all phases but that which reads the features are one"


def test_sparse_features_give_what_dense_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "_BLOCK_BYTES", 1)
    dense = features(150) * (torch.rand(150, 1, generator=torch.manual_seed(0)) < 0.3)
    product = {MINUS_ZERO: -2, SCALE: 0.01, SHIFT: 1.5}
    weight = np.zeros((16, 32), np.int8)
    weight[:WIDTH, :20] = np.random.default_rng(3).integers(-128, 128, (WIDTH, 20))
    rounded = Program(
        (
            quantize(),
            Linear("product", "codes", weight, WIDTH, ZERO, numbers(20, product), 20),
            Values("out", "product", TABLE, 20),
        ),
        ("x",),
        "out",
        20,
    )
    table = numbers(20, product)[: SHIFT + 1]
    floats = Program(
        (quantize(), Linear("out", "codes", weight, WIDTH, ZERO, table, 20, floats=True)), ("x",), "out", 20
    )
    codes = dense.numpy().astype(np.float64) / 0.125 + ZERO
    codes = np.clip(np.rint(codes), -128, 127) - ZERO
    sums = codes @ weight[:WIDTH, :20] - 2 * codes.sum(1, keepdims=True)
    for program in (rounded, floats):
        model = ProgramModel(program)
        wanted = model(dense)
        assert torch.equal(model(dense.to_sparse_csr()), wanted)
        assert torch.equal(model(torch.zeros(3, WIDTH).to_sparse_csr()), model(torch.zeros(3, WIDTH)))
        assert model(torch.zeros(0, WIDTH).to_sparse_csr()).shape == (0, 20)
    np.testing.assert_allclose(wanted.numpy(), sums * 0.01 + 1.5, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("widths", [(3, 20), (20, 3)])
def test_products_of_different_widths_in_one_phase(widths: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "_BLOCK_BYTES", 1)
    rng, x, made, wanted = np.random.default_rng(4), features(100), [quantize()], []
    codes = np.clip(np.rint(x.numpy() / 0.125 + ZERO), -128, 127).astype(np.int64) - ZERO
    for width in widths:
        weight = np.zeros((16, -(-width // 16) * 16), np.int8)
        weight[:WIDTH, :width] = rng.integers(-128, 128, (WIDTH, width))
        table = numbers(width, {SCALE: 0.5})[: SHIFT + 1]
        made.append(Linear(f"{width}", "codes", weight, WIDTH, ZERO, table, width, floats=True))
        wanted.append(codes @ weight[:WIDTH, :width] / 2)
    both = Call("both", tuple(map(str, widths)), widths, lambda a, b: torch.cat([a, b], 1), "cat")
    found = ProgramModel(Program((*made, both), ("x",), "both"))(x)
    np.testing.assert_array_equal(found.numpy(), np.concatenate(wanted, 1))


def test_what_reads_a_whole_register_made_in_a_phase_begins_another() -> None:
    def groups(program: Program) -> list[list[str]]:
        return [[operation.out for operation in phase.operations] for phase in phases_of(program)]

    assert groups(small()) == [["codes"], ["around"], ["sums", "half", "out"]]
    assert groups(large()) == [["codes"], ["around"], ["first", "own"], ["both"], ["largest", "curve", "sum", "last"]]
    assert [phase.by_row for phase in phases_of(large())] == [False, False, True, True, True]
    assert phases_of(Program((), ("x",), "x")) == ()


def test_registers_are_kept_as_long_as_they_are_read() -> None:
    kept = [(set(phase.kept), set(phase.dropped)) for phase in phases_of(large())]
    assert kept == [
        ({"codes"}, {"x"}),
        ({"around"}, {"edge_index"}),
        ({"first", "own"}, {"codes"}),
        ({"both"}, {"first", "own"}),
        ({"last"}, {"around", "both", "largest", "curve", "sum"}),
    ]


@dataclass(frozen=True, eq=False)
class Spy(Operation):
    """Notes which registers there are."""

    by_row = False
    WHOLE = ("source",)

    source: str
    seen: list[set[str]]

    def run(self, env: Mapping[str, Any], context: Any) -> Any:
        self.seen.append(set(env))
        return env[self.source]


def test_registers_that_none_reads_any_more_are_gone() -> None:
    seen: list[set[str]] = []
    given = small()
    first, second = Spy("spied", "around", seen), Spy("again", "out", seen)
    aggregate = Aggregate("sums", "spied", *(getattr(given.operations[2], name) for name in (
        "source", "zero", "scale", "shift", "mean", "numbers")))  # fmt: skip
    changed = (*given.operations[:2], first, aggregate, *given.operations[3:], second)
    model = ProgramModel(Program(changed, given.inputs, "again", WIDTH))
    x, edge_index = features(80), some_edges(80, 200)
    np.testing.assert_array_equal(model(x, edge_index).numpy(), by_hand(x.numpy(), edge_index.numpy()))
    assert seen == [{"codes", "around"}, {"out"}]


def test_a_program_is_printed_one_line_an_operation() -> None:
    program = large()
    lines = str(program).splitlines()
    assert lines[0] == "inputs x, edge_index"
    assert lines[-1] == "result last"
    assert len(lines) == len(program.operations) + 2
    for line, operation in zip(lines[1:-1], program.operations, strict=True):
        assert line.startswith(f"{operation.out} = {type(operation).__name__.lower()} ")
        assert "\n" not in str(operation)
    assert lines[1] == "codes = quantize source=x scale=0.125 zero=3 low=-128 high=127 width=5"
    assert "weight=int8[16x32]" in lines[3]
    assert str(small()).splitlines()[4].startswith("half = rescale source=sums scale=-0.5..2 shift=0..1 ")
    assert str(program) in repr(ProgramModel(program)).replace("\n  ", "\n")


def test_layers_in_floats_are_printed_too() -> None:
    call = Call("twice", ("x",), (0,), lambda x: 2 * x, "double")
    program = Program((call,), ("x",), "twice", floats=(("head", "no rule for it"),))
    assert str(program).splitlines()[1:] == [
        "twice = call double(x) in floats",
        "result twice",
        "in floats: head (no rule for it)",
    ]
    assert ProgramModel(program)(torch.ones(2, 3)).tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("sparse", [False, True])
def test_values_that_are_not_finite_are_refused(bad: float, sparse: bool) -> None:
    x = features(70)
    x[69, 4] = bad
    model = ProgramModel(small())
    with pytest.raises(ExecutionError, match=r"^codes: a value is NaN or infinite$"):
        model(x.to_sparse_csr() if sparse else x, some_edges(70, 9))
    assert model.saturation() == []
    assert model.warnings() == []


@pytest.mark.parametrize("shape", [(4, WIDTH - 1), (4, WIDTH + 1), (WIDTH,), (2, 4, WIDTH), (0, 1), ()])
def test_features_of_another_width_are_refused(shape: tuple[int, ...]) -> None:
    wanted = f"codes: x must be features [nodes, 5], not torch.float32 {list(shape)}"
    with pytest.raises(ExecutionError, match=f"^{re.escape(wanted)}$"):
        ProgramModel(small())(torch.zeros(shape), some_edges(4, 4))


@pytest.mark.parametrize("bad", [-1, 12, 10**12])
def test_edges_of_nodes_that_do_not_exist_are_refused(bad: int) -> None:
    edge_index = some_edges(12, 40)
    edge_index[0, 17] = bad
    model = ProgramModel(small())
    for _ in range(2):
        with pytest.raises(ExecutionError, match=f"edge_index has node {bad}, but the features have 12 rows, 0 to 11"):
            model(features(12), edge_index)


def test_tensors_elsewhere_are_refused() -> None:
    with pytest.raises(ExecutionError, match=r"^x is on meta: .* on the CPU alone; give it x\.cpu\(\)$"):
        ProgramModel(small())(torch.zeros(3, WIDTH, device="meta"), some_edges(3, 4))


def test_tensors_that_are_given_other_data_are_read_anew() -> None:
    program = small()
    model, x, edges = ProgramModel(program), features(40), some_edges(40, 90)
    for number, (rows, nodes) in enumerate([(features(40, 5), 40), (features(60, 6), 60), (None, 45)]):
        for _ in range(3):  # kernels are bound to what was read
            model(x, edges)
        if rows is None:
            x.data = x.data[:nodes]
        else:
            x.data = rows
        edges.data = some_edges(nodes, 90, seed=number)
        np.testing.assert_array_equal(model(x, edges).numpy(), by_hand(x.numpy(), edges.numpy()))


def test_sparse_features_that_are_changed_are_read_anew() -> None:
    linear = FloatLinear("y", "x", np.arange(10, dtype=np.float32).reshape(5, 2), np.zeros(2, np.float32))
    model = ProgramModel(Program((linear,), ("x",), "y", 2))

    def insist_on_right() -> None:
        for _ in range(3):  # what was made of it is kept
            np.testing.assert_array_equal(model(x).numpy(), x.to_dense().numpy() @ linear.weight)

    x = torch.tensor([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]).to_sparse_csr()
    insist_on_right()
    x.values()[1] = 3
    insist_on_right()
    x.col_indices()[1] = 4
    insist_on_right()
    x.data = torch.eye(5)[:2].to_sparse_csr()
    insist_on_right()
    x.col_indices()[1] = 5
    with pytest.raises(ExecutionError, match=r"^y: the sparse features are damaged: a row or a column is outside"):
        model(x)


def test_calls_of_a_kind_that_is_known_are_checked_all_the_same() -> None:
    model, x, edges = ProgramModel(small()), features(40), some_edges(40, 90)
    for _ in range(3):
        wanted = model(x, edges)
    assert torch.equal(model(x.double(), edges), wanted)
    learnt = x.clone().requires_grad_()
    for _ in range(2):
        assert not model(learnt, edges).requires_grad
    with pytest.raises(ExecutionError, match=r"^x is a nested tensor"):
        model(torch.nested.nested_tensor([x]), edges)
    with pytest.raises(ExecutionError, match=r"^x must be a tensor, not ndarray$"):
        model(x.numpy(), edges)


def test_edges_changed_in_place_and_other_edges_count() -> None:
    model, x = ProgramModel(small()), features(40)
    edges, others = some_edges(40, 90), some_edges(40, 90, seed=2)
    for edge_index in (edges, others, edges):
        for _ in range(2):
            np.testing.assert_array_equal(model(x, edge_index).numpy(), by_hand(x.numpy(), edge_index.numpy()))
    edges[0] = edges[0].flip(0)
    np.testing.assert_array_equal(model(x, edges).numpy(), by_hand(x.numpy(), edges.numpy()))
    np.testing.assert_array_equal(
        model(features(60), edges).numpy(), by_hand(features(60).numpy(), edges.numpy()), "more nodes, the same edges"
    )
    with torch.inference_mode():
        of_inference = some_edges(40, 90, seed=3) + 0
        for _ in range(2):
            np.testing.assert_array_equal(model(x, of_inference).numpy(), by_hand(x.numpy(), of_inference.numpy()))
            of_inference[0] = of_inference[0].flip(0)


def test_edges_are_sorted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, sort = [], aggregation.neighbours

    def counted(edges: torch.Tensor, nodes: int) -> Any:
        calls.append(nodes)
        return sort(edges, nodes)

    monkeypatch.setattr(aggregation, "neighbours", counted)
    model, edges = ProgramModel(small()), some_edges(40, 90)
    for _ in range(3):
        model(features(40), edges)
    assert calls == [40]
    model(features(40), edges.clone())
    assert calls == [40, 40]


def test_values_beyond_the_range_are_counted_over_all_calls() -> None:
    model, edge_index = ProgramModel(small()), some_edges(4, 4)
    model(torch.zeros(4, WIDTH), edge_index)
    (first,) = model.saturation()
    assert (first.metric, first.layer, first.value) == ("saturation", "codes", 0.0)
    assert model.warnings() == []
    beyond = torch.zeros(4, WIDTH)
    # Codes end at (-128 - 3) / 8 and (127 - 3) / 8; the last two are still rounded into the range.
    beyond[0] = torch.tensor([-16.5, 15.6, 1e30, -16.43, 15.56])
    model(beyond, edge_index)
    (second,) = model.saturation()
    assert second.value == 3 / 40
    assert model.warnings() == ["codes: 3 of 40 values were beyond the calibrated range and were given its end"]
    assert ProgramModel(small()).saturation() == [], "another model counts for itself"


def pooling(kind: str) -> Program:
    last: Operation = PoolLargest("out", "codes", "batch", np.broadcast_to(TABLE, (256, WIDTH)).copy(), WIDTH)
    if kind != "max":
        scale, shift = np.full(WIDTH, 0.125, np.float32), np.full(WIDTH, -0.125 * ZERO, np.float32)
        last = Pool("out", "codes", "batch", kind == "mean", scale, shift)
    return Program((quantize(), last), ("x", "batch"), "out", WIDTH, ("batch",))


@pytest.mark.parametrize("kind", ["sum", "mean", "max"])
def test_an_optional_input_may_be_left_out(kind: str) -> None:
    model, x = ProgramModel(pooling(kind)), features(30) / 4
    alone = model(x)
    assert alone.shape == (1, WIDTH)
    for same in (model(x, None), model(x, batch=None), model(x, torch.zeros(30, dtype=torch.long))):
        assert torch.equal(same, alone)
    batch = torch.tensor([3, 0, 1] * 10)
    found = model(x, batch)
    assert found.shape == (4, WIDTH)
    assert torch.equal(found[2], torch.zeros(WIDTH)), "a graph without nodes"
    for graph in (0, 1, 3):
        assert torch.equal(found[graph], model(x[batch == graph])[0])
    if kind != "max":
        values = (np.rint(x.numpy() * 8 + ZERO) - ZERO) / 8
        np.testing.assert_allclose(alone[0], values.sum(0) if kind == "sum" else values.mean(0), rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        model()


@pytest.mark.parametrize(
    "batch",
    [torch.zeros(29, dtype=torch.long), torch.zeros(30, 1, dtype=torch.long), torch.arange(30) - 1],
    ids=["too short", "two dimensions", "negative"],
)
def test_graphs_that_do_not_fit_are_refused(batch: torch.Tensor) -> None:
    nodes = "nodes" if len(batch) == 30 else "30 nodes"
    wanted = f"out: batch must be numbers of graphs [{nodes}], not torch.int64 {list(batch.shape)}"
    if bool((batch < 0).any()):
        wanted = "batch must hold the numbers of graphs: whole ones, from 0"
    with pytest.raises(ExecutionError, match=f"^{re.escape(wanted)}$"):
        ProgramModel(pooling("sum"))(features(30), batch)


@pytest.mark.parametrize("kind", ["sum", "max"])
@pytest.mark.parametrize(
    "batch",
    [torch.zeros(30), torch.zeros(30) > 0, torch.zeros(30).long().to_sparse()],
    ids=["floats", "truth values", "sparse"],
)
def test_graphs_without_whole_numbers_are_refused(kind: str, batch: torch.Tensor) -> None:
    with pytest.raises(ExecutionError, match=r"^\w+: batch must be numbers of graphs \[nodes\], not "):
        ProgramModel(pooling(kind))(features(30), batch)


@needs_account
@pytest.mark.parametrize("kind", ["sum", "max"])
@pytest.mark.parametrize("far", [30 + 2**16, 2**30, 2**62])
def test_gaps_between_graphs_take_no_memory(kind: str, far: int) -> None:
    model, near = ProgramModel(pooling(kind)), torch.arange(30) // 10
    for batch in (near + far, torch.cat([near[:-1], torch.tensor([far])])):
        message = f"^batch has graph number {int(batch.max()):,} for 30 nodes: number the graphs 0, 1, ... without gaps"
        with growth() as grown, pytest.raises(ExecutionError, match=message):
            model(features(30), batch)
        assert grown() < 16 * 2**20
    assert torch.equal(model(features(30), near), ProgramModel(pooling(kind))(features(30), near))


def test_some_graphs_may_have_no_node() -> None:
    found = ProgramModel(pooling("sum"))(features(30), torch.full((30,), 29 + 2**16))
    assert found.shape == (30 + 2**16, WIDTH)
    assert not found[:-1].any()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("make", "width"), [(small, WIDTH), (large, 3)])
def test_an_empty_graph_gives_an_empty_result(make: Any, width: int, number: int) -> None:
    torch.set_num_threads(number)
    model = ProgramModel(make())
    for _ in range(2):
        assert model(torch.zeros(0, WIDTH), torch.zeros(2, 0, dtype=torch.long)).shape == (0, width)
    assert model.saturation() == []


def test_an_empty_batch_gives_no_graphs_and_no_batch_one() -> None:
    model = ProgramModel(pooling("sum"))
    assert model(torch.zeros(0, WIDTH), torch.zeros(0, dtype=torch.long)).shape == (0, WIDTH)
    assert model(torch.zeros(0, WIDTH)).tolist() == [[0.0] * WIDTH]


def test_registers_of_different_heights() -> None:
    plain = numbers(WIDTH, {SCALE: 1})
    made = (
        quantize("nodes", "x"),
        quantize("graphs", "z"),
        Rescale("of graphs", "graphs", plain),
        Rescale("of nodes", "nodes", plain),
        Call("sizes", ("of graphs", "of nodes"), (0, 0), lambda a, b: torch.tensor([len(a), len(b)]), "sizes"),
    )
    # The other way round, with fewer nodes than graphs, rows behind the last would be read.
    found = ProgramModel(Program(made, ("x", "z"), "sizes"))(features(200), features(100))
    assert found.tolist() == [100, 200]


@pytest.mark.parametrize("what", ["look up", "largest"])
def test_columns_that_pad_do_not_count_in_the_sums_of_rows(what: str) -> None:
    table = np.clip(np.arange(-128, 128) + 10, -128, 127).astype(np.int8)[:, None].copy()
    middle = (
        (LookUp("middle", "codes", table, WIDTH),)
        if what == "look up"
        else (Edges("around", "edge_index", "codes"), Largest("middle", "around", "codes", 13, WIDTH))
    )
    weight = np.zeros((16, 16), np.int8)
    weight[:WIDTH, :3] = 1
    product = numbers(3, {MINUS_ZERO: -2, SCALE: 0.5})
    last = (Linear("product", "middle", weight, WIDTH, 0, product, 3), Values("out", "product", TABLE, 3))
    model = ProgramModel(Program((quantize(), *middle, *last), ("x", "edge_index"), "out", 3))
    found = model(torch.zeros(2, WIDTH), torch.zeros(2, 0, dtype=torch.long))
    # All five codes are 13, and all weights 1 with the zero point 2.
    assert found.tolist() == [[np.rint(0.5 * 5 * 13 * (1 - 2)) / 8] * 3] * 2


@pytest.mark.parametrize("kind", ["product", "sum", "sum and codes", "sum and floats"])
def test_values_beyond_all_whole_numbers_become_the_ends(kind: str) -> None:
    x = torch.tensor([-1.0, 0.0, 1.0, 1e12, -1e12]).repeat(2)[:, None].expand(10, WIDTH).contiguous()
    floats = kind == "sum and floats"  # the numbers are small, the features are not
    huge = {SCALE: 1e12, OTHER: 8.0 if floats else 1e12, SCALE_2: 1}
    codes = Quantize("codes", "x", 0.125, 0, -128, 127, WIDTH)
    around = Aggregate("out", "around", "codes", 0, 1e12 if kind == "sum" else 0.0, 0.0, False, numbers(WIDTH, huge))
    made: dict[str, Operation] = {
        "product": Linear("out", "codes", np.eye(16, dtype=np.int8), WIDTH, 0, numbers(WIDTH, huge), WIDTH),
        "sum": around,
        "sum and codes": replace(around, second=ADD, other="codes"),
        "sum and floats": replace(around, second=ADD, other="rows"),
    }
    steps = codes, Rows("rows", "x", WIDTH), Edges("around", "edge_index", "codes"), made[kind]
    values = Values("values", "out", np.arange(-128, 128, dtype=np.float32)[:, None], WIDTH)
    model = ProgramModel(Program((*steps, values), ("x", "edge_index"), "values", WIDTH))
    found = model(x, torch.arange(10).repeat(2, 1))
    assert found[:, 0].tolist() == [-8 if floats else -128, 0, 8 if floats else 127, 127, -128] * 2
    assert (found == found[:, :1]).all()
