from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.errors import ResultsError
from gnncompress.reporting.sensitivity import recommend, sensitivity


def curves(**layers: tuple[int, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {"layer": layer, "weights": weights, "sparsity": level, "loss_rise": rise}
        for layer, (weights, rises) in layers.items()
        for level, rise in zip((0.25, 0.5, 0.75), rises, strict=True)
    )


def test_a_threshold_of_loss_shared_by_all_layers() -> None:
    # Straight curves: loss = level for a, 3 x level for b. At a threshold t a goes to t, b to t / 3.
    table = curves(a=(100, [0.25, 0.5, 0.75]), b=(100, [0.75, 1.5, 2.25]))
    budgets = recommend(table, 0.4)
    assert budgets == {"a": pytest.approx(0.6, abs=1e-5), "b": pytest.approx(0.2, abs=1e-5)}


def test_no_layer_goes_beyond_the_highest_level() -> None:
    budgets = recommend(curves(a=(900, [0.0, 0.0, 0.0]), b=(100, [1.0, 2.0, 3.0])), 0.7)
    assert budgets["a"] == pytest.approx(0.75, abs=1e-3)
    assert 0.9 * budgets["a"] + 0.1 * budgets["b"] == pytest.approx(0.7, abs=1e-5)
    with pytest.raises(ResultsError, match=r"sparsity 0\.8: the highest levels measured remove 0\.750 of the weights"):
        recommend(curves(a=(900, [0.0, 0.0, 0.0]), b=(100, [1.0, 2.0, 3.0])), 0.8)


@given(
    rises=st.lists(st.lists(st.floats(-0.1, 2), min_size=3, max_size=3), min_size=1, max_size=4),
    target=st.floats(0.05, 0.75),
)
def test_budgets_add_up(rises: list[list[float]], target: float) -> None:
    table = curves(**{f"layer{index}": (100 * (index + 1), rise) for index, rise in enumerate(rises)})
    budgets = recommend(table, target)
    weights = table.drop_duplicates("layer").set_index("layer")["weights"]
    removed = sum(budgets[layer] * weights[layer] for layer in budgets) / weights.sum()
    assert removed == pytest.approx(target, abs=1e-4)
    assert all(0 <= value <= 0.75 for value in budgets.values())


def test_rows_become_curves() -> None:
    def row(layer: str, metric: str, value: float, seed: int) -> dict[str, object]:
        labels = {
            "run_id": str(seed),
            "file": "results.csv",
            "setting": "",
            "dataset": "d",
            "task": "t",
            "model": "m",
            "method": "sensitivity",
            "sparsity": 0.5,
            "seed": seed,
        }
        return {**labels, "phase": "evaluate", "layer": layer, "metric": metric, "value": value}

    rows = [
        row(layer, metric, value, seed)
        for seed in (0, 1)
        for layer, score, loss in (("", 0.9, 0.1), ("z", 0.8, 0.3 + 0.1 * seed), ("a", 0.5, 1.1))
        for metric, value in (("validation_score", score), ("validation_loss", loss), ("weights", 10.0))
    ]
    table = sensitivity(pd.DataFrame(rows))
    assert table["layer"].tolist() == ["z", "a"], "in the model's order"
    assert table["score_drop"].tolist() == pytest.approx([0.1, 0.4])
    assert table["loss_rise"].tolist() == pytest.approx([0.25, 1.0])
    with pytest.raises(ResultsError, match="run 'gnncompress sensitivity' first"):
        sensitivity(pd.DataFrame(rows).assign(method="none"))
