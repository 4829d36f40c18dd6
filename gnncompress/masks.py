"""Masks on a model's weights: which may be pruned, how a mask holds, how it becomes permanent.

A mask is a parametrization: wherever the model reads its weight it reads ``where(mask, weight, +0.0)``. Any
optimizer may then train the model; neither a gradient, momentum nor weight decay brings a pruned weight back.
Multiplying by the mask instead would leave -0.0 in half of the pruned weights.

Weights are counted as the model reads them, whatever they are computed from: parametrizations, and the hooks of
``torch.nn.utils``. Zeros are counted after masks are on a model, and compared with those that were meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch_geometric.nn import norm as pyg_norm

from gnncompress.errors import PruningError
from gnncompress.masked_states import Mask, follow_states, unfollow_states
from gnncompress.measurements import Measurement
from gnncompress.reparametrizations import Computed, computed_weights, torch_masks

NORMALIZATIONS: tuple[type, ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    *(layer for layer in vars(pyg_norm).values() if isinstance(layer, type)),
)


@dataclass(frozen=True)
class Weight:
    """A tensor that a module reads under ``name``, at ``path`` in the model, and the parameters that it comes from."""

    path: str
    module: nn.Module
    name: str
    parameters: tuple[nn.Parameter, ...]
    computed: Computed | None = None

    def value(self) -> Tensor:
        """Return the values that the next call in evaluation mode uses; nothing in the model changes."""
        if self.computed is not None:
            return self.computed.value().detach()
        # In training mode some parametrizations change when they are read, as that of spectral_norm does.
        modes = {part: part.training for step in self.steps for part in step.modules()}
        try:
            for part in modes:
                part.training = False
            value: Tensor = getattr(self.module, self.name)
        finally:
            for part, mode in modes.items():
                part.training = mode
        return value.detach()

    @property
    def steps(self) -> tuple[nn.Module, ...]:
        """The parametrizations through which it is read, in the order in which they are applied."""
        if not parametrize.is_parametrized(self.module, self.name):
            return ()
        return tuple(self.module.parametrizations[self.name])  # type: ignore[index]

    @property
    def masks(self) -> list[Tensor]:
        """The masks through which it is read, ours and those of ``torch.nn.utils.prune``: True where a value stays."""
        of_torch = torch_masks(self.module)
        ours = [step.keep for step in self.steps if isinstance(step, Mask)]
        return [*ours, of_torch[self.name]] if self.name in of_torch else ours


def own_weights(module: nn.Module, path: str = "") -> Iterator[Weight]:
    """Yield the tensors that a module reads and that come from parameters of its own; parametrized ones come last."""

    def made(name: str, parameters: tuple[nn.Parameter, ...], computed: Computed | None = None) -> Weight:
        return Weight(f"{path}.{name}" if path else name, module, name, parameters, computed)

    if isinstance(module, parametrize.ParametrizationList):
        return  # what it holds is read by the module above it
    computed = {parameter: weight for weight in computed_weights(module) for parameter in weight.parameters}
    for name, parameter in module._parameters.items():
        hooked = computed.get(name)
        if hooked is None and parameter is not None:
            yield made(name, (parameter,))
        elif hooked is not None and name == next(iter(hooked.parameters)):
            yield made(hooked.name, tuple(hooked.parameters.values()), hooked)
    if parametrize.is_parametrized(module):
        for name, chain in module.parametrizations.items():  # type: ignore[union-attr, operator]
            originals = tuple(parameter for parameter in chain._parameters.values() if parameter is not None)
            if originals:
                yield made(name, originals)


def weight_owners(model: nn.Module) -> dict[str, list[Weight]]:
    """Return the prunable weights by name, each with all modules that read it: a shared weight comes once.

    The name is where the weight stands first, without regard to masks.

    Raises:
        PruningError: naming a lazy weight that has no shape yet.
    """
    named: dict[tuple[int, ...], str] = {}
    owners: dict[tuple[int, ...], list[Weight]] = {}
    for path, module in model.named_modules():
        for weight in own_weights(module, path):
            identity = tuple(map(id, weight.parameters))
            owners.setdefault(identity, []).append(weight)
            if isinstance(module, NORMALIZATIONS) or identity in named:
                continue
            if isinstance(weight.parameters[0], nn.parameter.UninitializedParameter):
                raise PruningError(
                    f"layer {weight.path}: its shape is not known yet; run the model once before it is compressed"
                )
            tensor = weight.parameters[0] if len(weight.parameters) == 1 else weight.value()
            if tensor.dim() >= 2 and tensor.is_floating_point():
                named[identity] = weight.path
    return {name: owners[identity] for identity, name in named.items()}


def prunable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the prunable weights by name: floating, two or more dimensions, not in a normalization layer.

    A weight shared by several layers appears once, under its first name. A masked weight appears under the
    name it had before. One that is computed from several parameters, as by weight_norm, is not among them.

    Raises:
        PruningError: naming a lazy weight that has no shape yet.
    """
    return {
        layer: owners[0].parameters[0]
        for layer, owners in weight_owners(model).items()
        if len(owners[0].parameters) == 1
    }


