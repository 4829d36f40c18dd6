"""A packed checkpoint as a model that is ready to use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, StrictInt, ValidationError, model_validator
from torch import Tensor, nn

from gnncompress.checkpoints import read_checkpoint
from gnncompress.checkpoints.files import one_line, shown
from gnncompress.checkpoints.index import allowed_bytes
from gnncompress.compression import CompressionMethod
from gnncompress.errors import CheckpointError, GnncompressError, UsageError
from gnncompress.experiments.building import fill, rebuilt
from gnncompress.experiments.finding import model_file
from gnncompress.experiments.legacy import executed_of, methods_of
from gnncompress.experiments.stages import SEEDS, Chain
from gnncompress.factories import is_reference
from gnncompress.global_state import random_state_kept
from gnncompress.methods import find_method
from gnncompress.models import MODELS, build_model
from gnncompress.models.registry import Argument
from gnncompress.pruning.edges import KEEP
from gnncompress.quantization import freeze_for, is_prepared
from gnncompress.quantization.lowering import to_compiled, to_integer
from gnncompress.quantization.preparing import quantizers
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.registry import unknown
from gnncompress.runtime.model import ProgramModel
from gnncompress.schemes import INTEGER, SIMULATED
from gnncompress.tasks.base import Task

# What computes for a model.
EXECUTED: dict[str, Callable[[nn.Module, bool], nn.Module]] = {
    SIMULATED: lambda model, _: model,
    INTEGER: to_integer,
    "compiled": to_compiled,
}
# No model of the package has more layers, heads or hidden channels unless its tensors show it.
_USUAL = 1024


class Applied(BaseModel):
    """A method by name, and its fields that differ from their defaults."""

    method: str
    config: dict[str, Any] = Field(default_factory=dict)


class ModelCard(BaseModel):
    """How to rebuild a model, and where it comes from: what a run writes into its checkpoint's metadata.

    ``features`` and ``outputs`` are the widths that the model was built with, ``run`` is the run's name, ``compress``
    are the methods that were applied. A file may be forged: what no run can have is refused. A method of the user's own
    is never imported because a file names it.
    """

    run: str
    dataset: str
    task: str
    model: str
    arguments: dict[str, Argument]
    features: StrictInt
    outputs: StrictInt
    compress: list[Applied] = Field(default_factory=list)
    execute: Literal["simulated", "integer"] = SIMULATED
    sparsity: Annotated[float, Field(ge=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=SEEDS)]

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, values: Any) -> Any:
        """Read the card of a version before chains: one method, its settings, and how it is executed among them."""
        if not isinstance(values, Mapping) or "method" not in values:
            return values
        method, settings = values["method"], values.get("settings") or {}
        if not isinstance(method, str) or not isinstance(settings, Mapping):
            raise ValueError("method and settings are no name and no options")
        applied = methods_of(method, settings, values.get("sparsity", 0))
        return {
            **{name: value for name, value in values.items() if name not in ("method", "scheme", "settings")},
            "compress": [{"method": name, "config": config} for name, config in applied],
            "execute": executed_of(settings),
        }

    @model_validator(mode="after")
    def _of_methods(self) -> ModelCard:
        try:
            canonical = [
                is_reference(one.method) or find_method(one.method).of(one.config).changed() == one.config
                for one in self.compress
            ]
        except UsageError as error:
            raise ValueError(str(error)) from error
        if not all(canonical):
            raise ValueError("a method has other options")
        return self

    @property
    def methods(self) -> list[CompressionMethod]:
        """The methods that were applied.

        Raises:
            UsageError: if one is of the user's own.
        """
        for one in self.compress:
            if is_reference(one.method):
                raise UsageError(f"method {one.method} is of your own")
        return [find_method(one.method).of(one.config) for one in self.compress]


def card_of(chain: Chain, task: Task) -> dict[str, Any]:
    """Return the metadata of a checkpoint, that of a run or of a stage before."""
    workload, measure = chain.workload, chain.measure
    return ModelCard(
        run=chain.id,
        dataset=workload.dataset,
        task=workload.task,
        model=workload.model,
        arguments=workload.arguments,
        features=task.features,
        outputs=task.outputs,
        compress=[Applied(method=one.method, config=one.config) for one in chain.compressions],
        execute=SIMULATED if measure is None else measure.execute,
        sparsity=chain.sparsity,
        seed=workload.seed,
    ).model_dump(mode="json")


def program_of(model: nn.Module) -> dict[str, Any]:
    """Return what a checkpoint's metadata say of a model that runs in whole numbers: its program, line by line."""
    return {"program": str(model.program).splitlines()} if isinstance(model, ProgramModel) else {}


