"""Runs every operation with each thing that it reads damaged, and every array of a kernel beside pages without access.

A script, since a kernel that touches such a page ends its process. Prints a line a case, its name before it runs and
then how it ended: refused; ran, if the result is that of what is not damaged; or what else happened. Arguments are the
only operations to run.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from gnncompress.errors import ExecutionError
from gnncompress.runtime import executor, features, float_kernels, kernels, products
from gnncompress.runtime.aggregation import Aggregate, Edges, Largest, Pool, PoolLargest, Weighted
from gnncompress.runtime.arrays import numbers
from gnncompress.runtime.coefficients import Attention, Normalized, Scale, Splines, WeightedNeighbours
from gnncompress.runtime.executor import Context, Plan
from gnncompress.runtime.floating import FloatAggregate, FloatLinear, Rows
from gnncompress.runtime.graphs import Neighbours
from gnncompress.runtime.operations import Add, Linear, LookUp, Quantize, Rescale, Values
from gnncompress.runtime.program import Operation, Program
from gnncompress.runtime.rounding import ADD, AGAIN, LOW, LOW_2, OTHER, SCALE, SCALE_2
from gnncompress.runtime.sparse import Pattern, SparseCodes
from gnncompress.runtime.vectors import padded

AS_IT_IS = "as it is"
_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
ROWS, WIDTH, OUTPUTS, EDGES, HEADS, KERNELS = 150, 20, 9, 300, 3, 2
rng = np.random.default_rng(0)


def guarded(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy that ends where a page begins that must not be touched, or begins where one ends."""
    inner = -(-max(array.nbytes, 1) // _PAGE) * _PAGE
    memory = mmap.mmap(-1, inner + 2 * _PAGE)
    exported = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(exported)
    for page in (address, address + _PAGE + inner):
        if _libc.mprotect(ctypes.c_void_p(page), _PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = _PAGE + (inner - array.nbytes if at_end else 0)
    copy = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    copy[...] = array
    return copy


def guard_kernels(at_end: list[bool]) -> None:
    """Let every kernel work on guarded copies of its arrays."""

    def guard(module: ModuleType, name: str, kernel: Callable[..., Any]) -> None:
        def call(*given: Any) -> Any:
            copies = [guarded(one, at_end[0]) if isinstance(one, np.ndarray) else one for one in given]
            result = kernel(*copies)
            for one, copy in zip(given, copies, strict=True):
                if isinstance(one, np.ndarray) and one.flags.writeable:
                    one[...] = copy
            return result

        setattr(module, name, call)

    for module in (kernels, float_kernels, features, products):
        for name, kernel in list(vars(module).items()):
            if hasattr(kernel, "py_func") and "inline" not in kernel.targetoptions:
                guard(module, name, kernel)


@dataclass(frozen=True, eq=False)
class Given(Operation):
    """Makes a register of anything, as an operation that is wrong, or a function of a user's, might."""

    value: Any

    by_row = False

    def run(self, env: Mapping[str, Any], workspace: Any) -> Any:
        """Return it."""
        return self.value() if callable(self.value) else self.value


def codes(width: int = WIDTH, rows: int = ROWS) -> np.ndarray:
    return rng.integers(-128, 128, (rows, padded(width)), dtype=np.int8)


def floats(width: int = WIDTH, rows: int = ROWS) -> np.ndarray:
    return rng.normal(size=(rows, width)).astype(np.float32)


def neighbours(kind: type = Neighbours, nodes: int = ROWS, weights_of: int = HEADS * KERNELS, **changed: Any) -> Any:
    """What makes neighbours of which parts are changed."""
    made: dict[str, Any] = {
        "starts": np.linspace(0, EDGES, nodes + 1).astype(np.int64),
        "sources": (np.arange(EDGES) * 7 % nodes).astype(np.int32),
        "order": np.arange(EDGES, dtype=np.int32),
    }
    if kind is WeightedNeighbours:
        made["weights"] = np.linspace(-1, 1, EDGES * weights_of, dtype=np.float32).reshape(EDGES, weights_of)
    made |= {name: change(made[name]) for name, change in changed.items()}
    return lambda: kind(**made)


def sparse_codes(width: int = WIDTH, rows: int = ROWS, **changed: Any) -> Any:
    made: dict[str, Any] = {
        "starts": np.linspace(0, EDGES, rows + 1).astype(np.int64),
        "columns": np.arange(EDGES) * 7 % WIDTH,
        "values": (np.arange(EDGES) * 11 % 511 - 255).astype(np.int16),
    }
    made |= {name: change(made[name]) for name, change in changed.items()}
    return lambda: SparseCodes(Pattern(made["starts"], made["columns"], width), made["values"])


def csr(**changed: Any) -> torch.Tensor:
    given: dict[str, Any] = {
        "crow": torch.linspace(0, EDGES, ROWS + 1).long(),
        "col": torch.arange(EDGES) * 7 % WIDTH,
        "values": torch.arange(EDGES) % 5.0,
        "rows": ROWS,
    }
    given |= {name: change(given[name]) for name, change in changed.items()}
    shape = given["rows"], WIDTH
    return torch.sparse_csr_tensor(given["crow"], given["col"], given["values"], shape, check_invariants=False)


def past(array: Any) -> Any:
    """The last number beyond all there are."""
    changed = array.copy() if isinstance(array, np.ndarray) else array.clone()
    changed[-1] = 10**6
    return changed


def below(array: Any) -> Any:
    changed = array.copy() if isinstance(array, np.ndarray) else array.clone()
    changed[len(changed) // 2] = -1
    return changed


def damaged_array(array: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Each way in which an array may be wrong."""
    yield "short", np.ascontiguousarray(array[:-1])
    yield "long", np.concatenate([array, array[-1:]])
    if array.ndim > 1:
        for columns in (1, 16):
            yield f"{columns} narrower", np.ascontiguousarray(array[..., :-columns])
            yield f"{columns} wider", np.concatenate([array, array[..., :columns]], -1)
        yield "flat", array.reshape(-1)
        yield "by column", np.asfortranarray(array)
    yield "deep", array[..., np.newaxis].copy()
    yield "a step apart", np.repeat(array, 2, 0)[::2]
    for kind in (np.int8, np.int16, np.int64, np.uint8, np.float32, np.float64):
        if array.dtype != kind:
            yield np.dtype(kind).name, array.astype(kind)
    yield "swapped", array.astype(array.dtype.newbyteorder("S")) if array.itemsize > 1 else None
    yield "nothing", None
    yield "a list", array.tolist()
    yield "empty", array[:0].copy()


def damaged_tensor(x: torch.Tensor) -> Iterator[tuple[str, Any]]:
    yield "short", x[:-1]
    yield "long", torch.cat([x, x[-1:]])
    if x.dim() > 1:
        yield "narrower", x[:, :-1]
        yield "wider", torch.cat([x, x[:, :1]], 1)
        yield "flat", x.flatten()
        yield "turned", x.t()
    yield "deep", x.unsqueeze(-1)
    yield "one", x.flatten()[0]
    for kind in (torch.bool, torch.uint8, torch.float16, torch.float64, torch.int32, torch.int64, torch.complex64):
        if x.dtype != kind:
            yield str(kind), x.to(kind)
    yield "sparse", x.to_sparse()
    yield "on meta", x.to("meta")
    yield "nothing", None
    yield "a list", x.tolist()
    yield "an array", x.numpy()
    yield "a step apart", x.repeat_interleave(2, 0)[::2]
    yield "nested", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


INDICES: dict[str, Callable[[Any], Any]] = {
    "short": lambda one: one[:-1].copy(),
    "long": lambda one: np.concatenate([one, one[-1:]]),
    "past": past,
    "below": below,
    "deep": lambda one: one[:, np.newaxis].copy(),
    "int16": lambda one: one.astype(np.int16),
    "a step apart": lambda one: np.repeat(one, 2)[::2],
    "empty": lambda one: one[:0].copy(),
}


def damaged_neighbours(kind: type) -> Iterator[tuple[str, Any]]:
    for part in ("starts", "sources", "order") + (("weights",) if kind is WeightedNeighbours else ()):
        for how, change in INDICES.items():
            if not (part in ("order", "weights") and how in ("past", "below")):
                yield f"{part} {how}", neighbours(kind, **{part: change})
    yield "fewer nodes", neighbours(kind, ROWS - 1)
    yield "more nodes", neighbours(kind, ROWS + 1)
    yield "others", codes()
    yield "nothing", None
    if kind is WeightedNeighbours:
        yield "no weights", neighbours(Neighbours)
        yield "fewer weights", neighbours(kind, weights_of=HEADS * KERNELS - 1)
        yield "more weights", neighbours(kind, weights_of=HEADS * KERNELS + HEADS)
        yield "weights float64", neighbours(kind, weights=lambda one: one.astype(np.float64))
        yield "weights by column", neighbours(kind, weights=np.asfortranarray)


def damaged_codes() -> Iterator[tuple[str, Any]]:
    for part in ("starts", "columns", "values"):
        for how, change in INDICES.items():
            if part != "values" or how not in ("past", "below", "int16"):
                yield f"{part} {how}", sparse_codes(**{part: change})
    yield "fewer columns", sparse_codes(WIDTH - 1)
    yield "more columns", sparse_codes(WIDTH + 1)
    yield "values int32", sparse_codes(values=lambda one: one.astype(np.int32))


def damaged_csr() -> Iterator[tuple[str, Any]]:
    for part in ("crow", "col", "values"):
        yield f"{part} short", csr(**{part: lambda one: one[:-1]})
        yield f"{part} long", csr(**{part: lambda one: torch.cat([one, one[-1:]])})
        yield f"{part} empty", csr(**{part: lambda one: one[:0]})
        if part != "values":
            yield f"{part} past", csr(**{part: past})
            yield f"{part} below", csr(**{part: below})
    yield "more rows", csr(rows=lambda rows: rows + 200)
    yield "fewer rows", csr(rows=lambda rows: rows - 1)
    yield "COO", torch.rand(ROWS, WIDTH).to_sparse()
    yield "CSC", torch.rand(ROWS, WIDTH).to_sparse_csc()
    yield "CSR of whole numbers", csr(values=lambda one: one.long())
    yield "CSR of float64", csr(values=lambda one: one.double())


def operations() -> Iterator[tuple[Operation, dict[str, Any]]]:
    """Every operation, with what it reads."""
    # Whole numbers, which are the same in all types.
    x, edges = torch.randint(0, 2, (ROWS, WIDTH)).float(), torch.randint(0, ROWS, (2, EDGES))
    kinds: dict[str, Any] = {
        "x": x,
        "edge_index": edges,
        "edge_weight": torch.randint(0, 2, (EDGES,)).float(),
        "pseudo": torch.randint(0, 2, (EDGES, 2)).float(),
        "batch": torch.arange(ROWS) // 5,
        "csr": csr(),
        "codes": codes(),
        "more": codes(OUTPUTS),
        "wide": codes(HEADS * KERNELS * OUTPUTS),
        "of heads": codes(HEADS * OUTPUTS),
        "floats": rng.integers(0, 2, (ROWS, WIDTH)).astype(np.float32),
        "more floats": floats(OUTPUTS),
        "wide floats": floats(HEADS * KERNELS * OUTPUTS),
        "sparse": sparse_codes(),
        "edges": neighbours(),
        "weighted": neighbours(WeightedNeighbours, weights_of=HEADS * KERNELS),
        "lone": neighbours(WeightedNeighbours, weights_of=1),
    }
    table8 = rng.integers(-128, 128, (256, padded(WIDTH)), dtype=np.int8)
    table32 = floats(padded(WIDTH), 256)
    weight = np.zeros((padded(WIDTH), padded(OUTPUTS)), np.int8)
    weight[:WIDTH, :OUTPUTS] = rng.integers(-128, 128, (WIDTH, OUTPUTS))
    of_width = numbers(WIDTH, {SCALE: 0.5, LOW: -100, SCALE_2: 0.5, OTHER: 0.5, LOW_2: -90})
    of_outputs = numbers(OUTPUTS, {SCALE: 0.01, LOW: -100, SCALE_2: 0.5, OTHER: 0.5, LOW_2: -90})
    of_heads = numbers(HEADS * OUTPUTS, {LOW: -100, SCALE_2: 0.5, OTHER: 0.5, LOW_2: -90})
    product = weight, WIDTH, 3, of_outputs, OUTPUTS
    grid = Scale(0.1, 0, -128, 127)
    messages = HEADS, OUTPUTS, 0.0, 0.1, 0.1, 0.0, -128.0, 127.0, 0.5, 0.0
    dense, bias = floats(OUTPUTS, WIDTH), rng.normal(size=OUTPUTS).astype(np.float32)
    zeros = np.ascontiguousarray(dense.T) * (rng.random((OUTPUTS, WIDTH)) < 0.2)
    rows = csr_array(zeros.astype(np.float32))
    ones = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    for operation in (
        Quantize("out", "x", 0.1, 0, -128, 127, WIDTH),
        Quantize("out", "csr", 0.1, 0, -128, 127, WIDTH),
        Quantize("out", "floats", 0.1, 0, -128, 127, WIDTH),
        Rescale("out", "codes", of_width),
        LookUp("out", "codes", table8, WIDTH),
        Add("out", "codes", "codes", of_width),
        Add("out", "codes", "floats", of_width),
        Linear("out", "codes", *product),
        Linear("out", "sparse", *product),
        Linear("out", "codes", *product, AGAIN),
        Linear("out", "codes", *product, ADD, "more"),
        Linear("out", "sparse", *product, ADD, "more floats"),
        Linear("out", "codes", *product[:3], of_outputs[:3], OUTPUTS, floats=True),
        Values("out", "codes", table32, WIDTH),
        Edges("out", "edge_index", "codes"),
        Aggregate("out", "edges", "codes", 1.0, 0.3, 2.0, True, of_width),
        Aggregate("out", "edges", "codes", 1.0, 0.3, 2.0, False, of_width, AGAIN),
        Aggregate("out", "edges", "codes", 1.0, 0.3, 2.0, False, of_width, ADD, "floats"),
        Largest("out", "edges", "codes", 0, WIDTH),
        Weighted("out", "weighted", "wide", *messages, True, of_heads),
        Weighted("out", "weighted", "wide", *messages, False, of_heads, ADD, "of heads"),
        Pool("out", "codes", "batch", True, *ones),
        PoolLargest("out", "codes", "batch", table32, WIDTH),
        Normalized("out", "edge_index", "edge_weight", "codes", False, True, None),
        Attention("out", "edge_index", "codes", 0.1, 0.0, floats(10, 4).reshape(2, 2, 10), 0.2, True, None),
        Attention("out", "edge_index", "floats", 1.0, 0.0, floats(10, 4).reshape(2, 2, 10), 0.2, False, None),
        Splines("out", "edge_index", "pseudo", "codes", (2, 3), (True, False), 1, grid),
        Rows("out", "x", WIDTH),
        Rows("out", "floats", WIDTH),
        FloatLinear("out", "x", dense, bias),
        FloatLinear("out", "csr", dense, bias),
        FloatLinear("out", "floats", dense, bias, (rows.indptr, rows.indices, rows.data)),
        FloatAggregate("out", "edges", "x", True),
        FloatAggregate("out", "lone", "floats", False),
        FloatAggregate("out", "weighted", "wide floats", True, HEADS, OUTPUTS),
    ):  # fmt: skip
        yield operation, {name: kinds[name] for name in dict.fromkeys((*operation.own(), *operation.whole()))}


def damaged(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if name in ("edges", "weighted", "lone"):
        return damaged_neighbours(Neighbours if name == "edges" else WeightedNeighbours)
    if name == "sparse":
        return damaged_codes()
    if name == "csr":
        return damaged_csr()
    return damaged_tensor(value) if isinstance(value, torch.Tensor) else damaged_array(value)


def run(operation: Operation, given: Mapping[str, Any], **changed: Any) -> Any:
    operation = replace(operation, **changed)
    made = tuple(Given(name, value) for name, value in given.items())
    return Plan(Program((*made, operation), (), "out"), Context()).run({})


def cases() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each case, all of one operation after the one that is not damaged."""
    for operation, given in operations():
        if type(operation).__name__ not in (sys.argv[1:] or [type(operation).__name__]):
            continue
        what = f"{type(operation).__name__}({', '.join(given)})"
        yield f"{what} {AS_IT_IS}", partial(run, operation, given)
        for name, value in given.items():
            for how, changed in damaged(name, value):
                yield f"{what} {name} {how}", partial(run, operation, {**given, name: changed})
        for field in fields(operation):
            for how, changed in damaged_constant(getattr(operation, field.name)):
                yield f"{what} .{field.name} {how}", partial(run, operation, given, **{field.name: changed})


def damaged_constant(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, np.ndarray):
        yield from damaged_array(value)
    elif isinstance(value, tuple) and isinstance(value[0], np.ndarray):
        for at, part in enumerate(value):
            for how, change in INDICES.items():
                if at < 2 or how not in ("past", "below"):
                    yield f"part {at} {how}", (*value[:at], change(part), *value[at + 1 :])


def is_alike(found: Any, wanted: Any) -> bool:
    """Say whether two results are the same, in the rows and columns that both have."""
    if isinstance(found, Neighbours):
        parts = [name for name in ("starts", "sources", "weights") if hasattr(wanted, name)]
        if len(found.sources) != len(wanted.sources):
            return False
        return all(
            is_alike(torch.from_numpy(getattr(found, part)), torch.from_numpy(getattr(wanted, part))) for part in parts
        )
    if isinstance(found, SparseCodes):
        return bool((found.values == wanted.values).all())
    common = tuple(slice(min(sizes)) for sizes in zip(found.shape, wanted.shape, strict=True))
    return found.dtype == wanted.dtype and torch.allclose(found[common].double(), wanted[common].double(), 1e-5, 1e-5)


def main() -> None:
    """Run all cases: arrays at the end of memory on one thread, and at its beginning in blocks on two."""
    torch.manual_seed(0)
    at_end, wanted = [True], {}
    guard_kernels(at_end)
    whole = executor._BLOCK_BYTES
    for name, case in cases():
        print(name, end=": ", flush=True)
        ended = set()
        for at_end[0], threads, executor._BLOCK_BYTES in ((True, 1, whole), (False, 2, 1)):
            torch.set_num_threads(threads)
            try:
                found = case()
                if name.endswith(AS_IT_IS):
                    wanted[threads] = found
                ended.add("ran" if is_alike(found, wanted[threads]) else "another result")
            except ExecutionError as error:
                ended.add("refused" if "\n" not in str(error) else "refused in several lines")
            except Exception as error:
                ended.add(f"{type(error).__name__} {' '.join(str(error).split())[:200]}")
        print(", then ".join(sorted(ended)), flush=True)


if __name__ == "__main__":
    main()
