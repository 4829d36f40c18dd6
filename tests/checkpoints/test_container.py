"""The container: every tensor back bit for bit; every bad file refused in one line that names it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv

import gnncompress
from gnncompress.checkpoints import inspect_checkpoint, load_checkpoint, same_bits, save_checkpoint
from gnncompress.checkpoints.dtypes import LAYOUTS
from gnncompress.errors import CheckpointError


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


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
        assert set(file.keys()) == {"weight", "bias"}
        assert file.get_tensor("weight").dtype == np.uint8
        assert json.loads(file.metadata()["gnncompress"])["version"] == 1
    assert inspect_checkpoint(tmp_path / "one").metadata == {"workload": "digits"}


def test_zero_and_constant_tensors_cost_next_to_nothing(tmp_path: Path) -> None:
    size = save_checkpoint({"zeros": torch.zeros(1000, 1000), "ones": torch.ones(1000, 1000)}, tmp_path / "x")
    assert size < 500


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
    assert (info.size, info.dense, info.version) == ((tmp_path / "x").stat().st_size, 32, 1)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint({"weight": torch.randn(40, 40) * (torch.rand(40, 40) < 0.5), "bias": torch.ones(3)}, tmp_path / "x")
    return tmp_path / "x"


def test_every_truncation_is_refused(packed: Path) -> None:
    content = packed.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, *range(200, len(content), 97), len(content) - 1]:
        packed.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=str(packed)):
            load_checkpoint(packed)


@given(data=st.data())
def test_no_flipped_bit_goes_unnoticed(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("flip") / "x"
    torch.manual_seed(1)
    state = {"weight": torch.randn(16, 16) * (torch.rand(16, 16) < 0.5)}
    save_checkpoint(state, path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    error = None
    try:
        back = load_checkpoint(path)
    except CheckpointError as caught:
        error = str(caught)
    if error is None:  # what a flip may still change is the header's free text: a name, or white space
        assert [bits(tensor) for tensor in back.values()] == [bits(tensor) for tensor in state.values()]
    else:
        assert str(path) in error
        assert "\n" not in error


def forged(path: Path, about: Any, streams: dict[str, bytes]) -> Path:
    tensors = {name: torch.frombuffer(bytearray(stream), dtype=torch.uint8) for name, stream in streams.items()}
    path.write_bytes(save(tensors, {"gnncompress": about if isinstance(about, str) else json.dumps(about)}))
    return path


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"version": 2, "streams": "of another kind"}, "written in format 2, this gnncompress reads up to 1; upgrade"),
        ("no json", "damaged"),
        ({"version": 1}, "damaged"),
        ({"version": 1, "tensors": {"other": {"dtype": "float32", "shape": [1], "crc": 0}}, "user": {}}, "damaged"),
        ({"version": 1, "tensors": {"w": {"dtype": "os.system", "shape": [1], "crc": 0}}, "user": {}}, "unknown dtype"),
        ({"version": 1, "tensors": {"w": {"dtype": "float32", "shape": [-1], "crc": 0}}, "user": {}}, "damaged"),
        ({"version": 1, "tensors": {"w": {"dtype": "float32", "shape": [10**30], "crc": 0}}, "user": {}}, "damaged"),
        ({"version": 1, "tensors": {"w": {"dtype": "float32", "shape": [4], "crc": 0}}, "user": {}}, "damaged"),
    ],
)
def test_forged_metadata_is_refused(about: Any, message: str, tmp_path: Path) -> None:
    path = forged(tmp_path / "x", about, {"w": struct.pack("<BQ", 0, 1) + b"\x0f"})
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(save({"w": torch.ones(2)}))
    with pytest.raises(CheckpointError, match=r"foreign: not a gnncompress checkpoint; pack it first"):
        load_checkpoint(tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="missing: no such file"):
        load_checkpoint(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_checkpoint(tmp_path)


def test_what_cannot_be_packed_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="entry 'epoch' is a int, not a tensor"):
        save_checkpoint({"epoch": 3}, tmp_path / "x")  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match=r"entry 'w' is a torch\.sparse_coo tensor"):
        save_checkpoint({"w": torch.eye(2).to_sparse()}, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"entry 'weight' has no shape yet"):
        save_checkpoint(nn.LazyLinear(2), tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"nowhere.*cannot be written"):
        save_checkpoint({"w": torch.ones(2)}, tmp_path / "nowhere" / "x")
    assert list(tmp_path.iterdir()) == []
