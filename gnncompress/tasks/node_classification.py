"""Node classification: one graph, one class a node."""

from __future__ import annotations

import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from gnncompress.measurements import Measurement
from gnncompress.tasks.calling import caller
from gnncompress.tasks.splits import Split


class NodeClassification:
    """The task of predicting ``data.y`` for every node, trained with cross-entropy on the training nodes.

    Shapes: data.x [N, F], data.y [N] of class numbers; a model returns logits [N, C].
    """

    name = "node-classification"

    def __init__(self, data: Data, split: Split, device: str = "cpu") -> None:
        self.data = data.to(device)
        self.train_nodes = torch.tensor(split.train, device=device)
        self.validation_nodes = torch.tensor(split.validation, device=device)
        self.test_nodes = torch.tensor(split.test, device=device)
        self.items = int(data.num_nodes)

    def outputs(self, model: nn.Module) -> Tensor:
        """Return the logits of all nodes."""
        return caller(model, self.data)()

    def loss(self, model: nn.Module) -> Tensor:
        """Return the mean cross-entropy over the training nodes: -log softmax(logits)[y]."""
        return F.cross_entropy(self.outputs(model)[self.train_nodes], self.data.y[self.train_nodes])

    @torch.no_grad()
    def validate(self, model: nn.Module) -> tuple[float, float]:
        """Return accuracy and loss on the validation nodes: the figures that choose the model."""
        model.eval()
        logits, target = self.outputs(model)[self.validation_nodes], self.data.y[self.validation_nodes]
        return float((logits.argmax(1) == target).float().mean()), float(F.cross_entropy(logits, target))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> list[Measurement]:
        """Score ``model`` on the test nodes, each score beside that of the majority class.

        The majority class is that of the training nodes: a constant predictor that knows no test label.
        Raises nothing on a class that is never predicted; its F1 is then 0, as is usual.
        """
        model.eval()
        logits = self.outputs(model)[self.test_nodes]
        target = self.data.y[self.test_nodes]
        majority = self.data.y[self.train_nodes].mode().values.expand_as(target)
        measurements = [Measurement("evaluate", "loss", float(F.cross_entropy(logits, target)), "nats")]
        for prefix, predicted in (("", logits.argmax(1)), ("majority_", majority)):
            truth, guess = target.cpu().numpy(), predicted.cpu().numpy()
            scores = {
                "accuracy": accuracy_score(truth, guess),
                "f1_macro": f1_score(truth, guess, average="macro", zero_division=0),
            }
            measurements += [
                Measurement("evaluate", prefix + metric, float(score), "fraction") for metric, score in scores.items()
            ]
        return measurements
