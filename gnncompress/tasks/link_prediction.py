"""Link prediction: one graph, some of its edges held back to be told from pairs that are no edges."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from gnncompress.errors import TaskError
from gnncompress.measurements import LINKS, Measurement, measured
from gnncompress.tasks.base import Predictions, Task, auxiliary_loss
from gnncompress.tasks.calling import call, insist_on_parameters, probe, wants
from gnncompress.tasks.links import LinkSplit, sample_non_edges
from gnncompress.tasks.metrics import (
    best_threshold,
    link_baseline_rows,
    link_roc_auc,
    link_scores,
    loss_row,
    predicted_classes,
    rows,
)

EMBEDDING = 64
EXAMPLE = 32


class LinkPrediction(Task):
    """The task of telling held-back edges from non-edges, trained with binary cross-entropy on the training edges.

    A model sees the training edges only, in both directions, see ``training_graph``. It returns either an embedding a
    node [N, D], and the logit of a pair is their inner product; or, if its ``forward`` takes ``edge_label_index``
    [2, P], the logits [P] of those pairs. In training it may return embeddings [K, N, D] of K views of the graph: the
    loss is their mean loss. Every epoch draws as many non-edges (of the training graph) as it has training edges.

    Source: Kipf and Welling, Variational Graph Auto-Encoders, 2016 (inner-product decoder, protocol).
    """

    name: ClassVar[str] = LINKS
    free_outputs: ClassVar[bool] = True

    def __init__(self, data: Data, split: LinkSplit, device: str = "cpu") -> None:
        self.features = int(data.num_features)
        self.outputs = EMBEDDING
        self.items = 2 * split.test.shape[1]
        self._data = data.to(device)
        self.train_edges = _tensor(split.train, device)
        self._pairs = split.train
        self._validation = _labelled(split.validation, split.validation_negatives, device)
        self._test = _labelled(split.test, split.test_negatives, device)

    @property
    def data(self) -> Data:
        """The graph of the training edges."""
        return self._data

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield training edges and as many non-edges, ``size`` edges at a time, both in an order drawn anew."""
        edges = self.train_edges
        seed = int(torch.randint(2**62, ()))
        generator = np.random.Generator(np.random.PCG64(seed))
        drawn = sample_non_edges(int(self._data.num_nodes), self._pairs, edges.size(1), generator)
        negatives = _tensor(drawn, str(edges.device))
        order = torch.randperm(edges.size(1), device=edges.device) if size else torch.arange(edges.size(1))
        for part in order.split(size or order.numel()):
            yield edges[:, part], negatives[:, part]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the sum of the mean losses of edges and non-edges: -log s(z_i.z_j) and -log(1 - s(z_i.z_j))."""
        edges, negatives = batch
        logits = self._logits(model, torch.cat([edges, negatives], dim=1))
        positive, negative = logits.split([edges.size(1), negatives.size(1)], dim=-1)
        return -F.logsigmoid(positive).mean() - F.logsigmoid(-negative).mean() + auxiliary_loss(model)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> tuple[float, float]:
        """Return ROC-AUC and loss on the validation pairs."""
        model.eval()
        pairs, truth = self._validation
        logits = self._logits(model, pairs)
        score = link_scores(truth, logits.double().cpu().numpy(), 0.0)["roc_auc"]
        return score or 0.0, float(self._cross_entropy(logits, truth))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> list[Measurement]:
        """Score ``model`` on the test pairs; its accuracy is at the threshold that is best on validation.

        The baselines answer every pair alike; half of the pairs are edges.
        """
        model.eval()
        pairs, truth = self._test
        logits = self._logits(model, pairs)
        threshold = self._threshold(model)
        values = logits.double().cpu().numpy()
        return [
            loss_row(float(self._cross_entropy(logits, truth))),
            measured("evaluate", "threshold", threshold, "logit"),
            predicted_classes(None if threshold is None else values >= threshold, values),
            *rows(link_scores(truth, values, threshold)),
            *link_baseline_rows(truth),
        ]

    @torch.no_grad()
    def predictions(self, model: nn.Module, part: str = "test") -> Predictions:
        """Return which pairs of a part are edges, and logits, scored by ROC-AUC."""
        pairs, truth = self._test if part == "test" else self._validation
        logits = self._logits(model.eval(), pairs)
        return Predictions(np.asarray(truth), logits.double().cpu().numpy(), link_roc_auc)

    def inference(self, model: nn.Module, batch: int = 0) -> Callable[[], object]:
        """Return the call that computes the logits of the test pairs, the graph's embeddings included.

        What a model remembers by itself is left out of all but the first call: ``walkpool`` keeps the enclosing
        subgraphs of the pairs it was asked for, which depend on the graph alone. Measured latency is that of a warm
        model: on Cora about 1.1 s, where the first call takes 1.5 s.
        """
        self.insist_on_batch(batch)
        pairs, _ = self._test
        data = self._given(model, pairs)
        return lambda: self._scored(model, data, pairs)

    def example(self, model: nn.Module) -> Tensor:
        """Return the logits of the first training edges."""
        return self._logits(model, self.train_edges[:, :EXAMPLE])

    @torch.no_grad()
    def check(self, model: nn.Module) -> None:
        """Insist on embeddings [N, D], or logits [P], and on something to train."""
        nodes = int(self._data.num_nodes)
        pairs = self.train_edges[:, :2]
        output = probe(model.eval(), self._given(model, pairs))
        if wants(model, "edge_label_index"):
            needed, fits = f"logits [{pairs.size(1)} pairs]", list(output.shape) == [pairs.size(1)]
        else:
            needed, fits = f"embeddings [{nodes} nodes, width]", output.dim() == 2 and output.size(0) == nodes
        if not fits:
            raise TaskError(f"{type(model).__name__} returns {list(output.shape)} where {self.name} needs {needed}")
        insist_on_parameters(model)

    def _threshold(self, model: nn.Module) -> float | None:
        """Return the best threshold on validation; one that calls nothing a link is just above the largest logit.

        It is None where a logit is not finite.
        """
        pairs, truth = self._validation
        logits = self._logits(model, pairs).double().cpu().numpy()
        if not np.isfinite(logits).all():
            return None
        return min(best_threshold(truth, logits), float(np.nextafter(logits.max(), np.inf)))

    def _given(self, model: nn.Module, pairs: Tensor) -> Data:
        """Return what ``model`` is called with: the graph, and the pairs where it wants them."""
        if not wants(model, "edge_label_index"):
            return self._data
        data = copy.copy(self._data)
        data.edge_label_index = pairs
        return data

    def _logits(self, model: nn.Module, pairs: Tensor) -> Tensor:
        """Return the logits [P] of ``pairs``; for a model of several views in training, [K, P]."""
        return self._scored(model, self._given(model, pairs), pairs)

    def _scored(self, model: nn.Module, data: Data, pairs: Tensor) -> Tensor:
        """Return the logits of ``pairs`` from ``data`` that is made already."""
        output = call(model, data)
        if "edge_label_index" in data:
            return output
        return (output[..., pairs[0], :] * output[..., pairs[1], :]).sum(-1)

    def _cross_entropy(self, logits: Tensor, truth: np.ndarray) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.from_numpy(truth).to(logits))


def _tensor(pairs: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(pairs).long().to(device)


def _labelled(edges: np.ndarray, negatives: np.ndarray, device: str) -> tuple[Tensor, np.ndarray]:
    """Return pairs [2, P], edges first, and their labels [P]."""
    truth = np.concatenate([np.ones(edges.shape[1]), np.zeros(negatives.shape[1])])
    return _tensor(np.concatenate([edges, negatives], axis=1), device), truth
