"""Registers that take turns in the same places, and what is made there again."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnncompress.errors import ExecutionError
from gnncompress.runtime.aggregation import Pool
from gnncompress.runtime.coefficients import Splines
from gnncompress.runtime.floating import Call, FloatLinear, Rows
from gnncompress.runtime.model import ProgramModel
from gnncompress.runtime.operations import Quantize, Values
from gnncompress.runtime.places import Bound, Mark, Places, taken_in_turns
from gnncompress.runtime.program import Operation, Program
from tests.runtime.test_executor import features, large, some_edges


@dataclass(frozen=True, eq=False)
class Step(Operation):
    """Reads some registers."""

    sources: tuple[str, ...]

    WHOLE = ("sources",)

    def run(self, env: Mapping[str, Any], workspace: Any) -> Any:
        raise NotImplementedError


def test_a_chain_needs_two_places_and_what_is_read_later_one_of_its_own() -> None:
    chain = [Step(str(number), (str(number - 1),) if number else ("x",)) for number in range(6)]
    names = [one.out for one in chain]
    assert taken_in_turns(chain, names, "5") == {"0": 0, "1": 1, "2": 0, "3": 1, "4": 0, "5": 1}
    chain[5] = Step("5", ("4", "0"))
    assert taken_in_turns(chain, names, "5") == {"0": 0, "1": 1, "2": 2, "3": 1, "4": 2, "5": 1}
    assert taken_in_turns(chain, ["1", "3"], "5") == {"1": 0, "3": 0}


@settings(max_examples=200, deadline=None)
@given(data=st.data(), size=st.integers(1, 12))
def test_registers_that_are_alive_at_once_never_share_a_place(data: st.DataObject, size: int) -> None:
    steps = []
    for number in range(size):
        before = [str(other) for other in range(number)]
        sources = data.draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        steps.append(Step(str(number), tuple(sources)))
    result = str(data.draw(st.integers(0, size - 1)))
    registers = data.draw(st.sets(st.sampled_from([one.out for one in steps])))
    numbers = taken_in_turns(steps, registers, result)
    assert numbers.keys() == registers
    last = {one.out: at for at, one in enumerate(steps)}
    last |= {source: at for at, one in enumerate(steps) for source in one.sources}
    last[result] = size
    for a in registers:
        for b in registers:
            if a != b and int(a) <= int(b) <= last[a]:  # b is made while a is still read
                assert numbers[a] != numbers[b]


def test_a_register_keeps_its_room_as_long_as_it_fits() -> None:
    places = Places({"a": 0, "b": 1, "c": 0})
    first = places.room("a", (3, 16), torch.int8)
    assert places.room("a", (3, 16), torch.int8) is first
    assert places.has("a", first)
    assert np.shares_memory(places.room("c", (2, 16), torch.float32).view(np.int8), first) is False, "it was too small"
    assert places.room("c", (2, 16), torch.float32).dtype == np.float32
    larger = places.room("a", (8, 16), torch.int8)
    assert np.shares_memory(larger, places.room("c", (2, 16), torch.float32))
    assert not np.shares_memory(larger, places.room("b", (8, 16), torch.int8))
    fresh = places.room("d", (3, 16), torch.int8)
    assert places.room("d", (3, 16), torch.int8) is not fresh, "it has no number"
    assert not places.has("d", fresh)


def test_a_result_is_a_copy_of_what_the_next_call_makes_in_its_place() -> None:
    program = Program((), ("x",), "out", width=2)
    places = Places({"out": 0})
    room = places.room("out", (3, 16), torch.float32)
    room[...] = 1
    given = places.result_of(room, program)
    room[...] = 2
    assert given.shape == (3, 2)
    assert (given == 1).all()
    other = np.ones((3, 16), np.float32)
    assert np.shares_memory(places.result_of(other, program).numpy(), other), "nobody else has it"


def test_a_mark_knows_the_very_same_value() -> None:
    places, tensor = Places({"a": 0}), torch.zeros(3)
    array = places.room("a", (3, 16), torch.int8)
    made = places.bind({"t": tensor, "a": array, "n": None}, ("t", "a", "n", "left out"), {}, (), 1)
    assert made is not None
    assert made.run_again({"t": tensor, "a": array})
    assert not made.run_again({"t": tensor.clone(), "a": array})
    assert not made.run_again({"t": tensor, "a": array.copy()})
    assert not made.run_again({"t": tensor, "a": array, "left out": tensor})
    array += 1
    assert made.run_again({"t": tensor, "a": array}), "arrays have places; what is in them is made anew"
    tensor += 1
    assert not made.run_again({"t": tensor, "a": array}), "it was changed in place"


def test_a_tensor_that_is_gone_is_not_mistaken_for_one_that_is_left_out() -> None:
    tensor = torch.zeros(3)
    made = Places({}).bind({"t": tensor}, ("t",), {}, (), 1)
    assert made is not None
    del tensor
    gc.collect()
    assert not made.run_again({"t": None})


def test_what_read_a_tensor_without_a_version_is_not_bound() -> None:
    with torch.inference_mode():
        tensor = torch.zeros(3)
    assert Places({}).bind({"t": tensor}, ("t",), {}, (), 1) is None


def test_arrays_that_have_no_place_are_not_kept_alive() -> None:
    places, array = Places({"a": 0}), np.zeros((3, 16), np.int8)
    assert places.bind({"a": array}, ("a",), {}, (), 1) is None
    room = places.room("a", (3, 16), torch.int8)
    assert places.bind({"a": room}, ("a",), {}, (), 1) is not None


def test_of_what_is_only_counted_the_rows_are_compared() -> None:
    made = Places({}).bind({"a": np.zeros((3, 16))}, ("a",), {"b": 1}, (), 1, counted={"a"})
    assert made is not None
    assert made.run_again({"a": np.ones((3, 2))})
    assert made.run_again({"a": torch.eye(3).to_sparse_csr()})
    assert not made.run_again({"a": np.zeros((4, 16))})
    assert not made.run_again({})
    both = made.and_then(Bound((Mark("a", 1),), {}, (), 2))
    assert [type(mark).__name__ for mark in both.read] == ["Count", "Mark"], "what is read then is more than counted"


def test_a_register_that_is_read_too_is_not_only_counted() -> None:
    shared = {"kernel_size": (2,), "is_open": (True,), "degree": 1, "grid": None}
    assert Splines("s", "edges", "pseudo", "x", **shared).counted() == ["x"]
    assert Splines("s", "edges", "x", "x", **shared).counted() == []


def test_phases_joined_ask_only_for_what_they_did_not_make() -> None:
    done: list[str] = []
    first = Bound((Mark("x", None),), {"a": 1}, (lambda: done.append("a"),), 1)
    both = first.and_then(
        Bound((Mark("a", 1), Mark("x", None), Mark("y", 2)), {"b": 2}, (lambda: done.append("b"),), 2)
    )
    assert [mark.name for mark in both.read] == ["x", "y"]
    env = {"x": None, "y": 2}
    assert both.run_again(env)
    assert env == {"x": None, "y": 2, "a": 1, "b": 2}
    assert done == ["a", "b"]
    assert both.end == 2


@pytest.mark.parametrize("inference", [False, True])
def test_calls_in_turns_give_what_a_new_model_gives(inference: bool) -> None:
    model, rng = ProgramModel(large()), np.random.default_rng(5)
    graphs = [(features(rows, rows), some_edges(rows, 4 * rows, rows)) for rows in (80, 30, 300)]
    with torch.inference_mode(inference):
        for _ in range(40):
            x, edges = graphs[rng.integers(3)]
            change = rng.integers(4)
            if change == 0 and not inference:
                edges[:, 0] = torch.randint(len(x), (2,))
            elif change == 1:
                x = x + 1
            elif change == 2:
                edges = edges.flip(0)
            torch.testing.assert_close(model(x, edges), ProgramModel(large())(x, edges), rtol=0, atol=0)


def test_calls_at_once_have_places_of_their_own() -> None:
    model = ProgramModel(large())
    graphs = [(features(80, seed), some_edges(80, 200, seed)) for seed in range(4)]
    wanted = [ProgramModel(large())(*graph) for graph in graphs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: model(*graphs[number % 4]), range(200)))
    for number, result in enumerate(found):
        torch.testing.assert_close(result, wanted[number % 4], rtol=0, atol=0)


def summed(*more: Operation, result: str = "out") -> Program:
    """Features added up over their graphs, and what follows."""
    table = np.ones(5, np.float32), np.zeros(5, np.float32)
    return Program(
        (
            Rows("rows", "x", 5),
            Quantize("c", "rows", 0.125, 0, -128, 127, 5),
            Pool("out", "c", "batch", False, *table),
            *more,
        ),
        ("x", "batch"),
        result,
        5,
    )


def test_modes_of_torch_in_turns_change_nothing() -> None:
    program, batch = summed(), torch.arange(12) // 4
    model = ProgramModel(program)
    for number, mode in enumerate([torch.inference_mode, torch.no_grad, torch.enable_grad] * 2):
        with mode():
            x = features(12, number).requires_grad_(number % 2 == 0)
            found, wanted = model(x, batch), ProgramModel(program)(x, batch)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert not found.requires_grad


def test_results_stay_as_they_are_whatever_is_called_next() -> None:
    identity = FloatLinear("a", "x", np.eye(5, dtype=np.float32), np.zeros(5, np.float32))
    table = np.ones(5, np.float32), np.zeros(5, np.float32)
    steps = identity, Quantize("c", "a", 0.125, 0, -128, 127, 5), Pool("out", "c", "batch", False, *table)
    model = ProgramModel(Program(steps, ("x", "batch"), "out", 5))
    with torch.inference_mode():
        unversioned = [features(12, seed) for seed in (1, 2)]
    few, many = torch.arange(12) // 6, torch.arange(12) // 4
    held = []
    for x, batch in [(0, few), (3, many), (0, few), (1, few), (3, few), (0, many), (1, many), (3, many)]:
        given = unversioned[x] if x < 2 else features(12, x)
        result = model(given, batch)
        torch.testing.assert_close(result, ProgramModel(model.program)(given, batch), rtol=0, atol=0)
        held.append((result, result.clone()))
    for result, before in held:
        assert torch.equal(result, before)


@pytest.mark.parametrize(
    "last",
    [
        Call("same", ("out",), (5,), lambda v: v, "identity"),
        Call("same", ("out",), (5,), lambda v: v[:, :3], "a view"),
    ],
)
def test_what_a_function_of_torch_was_given_is_not_written_to_again(last: Call) -> None:
    model, batch = ProgramModel(summed(last, result="same")), torch.arange(12) // 4
    held = [(found := model(features(12, seed), batch), found.clone()) for seed in range(5)]
    assert not torch.equal(held[0][1], held[1][1])
    for result, before in held:
        assert torch.equal(result, before)


def test_what_a_function_of_torch_was_given_row_by_row_is_not_either() -> None:
    table = (np.arange(-128, 128, dtype=np.float32) / 8)[:, None]
    steps = Quantize("c", "x", 0.125, 0, -128, 127, 5), Values("v", "c", table, 5)
    same = Call("same", ("v",), (5,), lambda v: v, "identity")
    model = ProgramModel(Program((*steps, same), ("x",), "same", 5))
    held = [(found := model(features(12, seed)), found.clone()) for seed in range(5)]
    assert not torch.equal(held[0][1], held[1][1])
    for result, before in held:
        assert torch.equal(result, before)


def test_all_that_a_call_repeats_is_one_and_new_bounds_replace_old_ones() -> None:
    model, batch = ProgramModel(summed()), torch.arange(12) // 4
    for seed in range(3):
        model(features(12, seed), batch)
    (workspace,) = next(iter(model._plans.values()))._idle
    assert [(first, one.end) for first, one in workspace.places.bound.items()] == [(1, 3)]
    assert [mark.name for mark in workspace.places.bound[1].read] == ["rows", "batch"]
    bound = Bound((), {}, (), 3)
    workspace.places.keep(0, 2, None)
    assert workspace.places.bound == {}, "it overlaps what is bound anew"
    workspace.places.keep(0, 3, bound)
    workspace.places.keep(3, 4, Bound((), {}, (), 4))
    assert list(workspace.places.bound) == [0, 3]


def test_features_of_other_dimensions_are_refused() -> None:
    model, batch = ProgramModel(summed()), torch.zeros(5, dtype=torch.long)
    for x in (torch.ones(5), torch.ones(()), torch.ones(5, 5, 1)):
        with pytest.raises(ExecutionError, match=r"rows: x must be features \[nodes, 5\], not torch.float32 \["):
            model(x, batch)
    with pytest.raises(ExecutionError, match=r"x is torch\.complex64: kernels take real numbers alone"):
        model(torch.ones(5, 5, dtype=torch.complex64), batch)
