from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gnncompress.checkpoints import dense_size, read_state_dict, same_bits, save_checkpoint, write_state_dict
from gnncompress.errors import CheckpointError, UsageError


@pytest.fixture
def state() -> dict[str, Tensor]:
    weight = torch.randn(5, 4)
    return {"weight": weight, "tied": weight, "view": weight.t(), "steps": torch.tensor(3)}


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.safetensors"])
def test_written_and_read_back(name: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    size = write_state_dict(state, tmp_path / name)
    assert size == (tmp_path / name).stat().st_size
    assert same_bits(read_state_dict(tmp_path / name), state)
    assert dense_size(state) == 3 * 80 + 8


def test_read_by_content_not_by_name(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "zip.safetensors")
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    save_file({"weight": state["weight"]}, tmp_path / "dense.pt")
    save_checkpoint(state, tmp_path / "packed.pt")
    for name in ("zip.safetensors", "legacy.bin", "packed.pt"):
        assert same_bits(read_state_dict(tmp_path / name), state)
    assert torch.equal(read_state_dict(tmp_path / "dense.pt")["weight"], state["weight"])


def test_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> object:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"w": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt: holds more than tensors, or is damaged, and is not opened"):
        read_state_dict(tmp_path / "evil.pt")
    assert not (tmp_path / "executed").exists()


def test_whole_model_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"save it with torch\.save\(model\.state_dict\(\), \.\.\.\)"):
        read_state_dict(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds a list, not a state_dict"), ({"epoch": 3}, "x.pt: entry 'epoch' is a int, not a tensor")],
)
def test_other_contents_are_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(tmp_path / "x.pt")


def test_damaged_files_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.pt")
    content = (tmp_path / "x.pt").read_bytes()
    for broken in (b"", b"garbage and more of it", content[: len(content) // 2], b"\x80\x02garbage"):
        (tmp_path / "x.pt").write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"x\.pt: ") as caught:
            read_state_dict(tmp_path / "x.pt")
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no such file"):
        read_state_dict(tmp_path / "y.pt")


def test_unknown_suffix_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.onnx: the name must end in \.pt, \.pth or \.safetensors"):
        write_state_dict(state, tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_state_dict(state, tmp_path / "nowhere" / "x.pt")
