"""A packed checkpoint as a model that is ready to use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from gnncompress.checkpoints import read_checkpoint
from gnncompress.errors import CheckpointError
from gnncompress.experiments.spec import RunSpec
from gnncompress.models import MODELS, build_model
from gnncompress.models.registry import Argument
from gnncompress.pruning.edges import KEEP, drop_edges
from gnncompress.pruning.structured.surgery import fit
from gnncompress.tasks.base import Task

# No model of the package has more layers, heads or hidden channels unless its tensors show it.
_USUAL = 1024


class ModelCard(BaseModel):
    """How to rebuild a model, and where it comes from: what a run writes into its checkpoint's metadata.

    ``features`` and ``outputs`` are the widths that the model was built with, ``run`` is the run's name.
    """

    run: str
    dataset: str
    task: str
    model: str
    arguments: dict[str, Argument]
    features: int
    outputs: int
    method: str
    scheme: str
    sparsity: float
    seed: int


def card_of(spec: RunSpec, task: Task) -> dict[str, Any]:
    """Return the metadata of a run's checkpoint."""
    own = {"run": spec.run_id, "features": task.features, "outputs": task.outputs}
    fields = spec.model_dump(include=set(ModelCard.model_fields) - own.keys())
    return ModelCard.model_validate(fields | own).model_dump()


def load_model(
    path: str | Path, build: Callable[[], nn.Module] | None = None, max_bytes: int | None = None
) -> nn.Module:
    """Return the model in a packed checkpoint, in evaluation mode, with its weights.

    A run's checkpoint says how to rebuild its model if that is one of the package's own. For any other ``build`` makes
    the model; code that a file names is never imported. Channels that structured pruning removed are removed again.

    Raises:
        CheckpointError: as ``load_checkpoint`` does; if the file does not say what the model is and there is no
            ``build``; if the model has other tensors than the file.
    """
    state, metadata = read_checkpoint(path, max_bytes)
    model = (build or _builder(path, metadata, state))()
    own = model.state_dict()
    if all(_within(tensor, own.get(name)) for name, tensor in state.items()):
        fit(model, state)
    if KEEP in state:
        drop_edges(model, state[KEEP])
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split(":", 1)[-1].split())
        raise CheckpointError(f"{path}: does not fit {type(model).__name__}: {detail}") from error
    return model.eval()


def _builder(path: str | Path, metadata: Mapping[str, Any], state: Mapping[str, Tensor]) -> Callable[[], nn.Module]:
    try:
        card = ModelCard.model_validate(metadata)
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: does not say what its model is; give load_model(path, build=...) a function that makes it"
        ) from error
    if MODELS.get(card.model) is None:
        raise CheckpointError(
            f"{path}: its model {card.model!r} is not one of gnncompress; give load_model(path, build=...) a function "
            "that makes it"
        )
    # A forged size would make a model larger than memory before its tensors could disagree.
    bound = max(_USUAL, *(size for tensor in state.values() for size in tensor.shape))
    for name, size in {"features": card.features, "outputs": card.outputs, **card.arguments}.items():
        if isinstance(size, int) and not 0 <= size <= bound:
            raise CheckpointError(f"{path}: damaged: its model cannot have {size} {name}")
    return lambda: build_model(card.model, card.features, card.outputs, card.arguments)


def _within(tensor: Tensor, own: Tensor | None) -> bool:
    """Say whether a tensor is what may be left of a model's own when slices are taken out; lazy ones take any shape."""
    if own is None or nn.parameter.is_lazy(own):
        return True
    return tensor.dim() == own.dim() and all(a <= b for a, b in zip(tensor.shape, own.shape, strict=True))
