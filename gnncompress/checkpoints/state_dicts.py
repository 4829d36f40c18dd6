"""State dicts: what a model's tensors are, how large, and whether two are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from gnncompress.checkpoints.dtypes import to_words
from gnncompress.errors import CheckpointError


def state_dict_of(model: nn.Module | Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the tensors of a model or state_dict by name.

    A weight under parametrizations that say ``baked_into_checkpoints`` (the masks of pruning) appears under its
    plain name as the model reads it, computed each time it is asked for, so that one at a time is in memory; other
    parametrizations stay as in the model's own state_dict.

    Raises:
        CheckpointError: naming the first entry that is not a tensor with a shape.
    """
    entries: dict[str, Any] = {}
    baked: dict[str, tuple[nn.Module, str]] = {}
    if isinstance(model, nn.Module):
        entries.update(model.state_dict())
        for path, module in model.named_modules():
            if parametrize.is_parametrized(module):
                prefix = f"{path}." if path else ""
                for name, chain in module.parametrizations.items():
                    if all(getattr(step, "baked_into_checkpoints", False) for step in chain):
                        hidden = f"{prefix}parametrizations.{name}."
                        # PyG's Linear writes its weight under the plain name as well.
                        plain = prefix + name
                        entries = {k: e for k, e in entries.items() if k != plain and not k.startswith(hidden)}
                        baked[plain] = (module, name)
    elif isinstance(model, Mapping):
        entries.update(model)
    else:
        raise CheckpointError(f"a {type(model).__name__} is no model and no state_dict")
    for name, entry in entries.items():
        if not isinstance(name, str):
            raise CheckpointError(f"the name {name!r} is a {type(name).__name__}, not a string")
        if not isinstance(entry, Tensor):
            raise CheckpointError(
                f"entry {name!r} is a {type(entry).__name__}, not a tensor; "
                "give a state_dict, which maps names to tensors"
            )
        if nn.parameter.is_lazy(entry):
            raise CheckpointError(f"entry {name!r} has no shape yet; run the model once before saving it")
    return _Tensors(entries, baked) if baked else entries


class _Tensors(Mapping[str, Tensor]):
    """Tensors by name, some of which are attributes of modules that are computed when they are asked for."""

    def __init__(self, plain: Mapping[str, Tensor], computed: Mapping[str, tuple[nn.Module, str]]) -> None:
        self._plain, self._computed = plain, computed

    def __getitem__(self, name: str) -> Tensor:
        if name in self._plain:
            return self._plain[name]
        module, attribute = self._computed[name]
        tensor: Tensor = getattr(module, attribute).detach()
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter([*self._plain, *self._computed])

    def __len__(self) -> int:
        return len(self._plain) + len(self._computed)


def dense_size(state: Mapping[str, Tensor]) -> int:
    """Return the bytes of all tensors, uncompressed and without any container."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def values_only_size(state: Mapping[str, Tensor]) -> int:
    """Return the bytes of the values that are not zero, of a tensor of zeros all of them.

    So sizes are counted in arXiv 2510.22058, Algorithm 1, which keeps neither positions nor container: nothing can be
    restored from such a file, and real ones are measured instead. It is here to compare with its tables.
    """
    return sum((int(tensor.count_nonzero()) or tensor.numel()) * tensor.element_size() for tensor in state.values())


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Say whether two state_dicts have the same names, dtypes, shapes and bits."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype
        and tensor.shape == other[name].shape
        and bool((to_words(tensor) == to_words(other[name])).all())
        for name, tensor in one.items()
    )
