"""How to train, as plain settings; imports no torch, so that a spec can hold one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How to train: at most ``epochs``, stopping ``patience`` epochs after the best one.

    ``weight_decay`` is an L2 term in the gradient for adam, decoupled for adamw. ``batch_size`` counts graphs or
    training edges, 0 for all at once. Gradients are clipped to +-``clip`` where it is above 0. The learning rate is
    multiplied by ``decay`` every ``decay_every`` epochs where that is above 0. ``select`` says what chooses the
    epoch: the validation score (then the lowest loss), the validation loss (then the highest score), last, which takes
    the last one, or test, the test score: so came about some published figures, which this is there to repeat.
    ``preconditioner`` may be kfac.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    patience: int
    optimizer: Literal["adam", "adamw"] = "adam"
    batch_size: int = 0
    clip: float = 0.0
    decay_every: int = 0
    decay: float = 0.5
    select: Literal["score", "loss", "last", "test"] = "score"
    preconditioner: Literal["", "kfac"] = ""

    @property
    def halved(self) -> Recipe:
        """The same for half as many epochs, for a model that is trained already."""
        return replace(self, epochs=max(self.epochs // 2, 1))
