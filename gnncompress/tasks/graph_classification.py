"""Graph classification: many graphs, one class each, or several yes-or-no labels each."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data

from gnncompress.datasets.collated import Collated, together
from gnncompress.errors import ParameterError, TaskError
from gnncompress.measurements import GRAPHS, MULTILABEL, Measurement
from gnncompress.tasks.base import Predictions, Task, auxiliary_loss
from gnncompress.tasks.batching import GraphBlock, portions
from gnncompress.tasks.calling import call, insist_on_parameters, probe
from gnncompress.tasks.labels import absent_classes
from gnncompress.tasks.metrics import (
    Scores,
    accuracy,
    baseline_rows,
    classification_scores,
    loss_row,
    more_frequent,
    multilabel_baseline_rows,
    multilabel_roc_auc,
    multilabel_scores,
    predicted_classes,
    rows,
)
from gnncompress.tasks.splits import Split

# Graphs a call outside training: large enough to be quick, small enough for any machine's memory.
EVALUATION_BATCH = 512
EXAMPLE = 16


class _GraphTask(Task):
    """What both tasks share: batches of graphs, and logits collected over a part of the split."""

    def __init__(self, graphs: Sequence[Data], split: Split, outputs: int, device: str = "cpu") -> None:
        self.features = int(graphs[0].num_features)
        self.outputs = outputs
        self.items = len(split.test)
        graphs = Collated.of(graphs)
        self.labels = together(graphs, "y").reshape(len(graphs), -1).to(device)
        self._block = GraphBlock(graphs, device)
        self._train, self._validation, self._test = (
            torch.tensor(part, device=device) for part in (split.train, split.validation, split.test)
        )
        self._fixed = {"validation": self._batched(self._validation), "test": self._batched(self._test)}

    @cached_property
    def data(self) -> list[Data]:
        """The training graphs."""
        return self._block.graphs(self._train)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the training graphs in a new order, ``size`` at a time; one left over joins the batch before it."""
        order = self._train[torch.randperm(self._train.numel(), device=self._train.device)]
        yield from (self._block.batch(part) for part in portions(order, size))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss over the graphs of the batch."""
        return self.criterion(call(model, batch), batch.y) + auxiliary_loss(model)

    def inference(self, model: nn.Module, batch: int = 0) -> Callable[[], object]:
        """Return the call that computes the logits of the test graphs, from batches that are made before.

        With ``batch`` a call has the first so many test graphs, as one batch.
        """
        self.insist_on_batch(batch)
        if batch:
            few = self._block.batch(self._test[:batch])
            return lambda: call(model, few)
        return lambda: [call(model, batch) for batch in self._fixed["test"]]

    def insist_on_batch(self, batch: int) -> None:
        """Insist on so many test graphs."""
        if batch > self._test.numel():
            raise ParameterError("batch_size", batch, f"there are {self._test.numel()} test graphs; give fewer")

    def example(self, model: nn.Module) -> Tensor:
        """Return the logits of the first training graphs."""
        return call(model, self._block.batch(self._train[:EXAMPLE]))

    @torch.no_grad()
    def check(self, model: nn.Module) -> None:
        """Insist on logits [G, outputs] and on something to train."""
        batch = self._block.batch(self._train[:2])
        shape = list(probe(model.eval(), batch).shape)
        if shape == [batch.num_nodes, self.outputs] and batch.num_nodes != batch.num_graphs:
            raise TaskError(
                f"{type(model).__name__} returns a row a node; {self.name} needs a row a graph: pool the nodes, "
                "e.g. with torch_geometric.nn.global_mean_pool(x, batch)"
            )
        if shape != [batch.num_graphs, self.outputs]:
            raise TaskError(
                f"{type(model).__name__} returns {shape} where {self.name} needs logits "
                f"[{batch.num_graphs} graphs, {self.outputs} outputs]"
            )
        insist_on_parameters(model)

    @abstractmethod
    def criterion(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of logits [G, outputs]."""

    @torch.no_grad()
    def predictions(self, model: nn.Module, part: str = "test") -> Predictions:
        """Return labels and logits of the graphs of a part."""
        graphs = self._test if part == "test" else self._validation
        logits, target = self._logits(model, part), self.labels[graphs]
        return Predictions(target.cpu().numpy(), logits.double().cpu().numpy(), self.primary)

    @staticmethod
    @abstractmethod
    def primary(truth: NDArray, logits: NDArray) -> float | None:
        """Return the score that the task is judged by."""

    def _batched(self, indices: Tensor) -> list[Batch]:
        return [self._block.batch(part) for part in indices.split(EVALUATION_BATCH)]

    @torch.no_grad()
    def _logits(self, model: nn.Module, part: str) -> Tensor:
        model.eval()
        return torch.cat([call(model, batch) for batch in self._fixed[part]])