@random_state_kept()
def load_model(
    path: str | Path,
    build: Callable[[], nn.Module] | None = None,
    reshaped: bool | None = None,
    max_bytes: int | None = None,
    execute: str | None = None,
    verify: bool = True,
) -> nn.Module:
    """Return the model in a packed checkpoint, or in a run's folder, in evaluation mode, with its weights.

    A run's checkpoint says how to rebuild its model if that is one of the package's own. For any other ``build`` makes
    the model, in floats or prepared and frozen; code that a file names is never imported. ``reshaped`` says that
    structured pruning took channels out of what ``build`` makes; by default a run's checkpoint knows, and others have
    the shapes that ``build`` makes. A model computes as its run did, or as ``execute`` says: simulated, as it was
    trained, integer, see ``to_integer``, or compiled, see ``to_compiled``; ``verify`` is theirs.

    Raises:
        CheckpointError: as ``load_checkpoint`` does; if the file does not say what the model is and there is no
            ``build``; if the model has tensors of other names, shapes or dtypes than the file, or a quantizer without a
            finite range; if what the file says of its execution does not fit the model.
        UsageError: if ``build`` wants arguments or makes no model.
        QuantizationError, ExecutionError: if the model cannot be executed as ``execute`` says.
    """
    if execute not in (None, *EXECUTED):
        raise UsageError(unknown("execute", str(execute), EXECUTED))
    path = model_file(Path(path))
    state, metadata = read_checkpoint(path, max_bytes)
    card = _card(metadata)
    told = card if isinstance(card, ModelCard) else None
    model = (_builder(path, card, state) if build is None else _own(build))()
    if not isinstance(model, nn.Module):
        raise UsageError(f"build returns a {type(model).__name__}; it must return a torch.nn.Module")
    methods = _methods(path, told, model if build is not None else None)
    reshaped = any(method.reshapes for method in methods) if reshaped is None else reshaped
    try:
        if build is not None and not is_prepared(model):
            model = rebuilt(model, methods)
        if is_prepared(model):
            freeze_for(model, state)
        _insist_on_fit(model, state, reshaped)
        model = fill(model, state, reshaped)
    except RuntimeError as error:
        detail = one_line(str(error).split(":", 1)[-1])
        hint = "" if reshaped else "; if structured pruning took channels out of it, say reshaped=True"
        if any(".parametrizations." in name for name in state) and not is_prepared(model):
            hint = "; it is that of a prepared model: build=lambda: gnncompress.prepare(..., scheme)"
        raise CheckpointError(f"{path}: does not fit {type(model).__name__}: {detail}{hint}") from error
    except Exception as error:  # whatever the settings and tensors of a forged file do
        raise CheckpointError(f"{path}: does not fit {type(model).__name__}: {one_line(error)}") from error
    _insist_on_ranges(path, model)
    if execute is not None or told is None:
        return EXECUTED[execute or SIMULATED](model, verify)
    try:
        return EXECUTED[told.execute](model, verify)
    except GnncompressError as error:
        raise CheckpointError(f"{path}: cannot be executed as it says: {one_line(error)}") from error


def _methods(path: str | Path, card: ModelCard | None, own: nn.Module | None) -> list[CompressionMethod]:
    """Return the methods that a card says were applied; those of the user's own rebuild what they did themselves."""
    if card is None:
        return []
    if own is not None and any(is_reference(one.method) for one in card.compress):
        return []
    try:
        return card.methods
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}; give load_model(path, build=...) a function that makes it") from error


