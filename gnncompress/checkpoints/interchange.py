"""State dicts from and for other programs: torch.save files and dense safetensors."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from gnncompress.checkpoints.container import is_packed, load_checkpoint
from gnncompress.checkpoints.files import insist_on_file, is_torch_file, one_line, open_safetensors
from gnncompress.checkpoints.state_dicts import state_dict_of
from gnncompress.errors import CheckpointError, UsageError
from gnncompress.files import replacing, write_bytes

TORCH_SUFFIXES = (".pt", ".pth")


def read_state_dict(path: str | Path, max_bytes: int | None = None) -> dict[str, Tensor]:
    """Read a state_dict from a packed checkpoint, a safetensors file or a torch.save file.

    ``max_bytes`` bounds what a packed checkpoint may unpack to, see ``load_checkpoint``. A torch.save file is loaded
    with ``weights_only=True``: it can hold tensors but run no code.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    path = Path(path)
    insist_on_file(path)
    if is_torch_file(path):
        return _read_torch(path)
    if is_packed(path):
        return load_checkpoint(path, max_bytes)
    with open_safetensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def write_state_dict(state: Mapping[str, Tensor], path: str | Path) -> int:
    """Write a dense state_dict for others: torch.save for .pt and .pth, else safetensors; return its bytes.

    Raises:
        UsageError: if the suffix is none of these.
        CheckpointError: if the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (*TORCH_SUFFIXES, ".safetensors"):
        raise UsageError(f"{path}: the name must end in .pt, .pth or .safetensors")
    try:
        if path.suffix in TORCH_SUFFIXES:
            with replacing(path) as temporary:
                torch.save(dict(state), temporary)
        else:
            write_bytes(path, save({name: tensor.contiguous().clone() for name, tensor in state.items()}))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error
    return path.stat().st_size


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file, warnings.catch_warnings():  # given a name, torch.load would go by its suffix
            warnings.simplefilter("ignore")  # what torch says of unusual tensors is said again below if it matters
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors, or is damaged, and is not opened; "
            "save it with torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # damaged archives and pickles fail in every way there is
        raise CheckpointError(f"{path}: damaged or cut short ({one_line(error)})") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state_dict")
    try:
        return dict(state_dict_of(content))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