def effective_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the prunable weights by name as the model reads them, masked where they have a mask."""
    return {layer: owners[0].value() for layer, owners in weight_owners(model).items()}


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return a module's direct parameters, those behind a parametrization or a mask under their plain name."""
    own = {}
    for weight in own_weights(module):
        if weight.computed is not None and not weight.masks:
            own.update(weight.computed.parameters)
        elif len(weight.parameters) == 1:
            own[weight.name] = weight.parameters[0]
    return own


def hold(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Put masks on ``model`` in place; where a weight has one already, both hold, and are one mask then.

    So are those of ``torch.nn.utils.prune``.

    Shapes: each mask is bool, shaped as the weight of its name.

    Raises:
        PruningError: if weights are not zero afterwards that should be, or others are.
    """
    owners = weight_owners(model)
    insist_on_one_reading({layer: owners[layer] for layer in masks})
    zeros = {layer: int(((owners[layer][0].value() == 0) | ~keep).sum()) for layer, keep in masks.items()}
    for layer, keep in masks.items():
        whole = torch.stack([keep, *owners[layer][0].masks]).all(0)
        step = Mask(whole)
        for weight in owners[layer]:
            last = weight.steps[-1] if weight.steps else None
            if isinstance(last, Mask):
                last.keep = whole
                continue
            if weight.computed is not None:
                prune.remove(weight.module, weight.name)
            _read_through(weight, step)
    insist_on_zeros(effective_weights(model), zeros)


def held(model: nn.Module) -> dict[str, Tensor]:
    """Return the masks that are on ``model``, by the weight's name; of several on one weight all hold."""
    found = {layer: owners[0].masks for layer, owners in weight_owners(model).items()}
    return {layer: torch.stack(masks).all(0) for layer, masks in found.items() if masks}


def parametrize_weights(model: nn.Module, steps: Mapping[str, nn.Module]) -> None:
    """Let each named weight be read through its step, wherever in the model it is used."""
    owners = weight_owners(model)
    for layer, step in steps.items():
        for weight in owners[layer]:
            _read_through(weight, step)


def _read_through(weight: Weight, step: nn.Module) -> None:
    parametrize.register_parametrization(weight.module, weight.name, step, unsafe=True)
    follow_states(weight.module)


def make_permanent(model: nn.Module) -> nn.Module:
    """Write the masked weights into the model as plain parameters and remove the masks; return the model.

    The masks of ``torch.nn.utils.prune`` go, too. The parameters are the objects that they were. Weights that are read
    through something else besides masks stay as they are.

    Raises:
        PruningError: if a layer reads a shared weight through a mask and another does not, or if a weight is not zero
            in the end where its mask was.
    """
    readers: dict[tuple[int, ...], list[Weight]] = {}
    for path, module in model.named_modules():
        for weight in own_weights(module, path):
            readers.setdefault(tuple(map(id, weight.parameters)), []).append(weight)
    masked = {
        weight.path: weight
        for weights in readers.values()
        for weight in weights
        if weight.masks and all(isinstance(step, Mask) for step in weight.steps)
    }
    insist_on_one_reading({w[0].path: w for w in readers.values() if any(one.path in masked for one in w)})
    zeros = {path: int((weight.value() == 0).sum()) for path, weight in masked.items()}
    for module in {id(weight.module): weight.module for weight in masked.values() if weight.steps}.values():
        # A deep copy shares the class that parametrize made: what is removed would be gone for the original, too.
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
    for weight in masked.values():
        if weight.computed is None:
            parametrize.remove_parametrizations(weight.module, weight.name, leave_parametrized=True)
        else:
            (keep,) = weight.masks
            prune.remove(weight.module, weight.name)
            with torch.no_grad():  # torch multiplies by its mask, which leaves -0.0
                getattr(weight.module, weight.name).masked_fill_(~keep, 0.0)
    for module in model.modules():
        unfollow_states(module)
    insist_on_zeros({path: weight.module._parameters[weight.name] for path, weight in masked.items()}, zeros)
    return model


def insist_on_one_reading(owners: Mapping[str, list[Weight]]) -> None:
    """Refuse weights that several modules share but do not read alike, as where one of them is masked and another not.

    Raises:
        PruningError: naming both.
    """
    for first, *others in owners.values():
        for other in others:
            if not torch.equal(first.value(), other.value()):
                raise PruningError(
                    f"layers {first.path} and {other.path} share a weight, but one reads it through a mask or another "
                    "parametrization that the other does not have; give both the same, or each a weight of its own"
                )


def insist_on_zeros(weights: Mapping[str, Tensor | None], zeros: Mapping[str, int]) -> None:
    """Count the zeros of ``weights`` and insist that each layer has as many as ``zeros`` says: what pruning reports.

    Raises:
        PruningError: naming the first layer that has not.
    """
    for layer, expected in zeros.items():
        weight = weights.get(layer)
        counted = -1 if weight is None else int((weight.detach() == 0).sum())
        if counted != expected:
            found = "it is gone" if weight is None else f"{counted} of {weight.numel()} are"
            raise PruningError(
                f"layer {layer}: {expected} weights should be zero after pruning, but {found}; "
                "something other than its mask decides what the layer reads"
            )


def insist_on_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Insist that whatever ``masks`` remove is zero in ``model``, whether they are still on it or not.

    Raises:
        PruningError: naming the first layer where it is not.
    """
    weights = effective_weights(model)
    outside = {layer: weights[layer].masked_fill(keep, 1) for layer, keep in masks.items()}
    insist_on_zeros(outside, {layer: int((~keep).sum()) for layer, keep in masks.items()})


def count_zeros(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return (zeros, weights) of each prunable layer, as the model reads it."""
    return {layer: (int((w == 0).sum()), w.numel()) for layer, w in effective_weights(model).items()}


def sparsity_measurements(model: nn.Module) -> list[Measurement]:
    """Count parameters, and zeros as the model reads its weights, per prunable layer and in total.

    Rows: parameters, nonzero_parameters (all parameters), sparsity (prunable weights; one row a layer and one
    for the model), collapsed_layers (prunable layers without a single non-zero weight). All are computed.
    """
    counts = count_zeros(model)
    zeros, total = (sum(numbers) for numbers in zip(*counts.values(), strict=True)) if counts else (0, 0)
    everything = list(model.parameters())
    prunable = prunable_parameters(model)
    read = {id(parameter) for parameter in prunable.values()}
    nonzero = sum(int(parameter.count_nonzero()) for parameter in everything if id(parameter) not in read)
    nonzero += sum(size - gone for layer, (gone, size) in counts.items() if layer in prunable)

    def row(metric: str, value: float | int, unit: str, layer: str = "") -> Measurement:
        return Measurement("compress", metric, value, unit, "computed", layer)

    return [
        row("parameters", sum(parameter.numel() for parameter in everything), "parameters"),
        row("nonzero_parameters", nonzero, "parameters"),
        row("sparsity", zeros / max(total, 1), "fraction"),
        row("collapsed_layers", len(collapsed_layers(model)), "layers"),
        *(row("sparsity", gone / max(size, 1), "fraction", layer) for layer, (gone, size) in counts.items()),
    ]


def collapsed_layers(model: nn.Module) -> list[str]:
    """Return the prunable layers all of whose weights are zero; an empty layer is not one of them."""
    return [layer for layer, (zeros, size) in count_zeros(model).items() if size and zeros == size]
