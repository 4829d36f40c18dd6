"""A2Q's quantizer as a module: steps, and where it is wanted bits, that are trained with the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter, is_lazy

from gnncompress.errors import QuantizationError
from gnncompress.quantization.learned import (
    Feedback,
    Ranking,
    half_range,
    nearest_group,
    quantize_steps,
    rank_groups,
    round_steps,
    step_codes,
    step_size,
    step_values,
)
from gnncompress.quantization.observers import finite
from gnncompress.quantization.quantizer import Rows

By = Literal["row", "group", "slice"]
BITS = 4
GROUP_BITS = 6


class LearnedQuantizer(nn.Module):
    """Rounds each row, or slice along ``dim``, by a step and a number of bits of its own or of its group.

    row: one pair for each row, bits learnt, local gradients (A2Q's nodes). group: ``groups`` pairs for any number of
    rows, each taking the one whose range is nearest to its largest value, bits learnt, global gradients (A2Q's nearest
    neighbour strategy). slice: one step for each slice, 4 bits, local or, for weights, global gradients.

    The parameters ``step`` [n] and ``bits`` [n] take their shapes from the first tensor in training, or from what is
    loaded. Their first values come from that tensor, too: steps 2 mean|x| / sqrt(qmax), groups at the quantiles of the
    rows' largest values, 4 bits, 5 where nothing is negative, groups 6.

    Source: Zhu et al., A2Q, ICLR 2023, sections 3.1 to 3.3, and official code. Deviation: the first steps are drawn
    there at random; these are Learned Step Size Quantization's (Esser et al., ICLR 2020, section 2.1). Groups start
    at 4 or 5 bits there and hardly move.
    """

    def __init__(
        self, name: str, by: By, dim: int = 0, groups: int = 0, feedback: Feedback = "local", most: int = 8
    ) -> None:
        super().__init__()
        self.name, self.by, self.dim, self.groups, self.feedback = name, by, dim, groups, feedback
        self.most_at_first = most
        self.step: nn.Parameter = UninitializedParameter()  # type: ignore[assignment]
        self.learns_bits = by != "slice"
        if self.learns_bits:
            self.bits: nn.Parameter = UninitializedParameter()  # type: ignore[assignment]
        self.calibrating = False
        self.frozen = False
        self.raw = False
        self._spent: list[tuple[Tensor, int]] = []
        self._settled: list[tuple[tuple[int, ...], Tensor, Tensor, Ranking | None]] = []  # at most one

    def forward(self, x: Tensor, rows: Rows | None = None) -> Tensor:
        """Return ``x`` rounded; ``rows`` is there for the sake of the affine quantizer and plays no part.

        Raises:
            QuantizationError: naming the place: nothing was seen before evaluation, a value is NaN or infinite, there
                are steps for another number of rows, or a sparse matrix.
        """
        if not x.numel():
            return x
        if not self.seen:
            if not self.training and not self.calibrating:
                raise QuantizationError(f"{self.name}: its quantizer has seen nothing; calibrate the model first")
            self.start(x)
        if self.calibrating or not self.step.numel():
            return x
        if x.layout != torch.strided:
            raise QuantizationError(f"{self.name}: A2Q takes no sparse features; leave the layer in floats")
        if self.frozen and not self.step.is_inference():
            return self._evaluated(x)
        if not finite(x):
            raise QuantizationError(f"{self.name}: a value is NaN or infinite")
        flat = self._flat(x)
        step, bits = self._pairs(flat, self._by_column(x))
        if self.training and self.learns_bits:
            self._spent = [(bits, flat.size(1))]
        return self._back(quantize_steps(flat, step, bits, self.feedback, self.feedback), x)

    @property
    def seen(self) -> bool:
        """Whether the parameters have their shapes."""
        return not is_lazy(self.step)

    def take_spent(self) -> list[tuple[Tensor, int]]:
        """Return the bits of each row of the last training call and the rows' width, once."""
        spent, self._spent = self._spent, []
        return spent

    def state(self) -> tuple[int, ...]:
        """Return what changes whenever the parameters do."""
        step, bits = self._parameters["step"], self._parameters.get("bits")
        return id(step), step.data_ptr(), step._version, 0 if bits is None else bits._version  # type: ignore[union-attr]

    def _evaluated(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded by parameters that stay the same from call to call: what follows from them is kept."""
        state = self.state()
        if not self._settled or self._settled[0][0] != state:
            with torch.inference_mode(False), torch.no_grad():  # so that what is kept serves in every mode
                half = half_range(self.bits if self.learns_bits else torch.full_like(self.step, BITS))
                ranking = rank_groups(self.step, self.bits) if self.by == "group" else None
                self._settled[:] = [(state, step_size(self.step), half - 1, ranking)]
        _, size, most, ranking = self._settled[0]
        flat = self._flat(x)
        if ranking is not None:
            index = nearest_group(flat, ranking)
            size, most = size.index_select(0, index), most.index_select(0, index)
        else:
            self._insist_on(flat)
        dim = 0 if self._by_column(x) else 1
        values, sound = round_steps(flat, size.unsqueeze(dim), most.unsqueeze(dim))
        if not sound:
            raise QuantizationError(f"{self.name}: a value is NaN or infinite")
        return self._back(values, x)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Give the parameters their shapes and first values; none for raw input, which stays as it is."""
        if x.is_meta:  # a model that is only being sized
            size = x.size(self.dim)
            step = bits = x.new_empty(size)
        elif self.raw:
            size, step, bits = 0, torch.empty(0), torch.empty(0)
        else:
            flat = self._flat(x.detach())
            start = self._first_bits(x)
            across = 0 if self._by_column(x) else 1
            size = self.groups if self.by == "group" else flat.size(1 - across)
            bits = torch.full((size,), float(start))
            if self.by == "group":
                at = (torch.arange(size) + 0.5) / size
                step = torch.quantile(flat.abs().amax(1)[: 10**6].float(), at.to(flat)) / 2 ** (start - 1)
            else:
                step = 2 * flat.abs().mean(across) / math.sqrt(2 ** (start - 1) - 1)
            usual = step[step > 0].median() if bool((step > 0).any()) else torch.tensor(0.01)
            step = torch.where(step > 0, step, usual)
        for name, value in (("step", step), ("bits", bits)):
            if hasattr(self, name):
                parameter = getattr(self, name)
                parameter.materialize((size,), device=x.device, dtype=torch.float32)
                parameter.copy_(value)

    def _first_bits(self, x: Tensor) -> int:
        if self.by == "slice":
            return BITS
        usual = GROUP_BITS if self.by == "group" else BITS + int(bool((x >= 0).all()))
        return min(usual, self.most_at_first)

    def row_bits(self, x: Tensor) -> Tensor:
        """Return the bits of each row, or slice, of ``x``, as they were learnt."""
        return self._pairs(self._flat(x), self._by_column(x))[1].detach().flatten()

    def codes_of(self, x: Tensor) -> Tensor:
        """Return the codes of ``x``, whole numbers of at most 8 bits, sign and magnitude."""
        flat = self._flat(x)
        return self._back(step_codes(flat, *self._pairs(flat, self._by_column(x))), x).to(torch.int8)

    def values(self, codes: Tensor) -> Tensor:
        """Return the values that codes stand for, as ``forward`` gives them."""
        flat = self._flat(codes.to(self.step.dtype))
        return self._back(step_values(flat, self._pairs(flat, self._by_column(codes))[0]), codes)

    def _pairs(self, flat: Tensor, by_column: bool) -> tuple[Tensor, Tensor]:
        if not self.learns_bits:
            step = self.step.unsqueeze(int(not by_column))
            return step, torch.full_like(step, BITS)
        step = self.step.unsqueeze(1)
        bits = self.bits.unsqueeze(1)
        if self.by == "group":
            index = nearest_group(flat, rank_groups(step, bits))
            return step[index], bits[index]
        self._insist_on(flat)
        return step, bits

    def _insist_on(self, flat: Tensor) -> None:
        if self.by == "row" and len(flat) != len(self.step):
            raise QuantizationError(
                f"{self.name}: has a step and bits for each of the {len(self.step)} nodes of the graph that it was "
                f"trained on and is given {len(flat)} nodes; groups of them (--groups 1000) make a model for any graph"
            )

    def _by_column(self, x: Tensor) -> bool:
        return self.dim % x.dim() == x.dim() - 1 > 0

    def _flat(self, x: Tensor) -> Tensor:
        """Return ``x`` with a row for each slice, or a column where slices lie along its last dimension."""
        if x.dim() == 2 and self.dim in (0, -1):
            return x
        if self._by_column(x):
            return x.reshape(-1, x.size(-1))
        return x.movedim(self.dim, 0).reshape(x.size(self.dim), -1)

    def _back(self, flat: Tensor, like: Tensor) -> Tensor:
        if like.dim() == 2 and self.dim in (0, -1):
            return flat
        if self._by_column(like):
            return flat.view(like.shape)
        return flat.reshape(like.movedim(self.dim, 0).shape).movedim(0, self.dim).contiguous()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_spent": [], "_settled": []}  # what belongs to a call is no part of a copy

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, parameter in self._parameters.items():
            if parameter is not None:  # one without a shape has nothing to detach; whoever saves it is to say so
                destination[prefix + name] = parameter if keep_vars or is_lazy(parameter) else parameter.detach()

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("step", "bits"):
            found = state.get(prefix + name)
            if hasattr(self, name) and isinstance(found, Tensor) and is_lazy(getattr(self, name)):
                getattr(self, name).materialize(found.shape, dtype=torch.float32)
        super()._load_from_state_dict(state, prefix, *rest)

    def extra_repr(self) -> str:
        """Say what the quantizer is, for ``print(model)``."""
        number = "?" if is_lazy(self.step) else self.step.numel()
        return f"{'learnt' if self.learns_bits else BITS} bits, {number} steps, by {self.by}"
