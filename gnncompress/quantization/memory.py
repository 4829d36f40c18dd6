"""A2Q's memory penalty: what pushes learnt bits down while the task's loss pushes them up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gnncompress.quantization.learned_quantizer import LearnedQuantizer

# The official Cora script's 2.5 for each squared kilobyte are 70 for each squared bit, its one layer having 2,708 x 16
# values. Training that starts from a trained model and chooses its epoch on validation needs more: over five seeds 200
# reached 80.2 % at 1.6 published bits, 70 gave 80.4 % at 2.2 and 300 79.8 % at 1.5.
PENALTY = 200.0
_PER_KILOBYTE = 8 * 1024


def kilobytes(bits: Sequence[Tensor], widths: Sequence[int]) -> Tensor:
    """Return sum over layers of width * sum |b|, as kilobytes: every row of a layer has so many values of b bits.

    Source: Zhu et al., A2Q, ICLR 2023, section 3.1 (memory size), and official code.
    """
    return torch.stack([width * b.abs().sum() for b, width in zip(bits, widths, strict=True)]).sum() / _PER_KILOBYTE


def published_bits(bits: Tensor) -> float:
    """Return mean(round(|b|) - 1), how A2Q's authors count: without sign, and -1 for what is less than half a bit."""
    return float((bits.abs().round() - 1).mean())


def memory_penalty(size: Tensor, target: float, weight: float) -> Tensor:
    """Return weight * relu(size - target)^2.

    Source: Zhu et al., A2Q, ICLR 2023, equation 6, and official code.
    """
    return weight * torch.relu(size - target) ** 2


class MemoryPenalty:
    """The penalty of a model's last training call, for the task's loss to add; no module, so a Sequential may have it.

    The target is ``target_bits`` for each value, the weight ``PENALTY`` for each squared bit above it, whatever the
    size of the graph. Deviation for groups: the official code counts every group that a batch uses once; here a group
    counts as often as rows take it, since so many rows have to be stored.
    """

    def __init__(self, quantizers: Iterable[LearnedQuantizer], target_bits: float) -> None:
        self.target_bits = target_bits
        self._quantizers = tuple(quantizer for quantizer in quantizers if quantizer.learns_bits)

    def auxiliary_loss(self) -> Tensor | float:
        """Return the penalty; 0 if no bits were learnt since it was asked for last."""
        spent = [part for quantizer in self._quantizers for part in quantizer.take_spent()]
        if not spent:
            return 0.0
        bits, widths = zip(*spent, strict=True)
        values = sum(width * b.numel() for b, width in spent)
        unit = values / _PER_KILOBYTE  # one bit for every value, in kilobytes
        return memory_penalty(kilobytes(bits, widths), self.target_bits * unit, PENALTY / unit**2)
