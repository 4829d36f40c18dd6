"""From rows of layer sensitivity to curves, and from curves to budgets."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gnncompress.errors import ResultsError
from gnncompress.reporting.copies import each_run_once


def sensitivity(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, for each layer and sparsity, what pruning it alone costs on the validation items, as means over seeds.

    Columns: layer, weights, sparsity, score_drop (fraction), loss_rise (nats); layers in the order of the model.

    Raises:
        ResultsError: if the rows are not of one data set and model, there are none, copies of a run disagree, or a
            seed has several runs.
    """
    rows = each_run_once(rows)
    rows = rows[(rows["method"] == "sensitivity") & (rows["phase"] == "evaluate")]
    if rows.empty:
        raise ResultsError("no runs of layer sensitivity; run 'gnncompress sensitivity' first")
    if len(rows[["dataset", "task", "model"]].drop_duplicates()) > 1:
        raise ResultsError("runs of several data sets or models; name a folder for each")
    twice = rows[rows.duplicated(["layer", "sparsity", "seed", "metric"])]
    if not twice.empty:
        one = twice.iloc[0]
        raise ResultsError(
            f"sparsity {one['sparsity']:g}: seed {one['seed']} has several runs, with different settings; "
            "name a folder for each"
        )
    wide = rows.pivot_table(index=["layer", "sparsity", "seed"], columns="metric", values="value", sort=False)
    wide = wide.reset_index()
    whole = wide[wide["layer"] == ""].drop(columns="layer")
    layers = wide[wide["layer"] != ""].merge(whole, on=["sparsity", "seed"], suffixes=("", "_whole"))
    layers = layers.assign(
        score_drop=layers["validation_score_whole"] - layers["validation_score"],
        loss_rise=layers["validation_loss"] - layers["validation_loss_whole"],
    )
    order = {layer: place for place, layer in enumerate(layers["layer"].unique())}
    table = layers.groupby(["layer", "sparsity"], as_index=False)[["weights", "score_drop", "loss_rise"]].mean()
    table["weights"] = table["weights"].astype(int)
    table = table.sort_values(
        ["layer", "sparsity"], key=lambda column: column.map(order) if column.name == "layer" else column
    )
    return table[["layer", "weights", "sparsity", "score_drop", "loss_rise"]].reset_index(drop=True)


def recommend(curves: pd.DataFrame, sparsity: float) -> dict[str, float]:
    """Return a sparsity for each layer that together remove ``sparsity`` of the weights at an equal loss.

    Every layer is pruned as far as its validation loss, taken alone, rises by no more than a threshold that is the
    same for all; the threshold is the smallest that removes enough. Between measured levels the curves are straight;
    beyond the highest one no layer goes, and a curve never falls.

    Raises:
        ResultsError: if the highest levels measured do not remove enough.
    """
    layers = list(dict.fromkeys(curves["layer"]))
    levels, rises, weights = {}, {}, np.empty(len(layers))
    for place, layer in enumerate(layers):
        curve = curves[curves["layer"] == layer].sort_values("sparsity")
        levels[layer] = np.concatenate([[0.0], curve["sparsity"].to_numpy()])
        rises[layer] = np.maximum.accumulate(np.concatenate([[0.0], curve["loss_rise"].to_numpy()]))
        weights[place] = curve["weights"].iloc[0]
    highest = np.array([levels[layer][-1] for layer in layers])
    if highest @ weights < sparsity * weights.sum() - 1e-6:
        raise ResultsError(
            f"sparsity {sparsity:g}: the highest levels measured remove {highest @ weights / weights.sum():.3f} of the "
            "weights; measure higher ones with --sparsity"
        )

    def reached(threshold: float) -> np.ndarray:
        return np.array([_furthest(levels[layer], rises[layer], threshold) for layer in layers])

    low, high = 0.0, max(float(rise[-1]) for rise in rises.values())
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) @ weights < sparsity * weights.sum() else (low, middle)
    found = reached(high)
    # Flat pieces of a curve make the last step a jump: give back what is too much, in proportion.
    found = found * min(1.0, sparsity * weights.sum() / max(found @ weights, 1e-12))
    return {layer: round(float(value), 6) for layer, value in zip(layers, found, strict=True)}


def _furthest(levels: np.ndarray, rises: np.ndarray, threshold: float) -> float:
    """Return the highest level at which a rising, piecewise straight curve is not above ``threshold``."""
    last = int(np.flatnonzero(rises <= threshold)[-1])
    if last == len(levels) - 1:
        return float(levels[-1])
    part = (threshold - rises[last]) / (rises[last + 1] - rises[last])
    return float(levels[last] + part * (levels[last + 1] - levels[last]))
