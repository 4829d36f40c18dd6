from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from gnncompress.tasks.metrics import (
    baseline_rows,
    best_threshold,
    classification_scores,
    constant_scores,
    link_baseline_rows,
    link_scores,
    multilabel_baseline_rows,
    multilabel_scores,
    rows,
)


def test_two_classes_are_scored_by_the_second() -> None:
    truth = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.4, 0.6]])
    scores = classification_scores(truth, probabilities)
    assert scores == {"accuracy": 0.5, "f1_macro": 0.5, "roc_auc": 0.75}


def test_a_class_missing_from_the_truth_leaves_no_roc_auc() -> None:
    scores = classification_scores(np.array([0, 1, 0]), np.full((3, 3), 1 / 3))
    assert scores["roc_auc"] is None
    (row,) = (row for row in rows(scores, "majority_") if row.metric == "majority_roc_auc")
    assert (row.value, row.source) == (None, "unavailable")


def test_constant_predictor() -> None:
    scores = constant_scores(np.array([0, 1, 1, 1]), 1, 2)
    assert scores["accuracy"] == 0.75
    assert scores["roc_auc"] == 0.5
    assert scores["f1_macro"] == pytest.approx(0.5 * 6 / 7)


@given(seed=st.integers(0, 500), classes=st.integers(2, 5))
def test_no_constant_beats_the_best_constant(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, size=rng.integers(1, 12))
    found = {row.metric: row.value for row in baseline_rows(truth, majority=0, classes=classes)}
    tried = [constant_scores(truth, answer, classes) for answer in range(classes)]
    for metric in ("accuracy", "f1_macro"):
        assert found[f"constant_{metric}"] == max(float(scores[metric] or 0) for scores in tried)
        assert found[f"majority_{metric}"] == tried[0][metric]
    assert found["constant_roc_auc"] == found["majority_roc_auc"] == tried[0]["roc_auc"]


def test_the_best_constant_for_labels_answers_each_by_itself() -> None:
    truth = np.array([[1.0, 0.0, np.nan], [1.0, np.nan, np.nan], [0.0, 0.0, np.nan]])
    found = {row.metric: row for row in multilabel_baseline_rows(truth, majority=np.array([0.0, 1.0, 1.0]))}
    assert found["constant_accuracy"].value == 4 / 5
    assert found["majority_accuracy"].value == 1 / 5
    for which in ("constant", "majority"):
        assert found[f"{which}_roc_auc"].value == 0.5
        assert found[f"{which}_average_precision"].value == pytest.approx(2 / 3)


@pytest.mark.parametrize("links", [1, 2, 3])
def test_the_best_constant_for_links(links: int) -> None:
    truth = np.array([1.0] * links + [0.0] * (4 - links))
    found = {row.metric: row.value for row in link_baseline_rows(truth)}
    assert found["constant_accuracy"] == max(links, 4 - links) / 4
    assert found["majority_accuracy"] == links / 4, "of the training pairs half are links, which all are called"
    assert found["constant_roc_auc"] == found["majority_roc_auc"] == 0.5
    assert found["constant_average_precision"] == found["majority_average_precision"] == links / 4
    often = max(links, 4 - links)
    assert found["constant_f1_macro"] == pytest.approx(2 * often / (4 + often) / 2)


def test_missing_labels_do_not_count() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, size=(50, 3)).astype(float)
    truth[rng.uniform(size=truth.shape) < 0.3] = np.nan
    truth[:, 2] = np.where(np.isnan(truth[:, 2]), np.nan, 1)  # one value only: no ranking to score
    probabilities = rng.uniform(size=truth.shape)
    scores = multilabel_scores(truth, probabilities)
    known = ~np.isnan(truth)
    for metric, function in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
        expected = np.mean([function(truth[known[:, t], t], probabilities[known[:, t], t]) for t in (0, 1)])
        assert scores[metric] == pytest.approx(expected)
    right = [(probabilities[i, t] > 0.5) == (truth[i, t] == 1) for i, t in np.argwhere(known)]
    assert scores["accuracy"] == pytest.approx(np.mean(right))


def test_nothing_known_is_unavailable() -> None:
    assert set(multilabel_scores(np.full((4, 2), np.nan), np.zeros((4, 2))).values()) == {None}


def test_link_scores_by_hand() -> None:
    scores = link_scores(np.array([1, 1, 0, 0]), np.array([2.0, 0.0, 1.0, -1.0]), 0.5)
    assert scores["accuracy"] == 0.5
    assert scores["roc_auc"] == 0.75
    assert scores["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


@given(
    links=st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=30),
)
def test_best_threshold_by_trying_all(links: list[tuple[bool, int]]) -> None:
    truth = np.array([float(link) for link, _ in links])
    logits = np.array([float(value) for _, value in links])

    def accuracy(threshold: float) -> float:
        return float(((logits >= threshold) == (truth > 0.5)).mean())

    tried = [*np.unique(logits), np.inf]
    best = max(map(accuracy, tried))
    assert best_threshold(truth, logits) == min(value for value in tried if accuracy(value) == best)


@given(seed=st.integers(0, 500), classes=st.integers(3, 5))
def test_several_classes_by_sklearns_one_versus_rest(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, 20)]))
    probabilities = rng.dirichlet(np.ones(classes), size=truth.size)
    scores = classification_scores(truth, probabilities)
    assert scores["roc_auc"] == pytest.approx(roc_auc_score(truth, probabilities, multi_class="ovr", average="macro"))
    assert scores["accuracy"] == pytest.approx(np.mean([row.argmax() == y for row, y in zip(probabilities, truth)]))  # noqa: B905
    majority = constant_scores(truth, 1, classes)
    assert majority["roc_auc"] == 0.5
    assert majority["accuracy"] == pytest.approx((truth == 1).mean())


@given(seed=st.integers(0, 500))
def test_every_label_by_sklearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, np.nan], size=(rng.integers(1, 12), 4))
    probabilities = rng.integers(0, 5, size=truth.shape) / 4  # many ties, 0.5 among them
    aucs, precisions, right, known = [], [], 0, 0
    for y, p in zip(truth.T, probabilities.T, strict=True):
        kept = [(int(a), b) for a, b in zip(y, p, strict=True) if a == a]
        right += sum((b > 0.5) == (a == 1) for a, b in kept)
        known += len(kept)
        if {a for a, _ in kept} == {0, 1}:
            aucs.append(roc_auc_score(*zip(*kept, strict=True)))
            precisions.append(average_precision_score(*zip(*kept, strict=True)))
    scores = multilabel_scores(truth, probabilities)
    for metric, values in (("roc_auc", aucs), ("average_precision", precisions)):
        assert scores[metric] == (pytest.approx(np.mean(values)) if values else None)
    assert scores["accuracy"] == (pytest.approx(right / known) if known else None)


def test_best_threshold_by_hand() -> None:
    assert best_threshold(np.array([1.0, 1.0, 0.0, 0.0]), np.array([3.0, 2.0, 1.0, -1.0])) == 2
    # Equal logits fall on one side: 2 links and 1 other at 1.0 are all called links.
    assert best_threshold(np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0])) == 1
    assert best_threshold(np.array([0.0, 0.0]), np.array([1.0, 2.0])) == np.inf
    assert best_threshold(np.array([1.0, 1.0]), np.array([1.0, 2.0])) == 1
