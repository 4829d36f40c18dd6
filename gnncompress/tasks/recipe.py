"""How to train, as plain settings; imports no torch, so that a spec can hold one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How to train: Adam with L2 ``weight_decay``, at most ``epochs``, stopping ``patience`` after the best one."""

    epochs: int
    learning_rate: float
    weight_decay: float
    patience: int
