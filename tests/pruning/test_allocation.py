from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.errors import PruningError
from gnncompress.pruning.allocation import counted, erk, layer_adaptive, ranked, uniform
from gnncompress.pruning.allocation import given as budgets


def test_erk_is_the_closed_form_where_no_layer_is_capped() -> None:
    shapes = {"a": torch.Size([100, 50]), "b": torch.Size([30, 100])}
    kept = erk(shapes, 0.9)
    scale = 0.1 * 8000 / (150 + 130)  # density_l n_l = e (sum of the shape), which adds up to what stays
    assert kept == {"a": round(scale * 150), "b": round(scale * 130)}
    assert sum(kept.values()) == 800


def test_erk_leaves_small_layers_dense() -> None:
    shapes = {"large": torch.Size([200, 200]), "small": torch.Size([4, 4])}
    kept = erk(shapes, 0.5)
    assert kept == {"large": 20008 - 16, "small": 16}


def test_erk_of_a_kernel_counts_all_its_dimensions() -> None:
    shapes = {"kernel": torch.Size([2, 100, 50]), "matrix": torch.Size([100, 50])}
    kept = erk(shapes, 0.9)
    assert kept["kernel"] / kept["matrix"] == pytest.approx(152 / 150, rel=2e-3)


@given(
    shapes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6),
    sparsity=st.floats(0, 0.999),
    min_keep=st.floats(0, 0.5),
)
def test_erk_adds_up_within_its_bounds(shapes: list[tuple[int, int]], sparsity: float, min_keep: float) -> None:
    named = {str(index): torch.Size(shape) for index, shape in enumerate(shapes)}
    total = sum(shape.numel() for shape in named.values())
    lowest = {name: math.ceil(min_keep * shape.numel() - 1e-9) for name, shape in named.items()}
    wanted = total - round(sparsity * total)
    if wanted < sum(lowest.values()):
        with pytest.raises(PruningError, match="--min-keep"):
            erk(named, sparsity, min_keep)
        return
    kept = erk(named, sparsity, min_keep)
    assert sum(kept.values()) == wanted
    assert all(lowest[name] <= kept[name] <= shape.numel() for name, shape in named.items())


def test_layer_adaptive_score_by_hand() -> None:
    scores = layer_adaptive({"a": torch.tensor([[1.0, 2.0, 3.0]]), "b": torch.tensor([[0.1, 0.2]])})
    torch.testing.assert_close(scores["a"], torch.tensor([[1 / 14, 4 / 13, 1.0]]).double())
    torch.testing.assert_close(scores["b"], torch.tensor([[0.2, 1.0]]).double())
    masks = ranked(scores, 0.4)
    assert masks["a"].tolist() == [[False, True, True]]
    assert masks["b"].tolist() == [[False, True]]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_layer_adaptive_score_matches_a_slow_version(values: list[int]) -> None:
    scores = layer_adaptive({"layer": torch.tensor(values, dtype=torch.float32)})["layer"].numpy()
    squares = np.array(values, float) ** 2
    order = np.argsort(squares, kind="stable")
    for place, index in enumerate(order):
        below = squares[order[place:]].sum()
        assert scores[index] == pytest.approx(squares[index] / below if below else 0.0)


@given(
    layers=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=4),
    sparsity=st.floats(0, 0.99),
    min_keep=st.floats(0, 0.4),
)
def test_ranking_with_a_floor_matches_a_slow_version(layers: list[list[int]], sparsity: float, min_keep: float) -> None:
    scores = {str(index): torch.tensor(values, dtype=torch.float32) for index, values in enumerate(layers)}
    entries = [(value, name, place) for name, values in scores.items() for place, value in enumerate(values.tolist())]
    protected: set[tuple[str, int]] = set()
    for name in scores:
        own = sorted((entry for entry in entries if entry[1] == name), key=lambda entry: entry[0])
        count = math.ceil(min_keep * len(own) - 1e-9)
        protected |= {(name, place) for _, name, place in own[len(own) - count :]}
    remove = round(sparsity * len(entries))
    open_to = [entry for entry in entries if (entry[1], entry[2]) not in protected]
    if remove > len(open_to):
        with pytest.raises(PruningError, match="lower one of the two"):
            ranked(scores, sparsity, min_keep)
        return
    gone = {(name, place) for _, name, place in sorted(open_to, key=lambda entry: entry[0])[:remove]}
    masks = ranked(scores, sparsity, min_keep)
    for name, mask in masks.items():
        assert mask.tolist() == [(name, place) not in gone for place in range(len(mask))]


def test_uniform_and_counted() -> None:
    kept = uniform({"a": 10, "b": 3}, 0.5)
    assert kept == {"a": 5, "b": 1}
    masks = counted({"a": torch.arange(10.0), "b": torch.tensor([3.0, 1.0, 2.0])}, kept)
    assert masks["a"].tolist() == [False] * 5 + [True] * 5
    assert masks["b"].tolist() == [True, False, False]


def test_given_budgets() -> None:
    assert budgets({"a": 100, "b": 100}, {"a": 0.8}, 0.4) == {"a": 20, "b": 100}


def test_bad_budgets() -> None:
    with pytest.raises(PruningError, match="allocation: the model has no layer c; it has a, b"):
        budgets({"a": 10, "b": 10}, {"c": 0.5}, 0.5)
    with pytest.raises(PruningError, match=r"its layers remove 0\.2500 of the weights, not the 0\.5 asked for"):
        budgets({"a": 100, "b": 100}, {"a": 0.5}, 0.5)
    with pytest.raises(PruningError, match=r"layer a: 10 weights would stay, but --min-keep 0\.2 keeps 20"):
        budgets({"a": 100}, {"a": 0.9}, 0.9, 0.2)
    with pytest.raises(PruningError, match=r"layer a: 1 weights would stay, but --min-keep 0\.5 keeps 5"):
        uniform({"a": 10}, 0.9, 0.5)
