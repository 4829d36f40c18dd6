"""Node classification: one graph, one class a node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from gnncompress.errors import TaskError
from gnncompress.measurements import NODES, Measurement
from gnncompress.tasks.base import Predictions, Task, auxiliary_loss
from gnncompress.tasks.calling import call, insist_on_parameters, probe
from gnncompress.tasks.labels import absent_classes
from gnncompress.tasks.metrics import accuracy, baseline_rows, classification_scores, loss_row, predicted_classes, rows
from gnncompress.tasks.splits import Split


class NodeClassification(Task):
    """The task of predicting ``data.y`` for every node, trained with cross-entropy on the training nodes.

    Shapes: data.x [N, F], data.y [N] of class numbers; a model returns logits [N, C].

    Raises:
        TaskError: if a class has no training node.
    """

    name: ClassVar[str] = NODES

    def __init__(self, data: Data, split: Split, device: str = "cpu") -> None:
        self.features = int(data.num_features)
        self.outputs = int(data.y.max()) + 1
        self.items = int(data.num_nodes)
        absent_classes(data.y[list(split.train)], self.outputs, "node")
        self._data = data.to(device)
        self.train_nodes = torch.tensor(split.train, device=device)
        self.validation_nodes = torch.tensor(split.validation, device=device)
        self.test_nodes = torch.tensor(split.test, device=device)

    @property
    def data(self) -> Data:
        """The graph."""
        return self._data

    def batches(self, size: int) -> Iterable[Tensor]:
        """Yield the training nodes, all at once: the graph is one."""
        yield self.train_nodes

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Return the mean cross-entropy over the training nodes: -log softmax(logits)[y]."""
        return F.cross_entropy(call(model, self._data)[batch], self._data.y[batch]) + auxiliary_loss(model)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> tuple[float, float]:
        """Return accuracy and loss on the validation nodes."""
        model.eval()
        logits, target = call(model, self._data)[self.validation_nodes], self._data.y[self.validation_nodes]
        return float((logits.argmax(1) == target).float().mean()), float(F.cross_entropy(logits, target))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> list[Measurement]:
        """Score ``model`` on the test nodes, each score beside those of two constant answers."""
        model.eval()
        logits = call(model, self._data)[self.test_nodes]
        target = self._data.y[self.test_nodes]
        majority = int(self._data.y[self.train_nodes].mode().values)
        truth, probabilities = target.cpu().numpy(), logits.double().softmax(1).cpu().numpy()
        return [
            loss_row(float(F.cross_entropy(logits, target))),
            predicted_classes(logits.argmax(1).cpu().numpy(), probabilities),
            *rows(classification_scores(truth, probabilities)),
            *baseline_rows(truth, majority, self.outputs),
        ]

    @torch.no_grad()
    def predictions(self, model: nn.Module, part: str = "test") -> Predictions:
        """Return classes and logits of the nodes of a part, scored by accuracy."""
        nodes = self.test_nodes if part == "test" else self.validation_nodes
        logits = call(model.eval(), self._data)[nodes]
        return Predictions(self._data.y[nodes].cpu().numpy(), logits.cpu().numpy(), accuracy)

    def inference(self, model: nn.Module, batch: int = 0) -> Callable[[], object]:
        """Return the call that computes the logits of all nodes."""
        self.insist_on_batch(batch)
        return lambda: call(model, self._data)

    def example(self, model: nn.Module) -> Tensor:
        """Return the logits of all nodes: the graph is one."""
        return call(model, self._data)

    @torch.no_grad()
    def check(self, model: nn.Module) -> None:
        """Insist on logits [N, C] and on something to train."""
        shape = list(probe(model.eval(), self._data).shape)
        if shape != [self.items, self.outputs]:
            raise TaskError(
                f"{type(model).__name__} returns {shape} where {self.name} needs logits "
                f"[{self.items} nodes, {self.outputs} classes]"
            )
        insist_on_parameters(model)
