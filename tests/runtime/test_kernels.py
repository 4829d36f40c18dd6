"""The compiled loops against slow ones of numpy: whole numbers to the bit, floats up to what is on a verge."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnncompress.runtime import arrays, kernels, rounding, vectors
from gnncompress.runtime.rounding import (
    ADD,
    AGAIN,
    HIGH,
    LOW,
    MINUS_ZERO,
    NONE,
    OTHER,
    SCALE,
    SCALE_2,
    SHIFT,
    SHIFT_2,
    fit,
)
from gnncompress.runtime.vectors import padded
from tests.runtime.helpers import (
    NO_OTHER,
    POISON,
    ROWS,
    SECONDS,
    SEEDS,
    WIDTHS,
    Graph,
    Room,
    Span,
    assert_within,
    random_codes,
    random_graph,
    random_numbers,
    random_others,
    rounded_twice,
    slack_of,
    widened,
)

f = np.float32
some = settings(max_examples=25, deadline=None)
seconds = pytest.mark.parametrize(("second", "kind"), SECONDS)


def exactly(v: np.ndarray) -> Span:
    return Span(v.astype(np.float64), v.astype(np.float64))


@some
@given(rows=ROWS, width=WIDTHS, seed=SEEDS, exact=st.booleans())
def test_codes_of_codes(rows: int, width: int, seed: int, exact: bool) -> None:
    rng = np.random.default_rng(seed)
    x, numbers = random_codes(rng, rows, width), random_numbers(rng, width, 128, exact)
    room = Room(rows, width)
    kernels.rescale(x, numbers, room.out)
    number = numbers[:, :width].astype(np.float64)
    v = exactly(x[:, :width]).scaled(number[SCALE], number[SHIFT])
    assert_within(room.codes(), rounded_twice(v, number, NONE, NO_OTHER, slack_of(exact)))


@pytest.mark.parametrize("kind", [np.int8, f])
@some
@given(rows=ROWS, width=WIDTHS, seed=SEEDS, exact=st.booleans())
def test_codes_of_sums_of_two(kind: type, rows: int, width: int, seed: int, exact: bool) -> None:
    rng = np.random.default_rng(seed)
    x, numbers = random_codes(rng, rows, width), random_numbers(rng, width, 128, exact)
    other = random_others(rng, rows, width, ADD, kind)
    room = Room(rows, width)
    kernels.add(x, other, numbers, room.out)
    number = numbers[:, :width].astype(np.float64)
    v = exactly(x[:, :width]).scaled(number[SCALE], number[SHIFT])
    assert_within(room.codes(), rounded_twice(v, number, ADD, other[:, :width], slack_of(exact)))


@pytest.mark.parametrize("one", [True, False])
@some
@given(rows=ROWS, width=WIDTHS, seed=SEEDS)
def test_codes_and_values_by_tables(one: bool, rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = random_codes(rng, rows, width)
    table = rng.integers(-128, 127, (256, 1 if one else padded(width)), dtype=np.int8, endpoint=True)
    room = Room(rows, width)
    kernels.look_up(x, table, width, room.out)
    at = x[:, :width].astype(np.int64) + 128
    columns = np.zeros(width, np.int64) if one else np.arange(width)
    np.testing.assert_array_equal(room.codes(), table[at, columns])
    floats = rng.normal(size=table.shape).astype(f)
    of_floats = Room(rows, width, arrays.values)
    kernels.values_of(x, floats, of_floats.out)
    np.testing.assert_array_equal(of_floats.unpadded(), floats[at, columns])


@some
@given(rows=ROWS, width=WIDTHS | st.just(1000), seed=SEEDS, less=st.integers(-100_000, 100_000), end=st.booleans())
def test_rows_of_codes_are_added_up(rows: int, width: int, seed: int, less: int, end: bool) -> None:
    x = random_codes(np.random.default_rng(seed), rows, width, high=-128 if end else 127)
    found = np.full(rows, POISON, f)
    kernels.row_sums(x, less, found)
    np.testing.assert_array_equal(found, x.sum(1, dtype=np.int64) - less)


@seconds
@some
@given(rows=ROWS, width=WIDTHS, seed=SEEDS, exact=st.booleans())
def test_products_are_rounded(second: int, kind: type, rows: int, width: int, seed: int, exact: bool) -> None:
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**19), 2**19, (rows, padded(width)), dtype=np.int32)
    totals = rng.integers(-6000, 6000, rows).astype(f)
    numbers = random_numbers(rng, width, 2**19, exact)
    other = random_others(rng, rows, width, second, kind)
    room = Room(rows, width)
    kernels.finish(sums, totals, numbers, second, other, room.out)
    number = numbers[:, :width].astype(np.float64)
    v = sums[:, :width] + number[MINUS_ZERO] * totals[:, None].astype(np.float64)
    v = exactly(v).scaled(number[SCALE], number[SHIFT])
    assert_within(room.codes(), rounded_twice(v, number, second, other[:, :width], slack_of(exact)))


@pytest.mark.parametrize("second", [NONE, AGAIN, ADD])
def test_the_largest_sums_become_the_ends_of_the_range(second: int) -> None:
    ends = np.iinfo(np.int32)
    sums = np.tile(np.array([[ends.min], [ends.max], [0]], np.int32), (2, 16))
    other = np.zeros((6, 16), np.int8) if second == ADD else NO_OTHER
    out = arrays.codes(6, 16)
    kernels.finish(sums, np.zeros(6, f), arrays.numbers(16, {SCALE: 1, SCALE_2: 1}), second, other, out)
    assert out[:, 0].tolist() == [-128, 127, 0] * 2
    assert (out == out[:, :1]).all()


def test_a_sum_is_clamped_before_something_is_added_but_not_before_it_is_rescaled() -> None:
    sums = np.full((1, 16), 100, np.int32)
    other = np.full((1, 16), 10, np.int8)
    numbers = arrays.numbers(16, {SCALE: 1, LOW: -5, HIGH: 5, SCALE_2: 0.5, OTHER: 2})
    out = arrays.codes(1, 16)
    kernels.finish(sums, np.zeros(1, f), numbers, AGAIN, other, out)
    assert (out == 50).all()
    kernels.finish(sums, np.zeros(1, f), numbers, ADD, other, out)
    assert (out == 22).all(), "2.5 + 20 is rounded to even"
    kernels.finish(sums, np.zeros(1, f), numbers, NONE, other, out)
    assert (out == 5).all()


@some
@given(rows=ROWS, width=WIDTHS, seed=SEEDS)
def test_products_that_no_quantizer_follows_are_floats(rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wide = padded(width)
    sums = rng.integers(-(2**20), 2**20, (rows, wide), dtype=np.int32)
    totals = rng.integers(-6000, 6000, rows).astype(f)
    zeros, scale, shift = rng.integers(-8, 8, wide).astype(f), *rng.normal(size=(2, wide)).astype(f)
    room = Room(rows, wide, arrays.values)
    kernels.finish_values(sums, totals, zeros, scale, shift, room.out)
    wanted = (sums - zeros.astype(np.float64) * totals[:, None]) * scale + shift
    np.testing.assert_allclose(room.unpadded(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("width", [16, 64, 80, 128])
def test_codes_are_packed_alike_on_processors_without_the_instruction(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "has", lambda feature: False)
    rescale_rows, _ = rounding.of("plain", NONE)

    @numba.njit(error_model="numpy", fastmath={"contract", "nsz"})
    def portable(x, nothing, numbers, clamps, out):  # type: ignore[no-untyped-def]
        rescale_rows(x, 0, nothing, nothing, numbers, clamps, 0, x, out, 0)

    rng = np.random.default_rng(width)
    x, numbers = random_codes(rng, rounding.ROWS, width), random_numbers(rng, width, 40, exact=False)
    found, wanted = arrays.codes(len(x), width), arrays.codes(len(x), width)
    portable(x, np.zeros(0, f), numbers, numbers[[LOW, HIGH]].astype(np.int8), found)
    kernels.rescale(x, numbers, wanted)
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(wanted)) > 20


@some
@given(rows=ROWS, inputs=st.integers(1, 60), width=WIDTHS, seed=SEEDS)
def test_sparse_rows_times_a_weight(rows: int, inputs: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.integers(-255, 256, (rows, inputs)) * (rng.random((rows, inputs)) < 0.3)
    at = np.nonzero(dense)
    starts = np.searchsorted(at[0], np.arange(rows + 1)).astype(np.int64)
    weight = random_codes(rng, inputs, width)
    first = int(rng.integers(0, rows + 1))
    last = int(rng.integers(first, rows + 1))
    sums = np.full((last - first + 1, weight.shape[1]), POISON, np.int32)
    totals = np.full(last - first + 1, POISON, f)
    values = dense[at].astype(np.int16)
    kernels.multiply_sparse(starts, at[1].astype(np.int64), values, weight, first, last, sums[:-1], totals)
    np.testing.assert_array_equal(sums[:-1], (dense @ weight.astype(np.int64))[first:last])
    np.testing.assert_array_equal(totals[:-1], dense[first:last].sum(1))
    assert (sums[-1] == POISON).all()
    assert totals[-1] == POISON


def blocks(rng: np.random.Generator, nodes: int) -> Iterator[tuple[int, int]]:
    """All the rows, and a part of them."""
    yield 0, nodes
    first = int(rng.integers(0, nodes + 1))
    yield first, int(rng.integers(first, nodes + 1))


def aggregated(graph: Graph, x: np.ndarray, zero: float, scale: float, shift: float, mean: bool) -> np.ndarray:
    """Sums, or means, of x - zero over neighbours, scaled and shifted, edge by edge."""
    sums = np.zeros((graph.nodes, x.shape[1]), np.int64)
    for source, target in graph.edges.T:
        sums[target] += x[source]
    by = scale / np.maximum(graph.degrees, 1) if mean else np.full(graph.nodes, scale)
    return (sums - graph.degrees[:, None] * float(zero)) * by[:, None] + shift


@pytest.mark.parametrize("mean", [False, True])
@seconds
@some
@given(nodes=ROWS, width=WIDTHS, seed=SEEDS, zero=st.integers(-128, 127), exact=st.booleans())
def test_neighbours_are_added_up(
    second: int, kind: type, mean: bool, nodes: int, width: int, seed: int, zero: int, exact: bool
) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, nodes)
    x, numbers = random_codes(rng, nodes, width), random_numbers(rng, width, 128, exact)
    other = random_others(rng, nodes, width, second, kind)
    scale = f(2.0 ** -rng.integers(1, 4) if exact else rng.uniform(0.01, 0.4))
    shift = f(rng.integers(-80, 80) / 4 if exact else rng.integers(-20, 20))
    for first, last in blocks(rng, nodes):
        room = Room(last - first, width)
        rows = slice(first, last)
        added = other[rows] if second == ADD else other
        scalars = f(zero), scale, shift, mean
        fits = fit(numbers, second, 2.0**31, scale, shift) and added.dtype == np.int8
        assert fits == (kind is np.int8)
        given = graph.starts, graph.sources, x, *scalars, numbers, second
        kernels.aggregate(*given, False, added, first, last, room.out)
        if fits:
            clamped = room.codes().copy()
            room.out[...] = POISON
            kernels.aggregate(*given, True, added, first, last, room.out)
            np.testing.assert_array_equal(room.codes(), clamped)
        v = exactly(aggregated(graph, x[:, :width], zero, float(scale), float(shift), mean)[rows])
        slack = slack_of(exact and not mean)
        assert_within(room.codes(), rounded_twice(v, numbers[:, :width], second, added[:, :width], slack))


@some
@given(seed=SEEDS, second=st.sampled_from([NONE, AGAIN, ADD]), size=st.floats(-9, 9), sums=st.booleans())
def test_values_that_fit_into_32_bits_are_told(seed: int, second: int, size: float, sums: bool) -> None:
    rng = np.random.default_rng(seed)
    numbers = random_numbers(rng, 5, 10.0**size, exact=False)
    other = random_codes(rng, 1, 5)
    v = (2.0**31 if sums else -(2.0**31)) * numbers[SCALE].astype(np.float64) + numbers[SHIFT]
    if second == ADD:
        v = np.clip(np.rint(v), numbers[LOW], numbers[HIGH]) + other[0].astype(np.float64) * numbers[OTHER]
    if second != NONE:
        v = np.rint(v) * numbers[SCALE_2] + numbers[SHIFT_2]
    fits = fit(numbers, second, 2.0**31, numbers[SCALE], numbers[SHIFT])
    assert not fits or (np.abs(v) < 2**31).all()
    assert fits or second == ADD or size < 4, "all but far too large scales fit"


@some
@given(nodes=ROWS, width=WIDTHS, seed=SEEDS, nothing=st.integers(-128, 127))
def test_the_largest_of_neighbours(nodes: int, width: int, seed: int, nothing: int) -> None:
    rng = np.random.default_rng(seed)
    graph, x = random_graph(rng, nodes), random_codes(rng, nodes, width)
    wanted = np.full((nodes, width), nothing, np.int64)
    for node in np.flatnonzero(graph.degrees):
        wanted[node] = x[graph.around(node), :width].max(0)
    for first, last in blocks(rng, nodes):
        room = Room(last - first, width)
        kernels.aggregate_largest(graph.starts, graph.sources, x, np.int8(nothing), width, first, last, room.out)
        np.testing.assert_array_equal(room.codes(), wanted[first:last])


@pytest.mark.parametrize("mean", [False, True])
@seconds
@some
@given(
    nodes=st.integers(0, 24),
    heads=st.integers(1, 3),
    k=st.integers(1, 4),
    columns=st.sampled_from([1, 5, 8, 16, 21]),
    seed=SEEDS,
    exact=st.booleans(),
)
def test_weighted_messages_are_rounded_and_added_up(
    second: int, kind: type, mean: bool, nodes: int, heads: int, k: int, columns: int, seed: int, exact: bool
) -> None:
    rng = np.random.default_rng(seed)
    graph, width = random_graph(rng, nodes), heads * columns
    x, numbers = random_codes(rng, nodes, heads * k * columns), random_numbers(rng, width, 128, exact)
    other = random_others(rng, nodes, width, second, kind)
    weights = rng.integers(0, 64, (graph.edges.shape[1], heads * k)).astype(f) / f(64 if exact else 61)
    x_zero, zero = rng.integers(-128, 127, 2)
    x_scale, inverse = (0.25, 2.0) if exact else (rng.uniform(0.01, 0.1), rng.uniform(5, 20))
    x_scale, inverse = f(x_scale), f(inverse)
    low, high = (-128, 127) if rng.random() < 0.5 else (-8, 7)
    scale, shift = f(0.25 if exact else rng.uniform(0.01, 0.4)), f(rng.integers(-20, 20))

    of_source = ((x[:, : heads * k * columns].astype(np.float64) - x_zero) * float(x_scale)).reshape(
        nodes, heads, k, columns
    )
    sums = np.zeros((2, nodes, width))
    for weight, (source, target) in zip(weights.astype(np.float64), graph.edges.T, strict=True):
        message = (of_source[source] * weight.reshape(heads, k, 1)).sum(1).reshape(width)
        v = exactly(message).scaled(float(inverse), float(zero)).rounded(slack_of(exact)).clamped(low, high)
        sums[:, target] += v.least, v.most
    degrees = graph.degrees[:, None]
    by = float(scale) / np.maximum(degrees, 1) if mean else float(scale)
    v = Span(*(sums - degrees * float(zero))).scaled(by, float(shift))

    weights = weights[graph.order]
    for first, last in blocks(rng, nodes):
        room, rows = Room(last - first, width), slice(first, last)
        added = other[rows] if second == ADD else other
        of_messages = f(x_zero), x_scale, inverse, f(zero), f(low), f(high), scale, shift, mean
        kernels.aggregate_weighted(
            graph.starts, graph.sources, weights, heads, columns, x, *of_messages, numbers, second, added, first, last,
            room.out,
        )  # fmt: skip
        part, slack = Span(v.least[rows], v.most[rows]), slack_of(exact and not mean)
        assert_within(room.codes(), rounded_twice(part, numbers[:, :width], second, added[:, :width], slack))


@pytest.mark.parametrize("mean", [False, True])
@some
@given(graphs=st.integers(0, 6), nodes=ROWS, width=WIDTHS, seed=SEEDS)
def test_nodes_of_graphs_are_added_up(mean: bool, graphs: int, nodes: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, batch, starts, order = random_batch(rng, graphs, nodes, width)
    scale, shift = rng.normal(size=(2, width)).astype(f)
    found = np.full((graphs, width), POISON, f)
    kernels.pool(starts, order, x, scale, shift, mean, found)
    values = x[:, :width] * scale.astype(np.float64) + shift
    for graph in range(graphs):
        of_graph = values[batch == graph]
        wanted = of_graph.sum(0) / (max(len(of_graph), 1) if mean else 1)
        np.testing.assert_allclose(found[graph], wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("one", [True, False])
@some
@given(graphs=st.integers(0, 6), nodes=ROWS, width=WIDTHS, seed=SEEDS)
def test_the_largest_of_nodes_of_graphs(one: bool, graphs: int, nodes: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, batch, starts, order = random_batch(rng, graphs, nodes, width)
    table = np.sort(rng.normal(size=(256, 1 if one else width)).astype(f), axis=0)
    found = np.full((graphs, width), POISON, f)
    kernels.pool_largest(starts, order, x, table, found)
    values = np.take_along_axis(np.broadcast_to(table, (256, width)), x[:, :width].astype(np.int64) + 128, 0)
    for graph in range(graphs):
        of_graph = values[batch == graph]
        np.testing.assert_array_equal(found[graph], of_graph.max(0) if len(of_graph) else np.zeros(width))


def random_batch(
    rng: np.random.Generator, graphs: int, nodes: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes of nodes, their graphs in any order, some without nodes, and nodes by graph."""
    nodes = nodes if graphs else 0
    batch = rng.integers(0, max(graphs, 1), nodes) // 2 * 2
    starts = np.searchsorted(np.sort(batch), np.arange(graphs + 1)).astype(np.int64)
    return random_codes(rng, nodes, width), batch, starts, np.argsort(batch, kind="stable").astype(np.int32)