class GraphClassification(_GraphTask):
    """The task of predicting one class a graph, trained with cross-entropy.

    Shapes: each graph has y [1], its class number; a model returns logits [G, C] for a batch of G graphs.

    Raises:
        TaskError: if a class has no training graph.
    """

    name: ClassVar[str] = GRAPHS
    primary = staticmethod(accuracy)

    def __init__(self, graphs: Sequence[Data], split: Split, device: str = "cpu") -> None:
        graphs = Collated.of(graphs)
        classes = int(together(graphs, "y").max()) + 1
        super().__init__(graphs, split, classes, device)
        self.labels = self.labels.flatten()
        absent_classes(self.labels[self._train].cpu(), classes, "graph")

    def criterion(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy: -log softmax(logits)[y]."""
        return F.cross_entropy(logits, y.flatten())

    def validate(self, model: nn.Module) -> tuple[float, float]:
        """Return accuracy and loss on the validation graphs."""
        logits, target = self._logits(model, "validation"), self.labels[self._validation]
        return float((logits.argmax(1) == target).float().mean()), float(self.criterion(logits, target))

    def evaluate(self, model: nn.Module) -> list[Measurement]:
        """Score ``model`` on the test graphs, each score beside those of two constant answers."""
        logits, target = self._logits(model, "test"), self.labels[self._test]
        truth, probabilities = target.cpu().numpy(), logits.double().softmax(1).cpu().numpy()
        majority = int(self.labels[self._train].mode().values)
        return [
            loss_row(float(self.criterion(logits, target))),
            predicted_classes(logits.argmax(1).cpu().numpy(), probabilities),
            *rows(classification_scores(truth, probabilities)),
            *baseline_rows(truth, majority, self.outputs),
        ]


class MultilabelGraphClassification(_GraphTask):
    """The task of predicting several yes-or-no labels a graph, trained with binary cross-entropy.

    Shapes: each graph has y [1, T] of 0, 1 and NaN for missing; a model returns logits [G, T]. Missing labels count
    neither in the loss nor in a score.

    Source: Wu et al., MoleculeNet, Chem. Sci. 2018 (multi-task classification).
    """

    name: ClassVar[str] = MULTILABEL
    primary = staticmethod(multilabel_roc_auc)

    def __init__(self, graphs: Sequence[Data], split: Split, device: str = "cpu") -> None:
        super().__init__(graphs, split, int(graphs[0].y.numel()), device)
        if bool(self.labels[self._validation].isnan().all()):
            raise TaskError("no validation graph has a label; use another --seed or hold back more")
        known = self.labels[self._train]
        for label in range(self.outputs):
            values = known[:, label]
            if not (values == 0).any() or not (values == 1).any():
                raise TaskError(
                    f"label {label} does not have both values among the training graphs, so it cannot be learnt; "
                    "use another --seed or hold back less"
                )

    def criterion(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the mean of -y log p - (1 - y) log(1 - p) over the labels that are present."""
        present = ~y.isnan()
        if not present.any():  # the mean of no labels would be NaN
            return logits.sum() * 0
        return F.binary_cross_entropy_with_logits(logits[present], y[present].to(logits.dtype))

    def validate(self, model: nn.Module) -> tuple[float, float]:
        """Return mean ROC-AUC and loss on the validation graphs; the score is 0.5 where no label has both values."""
        logits, target = self._logits(model, "validation"), self.labels[self._validation]
        score = self._scores(logits, target)["roc_auc"]
        return 0.5 if score is None else score, float(self.criterion(logits, target))

    def evaluate(self, model: nn.Module) -> list[Measurement]:
        """Score ``model`` on the test graphs, each score beside those of two constant answers to each label."""
        logits, target = self._logits(model, "test"), self.labels[self._test]
        majority = more_frequent(self.labels[self._train].cpu().numpy())
        known = not bool(target.isnan().all())
        return [
            loss_row(float(self.criterion(logits, target)) if known else math.nan),
            predicted_classes((logits > 0).cpu().numpy(), logits.double().sigmoid().cpu().numpy()),
            *rows(self._scores(logits, target)),
            *multilabel_baseline_rows(target.cpu().numpy(), majority),
        ]

    def _scores(self, logits: Tensor, target: Tensor) -> Scores:
        return multilabel_scores(target.double().cpu().numpy(), logits.double().sigmoid().cpu().numpy())
