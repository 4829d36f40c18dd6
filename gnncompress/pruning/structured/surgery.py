"""Taking units of channels out of a model: how much goes, what stays of each tensor, and the same by zeros."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from gnncompress.pruning.structured.channels import Channels
from gnncompress.pruning.structured.layers import Shape, layer_shape


def kept_indices(channels: Channels, removed: np.ndarray) -> dict[tuple[str, int], np.ndarray]:
    """Return, for every dimension that runs over channels, the indices that stay when ``removed`` [units] go."""
    return {key: np.flatnonzero((owner < 0) | ~removed[np.maximum(owner, 0)]) for key, owner in channels.owner.items()}


def parameters_left(model: nn.Module, channels: Channels, removed: np.ndarray) -> int:
    """Count the model's parameters without the ``removed`` [units]."""
    kept, total = kept_indices(channels, removed), 0
    for name, parameter in model.named_parameters():
        sizes = [len(kept[name, dim]) if (name, dim) in kept else size for dim, size in enumerate(parameter.shape)]
        total += int(np.prod(sizes, dtype=np.int64))
    return total


@contextlib.contextmanager
def zeroed(model: nn.Module, channels: Channels, removed: np.ndarray) -> Iterator[nn.Module]:
    """Make every slice of the ``removed`` [units] zero for the time being: the masked dense model."""
    before = {name: _tensors(model)[name].detach().clone() for name, _ in channels.owner}
    try:
        with torch.no_grad():
            for (name, dim), kept in kept_indices(channels, removed).items():
                tensor = _tensors(model)[name]
                gone = np.setdiff1d(np.arange(tensor.size(dim)), kept)
                tensor.index_fill_(dim, torch.from_numpy(gone).to(tensor.device), 0)
        yield model
    finally:
        with torch.no_grad():
            for name, tensor in before.items():
                _tensors(model)[name].copy_(tensor)


def shrunk_tensors(model: nn.Module, channels: Channels, removed: np.ndarray) -> dict[str, Tensor]:
    """Return the tensors of ``model`` that lose slices when the ``removed`` [units] go, without those slices."""
    shrunk: dict[str, Tensor] = {}
    for (name, dim), kept in kept_indices(channels, removed).items():
        tensor = shrunk.get(name, _tensors(model)[name].detach())
        shrunk[name] = tensor.index_select(dim, torch.from_numpy(kept).to(tensor.device))
    return shrunk


def fit(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Give the tensors of ``model`` the shapes that they have in ``state``, in place; the values come separately."""
    own = {name: tensor for name, tensor in _tensors(model).items() if not nn.parameter.is_lazy(tensor)}
    return replace_tensors(model, {n: state[n] for n in own.keys() & state.keys() if own[n].shape != state[n].shape})


def replace_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Put new parameters and buffers in the place of old ones, wherever those are shared; mend the layers' sizes."""
    own, new = _tensors(model), dict[int, Tensor]()
    for name, tensor in tensors.items():
        old, value = own[name], tensor.detach().to(own[name]).clone()
        new[id(old)] = nn.Parameter(value, old.requires_grad) if isinstance(old, nn.Parameter) else value
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, present in table.items():
                table[name] = new.get(id(present), present)  # type: ignore[assignment]
    for module in model.modules():
        _mend_sizes(module)
    return model


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by every name they have."""
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


def _mend_sizes(module: nn.Module) -> None:
    """Set the sizes that a layer remembers to those of its tensors; attention layers compute with them."""
    shape = layer_shape(module)
    if not isinstance(shape, Shape):
        return
    sizes = {
        "in_features": shape.inputs,
        "in_channels": shape.inputs,
        "out_features": shape.outputs,
        "out_channels": shape.tied.shape[1],
        "num_features": shape.outputs,
        "num_parameters": shape.outputs,
    }
    for name, size in sizes.items():
        if isinstance(getattr(module, name, None), int):
            setattr(module, name, size)