@some
@given(nodes=ROWS, seed=SEEDS)
def test_edges_are_sorted_by_target(nodes: int, seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes)
    number = graph.edges.shape[1]
    starts, sources, order = np.full(nodes + 1, -1), *np.full((2, number), -1, np.int32)
    assert kernels.by_target(graph.edges[1].copy(), graph.edges[0].copy(), nodes, starts, sources, order)
    np.testing.assert_array_equal(starts, graph.starts)
    np.testing.assert_array_equal(sources, graph.sources)
    np.testing.assert_array_equal(order, graph.order)
    for node in range(nodes):
        np.testing.assert_array_equal(sources[starts[node] : starts[node + 1]], graph.around(node))


@pytest.mark.parametrize("bad", [-1, 5, 2**40, -(2**40)])
@pytest.mark.parametrize("row", [0, 1])
def test_a_node_that_does_not_exist_is_told(bad: int, row: int) -> None:
    edges = np.zeros((2, 6), np.int64)
    edges[row, 5] = bad
    starts, sources, order = np.empty(6, np.int64), *np.empty((2, 6), np.int32)
    assert not kernels.by_target(edges[1], edges[0], 5, starts, sources, order)


@some
@given(width=st.integers(1, 40), seed=SEEDS)
def test_numbers_that_are_not_given_clamp_nothing_and_pad_with_zeros(width: int, seed: int) -> None:
    x = random_codes(np.random.default_rng(seed), 5, width)
    out = arrays.codes(5, width)
    kernels.rescale(x, arrays.numbers(width, {SCALE: 1}), out)
    np.testing.assert_array_equal(out, x)
    kernels.rescale(x, arrays.numbers(width, {SHIFT: np.full(width, 9.0), OTHER: 1}), out)
    np.testing.assert_array_equal(out, widened(np.full((5, width), 9, np.int8)))


@given(rows=st.integers(0, 5), width=st.integers(0, 70))
def test_arrays_begin_at_a_cache_line_and_hold_whole_vectors(rows: int, width: int) -> None:
    for made in (arrays.codes(rows, width), arrays.values(rows, width), arrays.aligned(np.ones((rows, width), f))):
        assert made.ctypes.data % 64 == 0 or not made.size
        assert made.flags.c_contiguous
    assert arrays.codes(rows, width).shape == arrays.values(rows, width).shape == (rows, padded(width))
    assert padded(width) % 16 == 0
    assert width <= padded(width) < width + 16
    assert (arrays.aligned(np.ones((rows, width), f)) == 1).all()
