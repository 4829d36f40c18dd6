"""What every task is, so that one training loop, one set of methods and one profiler serve all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray
from torch import Tensor, nn

from gnncompress.errors import ParameterError
from gnncompress.measurements import PRIMARY_METRIC, Measurement


@dataclass(frozen=True)
class Predictions:
    """Labels and outputs of the test items, and what scores any of them by the task's primary metric.

    Shapes: ``truth`` [n] or [n, T], ``outputs`` [n], [n, C] or [n, T]; ``score`` takes both, None if it has no value.
    """

    truth: NDArray
    outputs: NDArray
    score: Callable[[NDArray, NDArray], float | None]


class Task(ABC):
    """Data, split, loss and scores of one prediction problem.

    ``features`` is the width of the input, ``outputs`` what a model returns per item (classes, labels or, for links,
    the width of an embedding), ``items`` how many items one call of ``inference`` processes, ``notes`` what the user
    must be told of data and split. ``free_outputs`` says that a model may return any width, such as an embedding's.
    """

    name: ClassVar[str]
    features: int
    outputs: int
    items: int
    notes: tuple[str, ...] = ()
    free_outputs: ClassVar[bool] = False

    @property
    def metric(self) -> str:
        """The figure that models are judged by."""
        return PRIMARY_METRIC[self.name]

    @property
    @abstractmethod
    def data(self) -> Any:
        """The graph, or the training graphs."""

    @abstractmethod
    def batches(self, size: int) -> Iterable[Any]:
        """Yield one epoch's batches of ``size`` items, in an order drawn anew; 0 is one batch of all."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean training loss of a batch."""

    @abstractmethod
    def validate(self, model: nn.Module) -> tuple[float, float]:
        """Return score and loss on the validation items: the figures that choose the model."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> list[Measurement]:
        """Score the test items, each score beside those of two constant predictors.

        ``constant_`` is the constant that is best on the test items, ``majority_`` what is most frequent in training.
        """

    @abstractmethod
    def predictions(self, model: nn.Module, part: str = "test") -> Predictions:
        """Return what the model says of the items of a part, test or validation, to be scored item by item."""

    @abstractmethod
    def inference(self, model: nn.Module, batch: int = 0) -> Callable[[], object]:
        """Return the call that predicts ``items`` items, with everything but the model's own work done before.

        ``batch`` is how many graphs a call has instead, 0 for all items.

        Raises:
            UsageError: as ``insist_on_batch``.
        """

    def insist_on_batch(self, batch: int) -> None:
        """Insist that a call may have ``batch`` graphs; 0 stands for all items.

        Raises:
            UsageError: if there are not so many, or there is one graph only.
        """
        if batch:
            raise ParameterError("batch_size", batch, f"{self.name} is measured on its whole graph; leave it out")

    @abstractmethod
    def example(self, model: nn.Module) -> Tensor:
        """Return the model's output for a little of the data, in one differentiable call."""

    @abstractmethod
    def check(self, model: nn.Module) -> None:
        """Call the model once, in evaluation mode; lazy layers take their shapes here.

        Raises:
            TaskError: if the model cannot take the data, or returns another shape than the task needs.
        """


def auxiliary_loss(model: nn.Module) -> Tensor | float:
    """Return what a model adds to the task's loss after a training call: SuperGAT's attention loss, A2Q's penalty."""
    total: Tensor | float = 0.0
    for part in (model, getattr(model, "memory_penalty", None)):
        extra = getattr(part, "auxiliary_loss", None)
        total = total + extra() if callable(extra) else total
    return total
