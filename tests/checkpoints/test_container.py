"""The container: every tensor back bit for bit; every bad file refused in one line that names it."""

from __future__ import annotations

import errno
import gc
import json
import os
import struct
import time
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv

import gnncompress
from gnncompress.checkpoints import (
    inspect_checkpoint,
    load_checkpoint,
    read_state_dict,
    same_bits,
    save_checkpoint,
    streams,
)
from gnncompress.checkpoints.dtypes import LAYOUTS
from gnncompress.checkpoints.index import header as head
from gnncompress.errors import CheckpointError, UsageError
from gnncompress.masks import Mask


def bits(tensor: Tensor) -> bytes:
    flat = tensor.new_empty(tensor.numel()).copy_(tensor.reshape(-1))
    return flat.view(torch.uint8).numpy().tobytes()


def restored(state: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    assert save_checkpoint(state, path) == path.stat().st_size
    return load_checkpoint(path)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any bits in any dtype and shape: NaN payloads, infinities, -0.0, subnormals; a share of zeros among them."""
    dtype = draw(st.sampled_from(sorted(LAYOUTS)))
    layout = LAYOUTS[dtype]
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7))
    width = layout.word * layout.words
    raw = draw(hnp.arrays(np.uint8, (int(np.prod(shape)), width), elements=st.integers(0, 255)))
    raw[np.array(draw(st.lists(st.booleans(), min_size=len(raw), max_size=len(raw))), bool)] = 0
    if dtype == "bool":
        raw &= 1
    if not raw.size:
        return torch.empty(shape, dtype=getattr(torch, dtype))
    return torch.from_numpy(raw.reshape(-1).copy()).view(getattr(torch, dtype)).reshape(shape)


@given(
    state=st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda n: n != "__metadata__"), tensors(), max_size=4)
)
def test_any_tensor_comes_back_bit_for_bit(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> None:
    back = restored(state, tmp_path_factory.mktemp("checkpoint"))
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape)
        assert bits(back[name]) == bits(tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_special_values(dtype: torch.dtype, tmp_path: Path) -> None:
    values = [0.0, -0.0, float("inf"), -float("inf"), float("nan"), -float("nan"), 1e-40, 6e-8, 1.5]
    state = {"values": torch.tensor(values, dtype=dtype), "scalar": torch.tensor(-0.0, dtype=dtype)}
    state["empty"] = torch.empty(0, 3, dtype=dtype)
    state["strange strides"] = torch.from_numpy(np.zeros(0)).to(dtype).as_strided((0,), (0,))
    state["many dimensions"] = torch.arange(4, dtype=dtype).reshape(2, *[1] * 70, 2)
    state["one"] = torch.ones(3, dtype=dtype).as_strided((1,), (0,))
    state["view"] = torch.arange(12, dtype=dtype).reshape(3, 4).t()
    back = restored(state, tmp_path)
    assert all(bits(back[name]) == bits(tensor) for name, tensor in state.items())


def test_nan_payloads(tmp_path: Path) -> None:
    payloads = torch.tensor([0x7F800001, 0x7FC12345, -1, -0x7FFFFFFF - 1], dtype=torch.int32).view(torch.float32)
    assert bits(restored({"w": payloads}, tmp_path)["w"]) == bits(payloads)


def test_same_bits_tells_zeros_and_names_apart() -> None:
    assert same_bits({"a": torch.tensor([float("nan")])}, {"a": torch.tensor([float("nan")])})
    assert not same_bits({"a": torch.tensor(0.0)}, {"a": torch.tensor(-0.0)})
    assert not same_bits({"a": torch.tensor(0.0)}, {"b": torch.tensor(0.0)})
    assert not same_bits({"a": torch.zeros(2)}, {"a": torch.zeros(2, 1)})
    assert not same_bits({"a": torch.zeros(2)}, {"a": torch.zeros(2, dtype=torch.int32)})


def test_file_is_valid_safetensors_and_reproducible(tmp_path: Path) -> None:
    state = {"weight": torch.randn(8, 8), "bias": torch.zeros(8)}
    for name in ("one", "two"):
        save_checkpoint(state, tmp_path / name, {"workload": "digits"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with safe_open(tmp_path / "one", framework="np") as file:
        assert set(file.keys()) == {"streams", "index"}
        assert file.get_tensor("streams").dtype == np.uint8
        assert json.loads(file.metadata()["gnncompress"]) == {"version": 2}
    assert inspect_checkpoint(tmp_path / "one").metadata == {"workload": "digits"}


def test_zero_and_constant_tensors_cost_next_to_nothing(tmp_path: Path) -> None:
    size = save_checkpoint({"zeros": torch.zeros(1000, 1000), "ones": torch.ones(1000, 1000)}, tmp_path / "x")
    assert size < 400


@pytest.mark.parametrize(("sparsity", "paper"), [(0.1, 1.11), (0.5, 1.98), (0.9, 8.98)])
def test_smaller_than_the_papers_values_only_file(sparsity: float, paper: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight = torch.randn(69_143) * 0.1
    weight[torch.randperm(len(weight))[: int(sparsity * len(weight))]] = 0
    assert weight.nbytes / save_checkpoint({"weight": weight}, tmp_path / "x") > paper


def test_modules_and_masks(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    gnncompress.prune(model, sparsity=0.5)
    save_checkpoint(model, tmp_path / "x")
    state = load_checkpoint(tmp_path / "x")
    assert int((state["0.weight"] == 0).sum()) == 8
    assert same_bits(state, gnncompress.make_permanent(model).state_dict())


def test_other_parametrizations_load_into_their_own_model(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))

    model, twin = build(), build()
    save_checkpoint(model, tmp_path / "x")
    twin.load_state_dict(load_checkpoint(tmp_path / "x"))
    assert torch.equal(model[0].weight, twin[0].weight)


@pytest.mark.parametrize("layer", [nn.Linear(4, 4), GCNConv(4, 4), GATConv(4, 2, heads=2)])
def test_a_single_layer_is_a_model_too(layer: nn.Module, tmp_path: Path) -> None:
    plain = set(layer.state_dict())
    gnncompress.prune(layer, sparsity=0.5)
    save_checkpoint(layer, tmp_path / "masked")
    gnncompress.make_permanent(layer)
    save_checkpoint(layer, tmp_path / "permanent")
    assert same_bits(load_checkpoint(tmp_path / "masked"), load_checkpoint(tmp_path / "permanent"))
    assert set(load_checkpoint(tmp_path / "masked")) == plain


def test_inspection(tmp_path: Path) -> None:
    save_checkpoint({"w": torch.tensor([[0.0, -0.0, 1.0, 0.0]], dtype=torch.float64)}, tmp_path / "x")
    info = inspect_checkpoint(tmp_path / "x")
    (tensor,) = info.tensors
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.dense) == ("w", "float64", (1, 4), 32)
    assert tensor.sparsity == 0.5, "-0.0 is stored, so it is not a zero here"
    assert tensor.limit == (4 * 1 + 2 * (53 + 1)) / 8
    assert tensor.bits == 8 * tensor.stored / 4
    assert (info.size, info.dense, info.version) == ((tmp_path / "x").stat().st_size, 32, 2)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint({"weight": torch.randn(20, 20) * (torch.rand(20, 20) < 0.5), "bias": torch.ones(3)}, tmp_path / "x")
    return tmp_path / "x"


def test_every_truncation_is_refused(packed: Path) -> None:
    content = packed.read_bytes()
    for length in range(len(content)):
        packed.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=str(packed)):
            load_checkpoint(packed)


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = {"weight": torch.randn(16, 16) * (torch.rand(16, 16) < 0.5)}
    path = tmp_path / "x"
    save_checkpoint(state, path, {"workload": "digits"})
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=str(path)) as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)


def forged(path: Path, tensors: Any, lengths: Any, streams: bytes = b"\x01") -> Path:
    """Write a file whose index says ``tensors`` and ``lengths``; lengths and checksums of the container are right."""
    content = json.dumps({"tensors": tensors, "streams": lengths, "user": {}}).encode()
    frame = zstandard.ZstdCompressor().compress(content)
    index = struct.pack("<I", zlib.crc32(frame)) + frame
    path.write_bytes(head(len(streams), len(index)) + streams + index)
    return path


@pytest.mark.parametrize(
    ("tensors", "lengths", "message"),
    [
        ([["w", "float32", [4], 0]], [[1, 0]], r"tensor 'w' is damaged \(its checksum differs\)"),
        ([["w", "os.system", [4], 0]], [[1, 0]], "tensor 'w' has the unknown dtype 'os.system'"),
        ([["w", "float32", [-1], 0]], [[1, 0]], "the index is damaged"),
        ([["w", "float32", [4], -1]], [[1, 0]], "the index is damaged"),
        ([["w", "float32", [4], 1]], [[1, 0]], "there is no stream for tensor 'w'"),
        ([["w", "float32", [4], 0]], [[-1, 0]], "the index is damaged"),
        ([["w", "float32", [4], 0]], [[2, 0]], "the streams do not have the length that the index says"),
        ([["w", "float32", [4], 0]], [[2**70, 0]], "the streams do not have the length that the index says"),
        ([["w", "float32", [10**30], 0]], [[1, 0]], r"tensor 'w' has the impossible shape \[1000"),
        ([["w", "float32", [2**63, 0], 0]], [[1, 0]], "impossible shape"),
        ([["w", "float32", [2**40], 0]], [[1, 0]], r"says to unpack to 4,398.* bytes, more than the 268,.*; .*max"),
        ([["w", "float32", [4], 0], ["w", "float32", [4], 0]], [[1, 0]], "there are two tensors 'w'"),
        ([["w", "float32", [4], 0], ["v", "float16", [4], 0]], [[1, 0]], "a stream holds tensors of one dtype"),
        ([["w", "float32", [4], 0]], [[1, 0], [0, 0]], "tensor .* is damaged"),
        ([["w", "float32", [4]]], [[1, 0]], "the index is damaged"),
        ("nothing", [[1, 0]], "the index is damaged"),
    ],
)
def test_forged_indices_are_refused(tensors: Any, lengths: Any, message: str, tmp_path: Path) -> None:
    path = forged(tmp_path / "x", tensors, lengths)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    frame = zstandard.ZstdCompressor().compress(b'{"tensors": [], "streams": [], "user": {"a": "\xff"}}')
    index = struct.pack("<I", zlib.crc32(frame)) + frame
    (tmp_path / "x").write_bytes(head(0, len(index)) + index)
    with pytest.raises(CheckpointError, match="the index is damaged"):
        load_checkpoint(tmp_path / "x")


def test_an_index_that_explodes_is_refused(tmp_path: Path) -> None:
    frame = zstandard.ZstdCompressor().compress(b" " * (300 << 20))
    index = struct.pack("<I", zlib.crc32(frame)) + frame
    (tmp_path / "x").write_bytes(head(0, len(index)) + index)
    with pytest.raises(CheckpointError, match=r"the index is damaged \(it says to hold 314,572,800 bytes"):
        load_checkpoint(tmp_path / "x")


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ({"version": 3, "streams": "of another kind"}, "written in format 3, this gnncompress reads up to 2; upgrade"),
        ("no json", "damaged: its version cannot be read"),
        ({"version": 2}, "damaged: it must hold the tensors streams and index"),
        ({"version": 1}, "damaged"),
    ],
)
def test_other_versions_are_refused(mark: Any, message: str, tmp_path: Path) -> None:
    text = mark if isinstance(mark, str) else json.dumps(mark)
    (tmp_path / "x").write_bytes(save({"w": torch.ones(1)}, {"gnncompress": text}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "x")


def test_what_a_file_may_unpack_to_is_bounded(tmp_path: Path) -> None:
    save_checkpoint({"zeros": torch.zeros(70 << 20)}, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"says to unpack to 293,601,280 bytes, more than the 268,.* allowed"):
        load_checkpoint(tmp_path / "x")
    assert load_checkpoint(tmp_path / "x", max_bytes=300 << 20)["zeros"].shape == (70 << 20,)
    save_checkpoint({"w": torch.ones(4)}, tmp_path / "y")
    with pytest.raises(CheckpointError, match="says to unpack to 16 bytes, more than the 15 allowed"):
        load_checkpoint(tmp_path / "y", max_bytes=15)


def test_short_vectors_share_a_stream_and_keep_their_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {f"layers.{i}.{name}": torch.randn(64) for i in range(20) for name in ("weight", "bias")}
    state["layers.0.bias"] = torch.randn(64, dtype=torch.float64)
    state["matrix.weight"] = torch.randn(64, 2)
    size = save_checkpoint(state, tmp_path / "x")
    back = load_checkpoint(tmp_path / "x")
    assert list(back) == list(state)
    assert same_bits(back, state)
    info = inspect_checkpoint(tmp_path / "x")
    assert [tensor.name for tensor in info.tensors] == list(state)
    assert size - sum(tensor.stored for tensor in info.tensors) < 480, "header and index"
    assert size < sum(save_checkpoint({name: t}, tmp_path / "y") for name, t in state.items()) - 5_000


DATA = Path(__file__).parent / "data"


def test_a_version_1_file_always_loads() -> None:
    assert same_bits(load_checkpoint(DATA / "version1.safetensors"), torch.load(DATA / "version1.pt"))
    info = inspect_checkpoint(DATA / "version1.safetensors")
    assert (info.version, info.metadata) == (1, {"workload": "digits"})
    assert info.size == (DATA / "version1.safetensors").stat().st_size


def test_damage_in_a_version_1_file_is_refused_or_harmless(tmp_path: Path) -> None:
    content, path = (DATA / "version1.safetensors").read_bytes(), tmp_path / "x"
    before = list(load_checkpoint(DATA / "version1.safetensors").values())
    refused = 0
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            back = load_checkpoint(path)
        except CheckpointError:
            refused += 1
            continue
        # What a flip may still change there is the header's free text: a name, or white space.
        assert [bits(tensor) for tensor in back.values()] == [bits(tensor) for tensor in before]
    assert refused > len(content) / 6
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="says to unpack to"):
        load_checkpoint(path, max_bytes=100)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    save_checkpoint({"w": torch.ones(4)}, path)
    before = path.read_bytes()

    encode, calls = streams.encode, 0

    def full(*arguments: Any) -> bytes:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return encode(*arguments)

    monkeypatch.setattr(streams, "encode", full)
    with pytest.raises(CheckpointError, match=r"x: cannot be written \(No space left on device\)"):
        save_checkpoint({"w": torch.rand(9, 9), "v": torch.rand(9, 9)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_must_be_json(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"a": deep}
    for metadata in ({"a": object()}, {"a": float("nan")}, {"a": "\ud800"}, deep):
        with pytest.raises(CheckpointError, match=r"x: names and metadata cannot be written"):
            save_checkpoint({"w": torch.ones(4)}, tmp_path / "x", metadata)
    with pytest.raises(CheckpointError, match=r"x: names and metadata cannot be written"):
        save_checkpoint({"\ud800": torch.ones(4)}, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"they take .* bytes, more than a reader accepts"):
        save_checkpoint({"w": torch.ones(4)}, tmp_path / "x", {"a": " " * (17 << 20)})
    assert list(tmp_path.iterdir()) == []


def test_names_are_shown_as_they_may_be_printed(tmp_path: Path) -> None:
    for name in ("a\nb\x1b[2J", "n" * 5000):
        path = forged(tmp_path / "x", [[name, "float32", [4], 0]], [[1, 0]])
        with pytest.raises(CheckpointError, match="is damaged") as caught:
            load_checkpoint(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400


def test_many_names_are_read_in_no_time(tmp_path: Path) -> None:
    tensors = [[str(number), "float32", [0], 0] for number in range(60_000)] + [["0", "float32", [0], 0]]
    path = forged(tmp_path / "x", tensors, [[1, 0]])
    started = time.process_time()
    with pytest.raises(CheckpointError, match=r"there are two tensors '0'|says to hold"):
        load_checkpoint(path)
    assert time.process_time() - started < 10, "quadratic time would be minutes"


@pytest.mark.parametrize("version", [1, 2])
def test_streams_must_be_rows_of_bytes(version: int, tmp_path: Path) -> None:
    about = {"version": version, "tensors": {"streams": {"dtype": "float32", "shape": [1], "crc": 0}}, "user": {}}
    tensors = {"streams": torch.ones((), dtype=torch.bfloat16), "index": torch.ones(1, dtype=torch.uint8)}
    (tmp_path / "x").write_bytes(save(tensors, {"gnncompress": json.dumps(about)}))
    with pytest.raises(CheckpointError, match="x: damaged: "):
        load_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("shape", [[2**63, 0], [2**40] * 10 + [0], [1] * 300])
def test_impossible_shapes_of_version_1_are_refused(shape: list[int], tmp_path: Path) -> None:
    about = {"version": 1, "tensors": {"w": {"dtype": "float32", "shape": shape, "crc": 0}}, "user": {}}
    (tmp_path / "x").write_bytes(save({"w": torch.ones(1, dtype=torch.uint8)}, {"gnncompress": json.dumps(about)}))
    with pytest.raises(CheckpointError, match="tensor 'w' has the impossible shape"):
        load_checkpoint(tmp_path / "x")


def test_one_masked_weight_at_a_time_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(*[nn.Linear(30, 30) for _ in range(6)])
    gnncompress.prune(model, sparsity=0.5)
    alive: list[weakref.ref[Tensor]] = []
    encode, most = streams.encode, 0

    def watched(*arguments: Any) -> bytes:
        nonlocal most
        gc.collect()
        most = max(most, sum(reference() is not None for reference in alive))
        return encode(*arguments)

    def counted(self: Any, weight: Tensor) -> Tensor:
        alive.append(weakref.ref(result := torch.where(self.keep, weight, torch.zeros(()))))
        return result

    monkeypatch.setattr(streams, "encode", watched)
    monkeypatch.setattr(Mask, "forward", counted)
    save_checkpoint(model, tmp_path / "x")
    assert len(alive) >= 6
    assert most <= 2


@pytest.mark.parametrize("name", ["version2-small", "version2-fast"])
def test_version_2_files_always_load(name: str) -> None:
    assert same_bits(load_checkpoint(DATA / f"{name}.safetensors"), torch.load(DATA / "version2.pt"))
    assert inspect_checkpoint(DATA / f"{name}.safetensors").metadata == {"workload": "digits"}


@pytest.mark.parametrize("codec", ["small", "fast", "auto"])
def test_codecs_give_the_same_tensors(codec: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {"w": torch.randn(300, 40) * (torch.rand(300, 40) < 0.2), "t": torch.randn(7, 5).t()}
    save_checkpoint(state, tmp_path / "x", codec=codec)
    assert same_bits(load_checkpoint(tmp_path / "x"), state)


def test_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(save({"w": torch.ones(2)}))
    with pytest.raises(CheckpointError, match=r"foreign: not a gnncompress checkpoint; pack it first"):
        load_checkpoint(tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="missing: no such file"):
        load_checkpoint(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="a folder, not a file"):
        load_checkpoint(tmp_path)
    torch.save({"w": torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt: a torch\.save file; pack it first"):
        load_checkpoint(tmp_path / "model.pt")


def test_what_cannot_be_packed_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown codec 'smal'; did you mean small"):
        save_checkpoint({"w": torch.ones(2)}, tmp_path / "x", codec="smal")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="the name 0 is a int, not a string"):
        save_checkpoint({0: torch.ones(2)}, tmp_path / "x")  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match="a int is no model and no state_dict"):
        save_checkpoint(3, tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="entry 'epoch' is a int, not a tensor"):
        save_checkpoint({"epoch": 3}, tmp_path / "x")  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match=r"entry 'w' is a torch\.sparse_coo tensor"):
        save_checkpoint({"w": torch.eye(2).to_sparse()}, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"entry 'w' is on the meta device and has no values"):
        save_checkpoint({"w": torch.ones(2, device="meta")}, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"entry 'weight' has no shape yet"):
        save_checkpoint(nn.LazyLinear(2), tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"nowhere.*cannot be written"):
        save_checkpoint({"w": torch.ones(2)}, tmp_path / "nowhere" / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read", [load_checkpoint, read_state_dict, inspect_checkpoint])
def test_what_is_no_file_is_not_waited_for(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(CheckpointError, match=rf"{name}: cannot be read \(a {name}, not a file\)"):
            read(tmp_path / name)


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match=r"pipe: cannot be written \(a pipe, not a file\)"):
        save_checkpoint({"x": torch.ones(2)}, tmp_path / "pipe")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
