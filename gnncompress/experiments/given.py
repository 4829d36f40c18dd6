"""Weights of a model that is trained already: a state_dict in any common wrapping."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnncompress.errors import CheckpointError, ParameterError
from gnncompress.experiments.stages import Given
from gnncompress.files import why

if TYPE_CHECKING:
    from torch import Tensor, nn

# Where training programs put a state_dict in what they save, and what they put before its names.
_KEYS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights")
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")
_SAFETENSORS = ".safetensors"


def given_weights(path: Path, key: str = "") -> Given:
    """Return the stage of a file's weights.

    Raises:
        ParameterError: if the file cannot be read.
    """
    try:
        if not path.is_file():
            raise ParameterError("weights", path, "no such file")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
    except OSError as error:
        raise ParameterError("weights", path, f"cannot be read ({why(error)})") from error
    return Given(weights=found.hexdigest(), key=key, path=path.resolve())


def _digest(file: Any) -> Any:
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found


def fill_with(model: nn.Module, given: Given) -> nn.Module:
    """Give ``model`` the weights of a file, whatever they are wrapped in, and return it.

    A file of torch is read without running code that it holds.

    Raises:
        CheckpointError: if the file changed, is no file of tensors, has no state_dict, or one that does not fit.
    """
    state = _state(given)
    own = model.state_dict()
    fitting = _without_prefixes(state, own)
    missing, more = [name for name in own if name not in fitting], [name for name in fitting if name not in own]
    if missing or more:
        what = f"has no {missing[0]}" if missing else f"has {more[0]}, which the model has not"
        raise CheckpointError(
            f"{given.path}: does not fit {type(model).__name__}: {what} ({len(missing)} missing, {len(more)} unknown "
            f"of {len(own)} names); name its place in the file with --key if it holds several"
        )
    try:
        model.load_state_dict(fitting)
    except RuntimeError as error:
        detail = " ".join(str(error).split(":", 1)[-1].split())
        raise CheckpointError(f"{given.path}: does not fit {type(model).__name__}: {detail}") from error
    return model


def _state(given: Given) -> dict[str, Tensor]:
    if given_weights(given.path, given.key).weights != given.weights:
        raise CheckpointError(f"{given.path}: has changed since the run was asked for; ask again")
    held = _read(given.path)
    if given.key:
        for part in given.key.split("."):
            if not isinstance(held, Mapping) or part not in held:
                there = ", ".join(map(str, held)) if isinstance(held, Mapping) else f"a {type(held).__name__}"
                raise CheckpointError(f"{given.path}: --key {given.key}: there is no {part}; there is {there}")
            held = held[part]
    while isinstance(held, Mapping) and not _is_state(held):
        found = [name for name in _KEYS if isinstance(held.get(name), Mapping)]
        if not found:
            break
        held = held[found[0]]
    if not isinstance(held, Mapping) or not _is_state(held):
        there = ", ".join(map(str, list(held)[:10])) if isinstance(held, Mapping) else f"a {type(held).__name__}"
        raise CheckpointError(
            f"{given.path}: holds no state_dict, but {there or 'nothing'}; save torch.save(model.state_dict(), path), "
            "or name its place with --key"
        )
    return {str(name): tensor for name, tensor in held.items() if tensor is not None}


def _read(path: Path) -> Any:
    import torch

    if path.suffix == _SAFETENSORS:
        from gnncompress.checkpoints import read_state_dict

        return read_state_dict(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that is none does to unpickling
        raise CheckpointError(
            f"{path}: cannot be read as tensors alone ({type(error).__name__}); save the state_dict: "
            "torch.save(model.state_dict(), path)"
        ) from error


def _is_state(held: Mapping[Any, Any]) -> bool:
    import torch

    return bool(held) and all(one is None or isinstance(one, torch.Tensor) for one in held.values())


def _without_prefixes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take from names what wrappers put before them, as often as that brings them nearer to the model's own.

    Where names with a prefix are exactly the model's, the others are the wrapper's own, such as a loss's.
    """
    found = dict(state)
    while not found.keys() & own.keys():
        inner = {
            prefix: {name.removeprefix(prefix): found[name] for name in found if name.startswith(prefix)}
            for prefix in _PREFIXES
        }
        prefix = next((one for one in _PREFIXES if inner[one].keys() == own.keys()), None)
        prefix = prefix or next((one for one in _PREFIXES if len(inner[one]) == len(found)), None)
        if prefix is None:
            break
        found = inner[prefix]
    return found
