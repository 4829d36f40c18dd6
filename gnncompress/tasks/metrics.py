"""Scores by name, from scikit-learn; what cannot be scored is unavailable, never 0."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from gnncompress.measurements import Measurement, measured

Scores = dict[str, float | None]


def classification_scores(truth: NDArray, probabilities: NDArray) -> Scores:
    """Score class probabilities.

    Shapes: truth [n] of class numbers, probabilities [n, C]. roc_auc is one-versus-rest, averaged over the classes;
    it is None where a class is missing from ``truth``. All are None where a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(("accuracy", "f1_macro", "roc_auc"))
    predicted = probabilities.argmax(1)
    return {
        "accuracy": float(_sklearn().accuracy_score(truth, predicted)),
        "f1_macro": float(_sklearn().f1_score(truth, predicted, average="macro", zero_division=0)),
        "roc_auc": _roc_auc(truth, probabilities),
    }


def accuracy(truth: NDArray, logits: NDArray) -> float | None:
    """Return the fraction of items [n] whose largest of logits [n, C] is that of their class.

    It is None where the probabilities of an item are not finite, which its largest logit, NaN if one is, says.
    """
    if not np.isfinite(logits.max(1)).all():
        return None
    return float((logits.argmax(1) == truth).mean())


def link_roc_auc(truth: NDArray, logits: NDArray) -> float | None:
    """Return the ROC-AUC of pairs [n], None where all are links or none is, or a logit is not finite."""
    if not np.isfinite(logits).all() or len(np.unique(truth)) < 2:
        return None
    return float(_sklearn().roc_auc_score(truth, logits))


def multilabel_roc_auc(truth: NDArray, logits: NDArray) -> float | None:
    """Return the mean ROC-AUC of labels [n, T], as ``multilabel_scores`` has it."""
    return multilabel_scores(truth, logits)["roc_auc"]  # ranks are those of probabilities


def constant_scores(truth: NDArray, answer: int, classes: int) -> Scores:
    """Score the predictor that always answers ``answer``; its ROC-AUC is that of any constant, 0.5."""
    constant = np.zeros((truth.size, classes))
    constant[:, answer] = 1
    return classification_scores(truth, constant)


def baseline_rows(truth: NDArray, majority: int, classes: int) -> list[Measurement]:
    """Return the scores of the best constant answer (``constant_``) and of ``majority`` (``majority_``).

    The most frequent class of ``truth`` [n] is best by accuracy and by macro-F1: the F1 of a class with k items that is
    always answered, 2k / (n + k), grows with k, and that of all others is 0. ``majority`` is the most frequent class of
    the training items, which a split that balances the classes makes a poor answer.
    """
    best = int(np.bincount(truth, minlength=classes).argmax())
    return _baselines(constant_scores(truth, best, classes), constant_scores(truth, majority, classes))


def multilabel_baseline_rows(truth: NDArray, majority: NDArray) -> list[Measurement]:
    """Return the scores of the best constant answer to each label, and of ``majority`` [T], those of training.

    Shapes: truth [n, T] of 0, 1 and NaN.
    """
    best = more_frequent(truth)
    return _baselines(*(multilabel_scores(truth, np.broadcast_to(answer, truth.shape)) for answer in (best, majority)))


def more_frequent(labels: NDArray) -> NDArray:
    """Return the more frequent value of each label [T], 0 where both are as frequent; labels [n, T], NaN unknown."""
    return (np.nansum(labels, 0) > 0.5 * (~np.isnan(labels)).sum(0)).astype(float)


def link_baseline_rows(truth: NDArray) -> list[Measurement]:
    """Return the scores of the best constant answer to pairs [n], and of calling all links.

    The latter stands for the majority of training: of its pairs half are links.
    """
    logits = np.zeros(truth.shape)
    return _baselines(link_scores(truth, logits, 0.0 if truth.mean() >= 0.5 else 1.0), link_scores(truth, logits, 0.0))


def _baselines(constant: Scores, majority: Scores) -> list[Measurement]:
    return [*rows(constant, "constant_"), *rows(majority, "majority_")]