def _insist_on_fit(model: nn.Module, state: Mapping[str, Tensor], reshaped: bool) -> None:
    """Insist that tensors of the same names have dtypes, and sizes, that the model can have.

    Raises:
        CheckpointError: naming the tensor that has not.
    """
    own = model.state_dict()
    for name, tensor in state.items():
        if name in own and own[name].dtype != tensor.dtype:
            raise CheckpointError(f"{shown(name)} is {tensor.dtype}, the model's {own[name].dtype}")
        if reshaped and not _within(tensor, own.get(name)):
            raise CheckpointError(f"{shown(name)} is {list(tensor.shape)}, the model's {list(own[name].shape)}")
    if KEEP in state and (state[KEEP].dtype != torch.bool or state[KEEP].dim() != 1):
        raise CheckpointError(f"{shown(KEEP)} is no mask of edges")


def _insist_on_ranges(path: str | Path, model: nn.Module) -> None:
    """Insist that what each quantizer of a model knows is finite, or that it knows nothing yet.

    Raises:
        CheckpointError: naming the quantizer, whose grid would make NaN of every value.
    """
    for name, quantizer in quantizers(model):
        if isinstance(quantizer, Quantizer):
            low, high = quantizer.observer.range.double()
            sound = bool(((low <= high) & (high - low).isfinite()).all()) or bool((low.isnan() & high.isnan()).all())
        else:
            known = [parameter for parameter in quantizer.parameters() if not nn.parameter.is_lazy(parameter)]
            sound = all(bool(parameter.isfinite().all()) for parameter in known)
        if not sound:
            raise CheckpointError(f"{path}: damaged: the range of {name} is not finite")


def _own(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Return the user's ``build`` if it can be called without arguments."""
    try:
        if not isinstance(build, nn.Module):
            signature(build).bind()
            return build
    except (TypeError, ValueError):
        pass
    raise UsageError("build must be a function without arguments that makes the model, e.g. build=lambda: Net(16, 4)")


def _card(metadata: Mapping[str, Any]) -> ModelCard | str:
    """Return what a file says of its model, or what is wrong with it; nothing is, of a file that says nothing."""
    if not metadata.keys() & ModelCard.model_fields.keys():
        return ""
    try:
        return ModelCard.model_validate(metadata)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"][:2]))
        return one_line(f"{place}: {first['msg']}" if place else first["msg"])


def _builder(path: str | Path, card: ModelCard | str, state: Mapping[str, Tensor]) -> Callable[[], nn.Module]:
    """Return what builds a card's model, proved to be no larger than the file's tensors call for.

    It is first built on the meta device, which takes no memory: a forged size must not make a model larger than memory
    before its tensors can disagree.
    """
    hint = "give load_model(path, build=...) a function that makes it"
    if isinstance(card, str):
        raise CheckpointError(f"{path}: does not say what its model is{f' ({card})' if card else ''}; {hint}")
    if MODELS.get(card.model) is None:
        raise CheckpointError(f"{path}: its model {shown(card.model)} is not one of gnncompress; {hint}")
    sizes = [size for tensor in state.values() if tensor.numel() for size in tensor.shape]
    for name, size in {"features": card.features, "outputs": card.outputs, **card.arguments}.items():
        if isinstance(size, int) and not 0 <= size <= max([_USUAL, *sizes]):
            raise CheckpointError(f"{path}: damaged: its model cannot have {size} {name}")

    def build() -> nn.Module:
        model = build_model(card.model, card.features, card.outputs, card.arguments)
        return rebuilt(model, card.methods)

    try:
        with torch.device("meta"):
            own = build().state_dict()
    except Exception as error:  # whatever the arguments do in the model's constructor
        raise CheckpointError(f"{path}: damaged: its model cannot be built ({one_line(error)})") from error
    differing = own.keys() ^ (state.keys() - {KEEP})
    if differing:
        raise CheckpointError(f"{path}: does not fit its model {card.model}: {shown(min(differing))} is in one only")
    bound = allowed_bytes(Path(path).stat().st_size)
    if sum(tensor.nbytes for tensor in own.values() if not nn.parameter.is_lazy(tensor)) > bound:
        raise CheckpointError(f"{path}: damaged: its model is larger than {bound:,} bytes")
    return build


def _within(tensor: Tensor, own: Tensor | None) -> bool:
    """Say whether a tensor is what may be left of a model's own when slices are taken out; lazy ones take any shape."""
    if own is None or nn.parameter.is_lazy(own):
        return True
    return tensor.dim() == own.dim() and all(a <= b for a, b in zip(tensor.shape, own.shape, strict=True))