def multilabel_scores(truth: NDArray, probabilities: NDArray) -> Scores:
    """Score several yes-or-no labels an item, some of them missing.

    Shapes: truth [n, T] of 0, 1 and NaN, probabilities [n, T]. roc_auc and average_precision are means over the
    labels that have both values among the items, None if there is none; accuracy is over all labels present. All are
    None where a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(("roc_auc", "average_precision", "accuracy"))
    known = ~np.isnan(truth)
    columns = [(truth[known[:, t], t], probabilities[known[:, t], t]) for t in range(truth.shape[1])]
    both = [(y, p) for y, p in columns if len(np.unique(y)) == 2]
    present = known.any()
    return {
        "roc_auc": _mean([_sklearn().roc_auc_score(y, p) for y, p in both]),
        "average_precision": _mean([_sklearn().average_precision_score(y, p) for y, p in both]),
        "accuracy": float(((probabilities > 0.5) == (truth > 0.5))[known].mean()) if present else None,
    }


def link_scores(truth: NDArray, logits: NDArray, threshold: float | None) -> Scores:
    """Score links; accuracy and F1 call a pair a link when its logit is at least ``threshold``, None if there is none.

    All are None where a logit is not finite.
    """
    if not np.isfinite(logits).all():
        return dict.fromkeys(("roc_auc", "average_precision", "accuracy", "f1_macro"))
    ranking: Scores = {
        "roc_auc": float(_sklearn().roc_auc_score(truth, logits)),
        "average_precision": float(_sklearn().average_precision_score(truth, logits)),
    }
    if threshold is None:
        return ranking | dict.fromkeys(("accuracy", "f1_macro"))
    predicted = logits >= threshold
    return ranking | {
        "accuracy": float(_sklearn().accuracy_score(truth, predicted)),
        "f1_macro": float(_sklearn().f1_score(truth, predicted, average="macro", zero_division=0)),
    }


def best_threshold(truth: NDArray, logits: NDArray) -> float:
    """Return the threshold of highest accuracy on ``logits``, the lowest of several; +inf calls nothing a link."""
    order = np.argsort(-logits, kind="stable")
    ranked, links = logits[order], truth[order].astype(bool)
    # Calling the first k pairs links is right for the links among them and the non-links after them.
    right = np.concatenate([[0], np.cumsum(links)]) + np.concatenate([np.cumsum(~links[::-1])[::-1], [0]])
    possible = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]])  # equal logits fall on one side
    best = np.flatnonzero(possible & (right == right[possible].max()))[-1]
    return float(ranked[best - 1]) if best else float("inf")


def rows(scores: Scores, prefix: str = "") -> list[Measurement]:
    """Return scores as measurements of the evaluate phase; a missing one says so."""
    return [measured("evaluate", prefix + metric, value, "fraction") for metric, value in scores.items()]


def loss_row(loss: float) -> Measurement:
    """Return the test loss in nats; one that is NaN is unavailable, one that is infinite is measured."""
    return measured("evaluate", "loss", None if np.isnan(loss) else loss, "nats")


def predicted_classes(predicted: NDArray | None, outputs: NDArray) -> Measurement:
    """Count the different answers given: 1 is a constant predictor, however good its accuracy looks.

    It is unavailable where there are no answers, or one of the ``outputs`` that they were made of is not finite.

    Shapes: predicted [n], or [n, T] where an answer is a row; outputs of any.
    """
    if predicted is None or not np.isfinite(outputs).all():
        return Measurement("evaluate", "predicted_classes", None, "classes", "unavailable")
    return Measurement("evaluate", "predicted_classes", len(np.unique(predicted, axis=0)), "classes", "computed")


def _roc_auc(truth: NDArray, probabilities: NDArray) -> float | None:
    classes = probabilities.shape[1]
    if len(np.unique(truth)) < classes or classes < 2:
        return None
    if classes == 2:
        return float(_sklearn().roc_auc_score(truth, probabilities[:, 1]))
    one_versus_rest = [_sklearn().roc_auc_score(truth == number, probabilities[:, number]) for number in range(classes)]
    return float(np.mean(one_versus_rest))


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _sklearn() -> ModuleType:
    """Import scikit-learn's scores only when something is scored: it takes a second."""
    from sklearn import metrics

    return metrics
