"""Lottery tickets judged: a paired test at every sparsity, and a plain verdict."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from scipy import stats

from gnncompress.errors import ResultsError
from gnncompress.measurements import PRIMARY_METRIC
from gnncompress.reporting.copies import each_run_once

ALPHA = 0.05
MARGIN = 0.01
_ARMS = ("dense", "ticket", "reinit", "random")


def verdicts(scores: pd.DataFrame, margin: float = MARGIN, alpha: float = ALPHA) -> pd.DataFrame:
    """Return one row a round: each arm's quality over seeds, the p-value and the verdict on the ticket.

    ``scores`` has the columns arm (dense, ticket, reinit, random), round, sparsity, seed and value.

    A ticket wins (yes) if it is no more than ``margin`` below the dense model, and above both the re-initialized ticket
    and the random mask: three one-sided paired t-tests over seeds, all below ``alpha`` (an intersection-union test,
    which needs no correction). It loses (no) if one of three opposites is shown, by Holm's correction: it is more than
    ``margin`` below the dense model, or a control comes within ``margin`` of it. Else, and with fewer than three seeds,
    it is undecided. ``p`` is that of the verdict, of yes where undecided; rounds are judged one by one.

    Seeds that draw their own splits share most of their training items, which makes such tests somewhat too sure
    (Nadeau and Bengio, Machine Learning 2003); on one split (--split-seed) they speak of that split alone.

    Raises:
        ResultsError: if there are no rounds, an arm is missing in one, or a seed has several runs of an arm.

    Source: Frankle and Carbin, ICLR 2019 (what a winning ticket is); Berger, Technometrics 1982 (intersection-union).
    """
    rounds = sorted(scores.loc[scores["arm"] != "dense", "round"].unique())
    if not rounds:
        raise ResultsError("no lottery runs; run 'gnncompress lottery' first")
    twice = scores[scores.duplicated(["arm", "round", "seed"])]
    if not twice.empty:
        one = twice.iloc[0]
        raise ResultsError(
            f"round {one['round']}: seed {one['seed']} has several runs of {one['arm']}, with different settings; "
            "judge one experiment at a time"
        )
    dense = scores[scores["arm"] == "dense"].set_index("seed")["value"]
    parts = [(number, scores[scores["round"] == number]) for number in rounds]
    return pd.DataFrame([_judged(number, part, dense, margin, alpha) for number, part in parts])


def lottery_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the primary metric of every run of an experiment with its arm and round; the dense models are round 0.

    Raises:
        ResultsError: if there are runs of several data sets or models, or copies of a run disagree.
    """
    rows = each_run_once(rows)
    if len(rows[["dataset", "task", "model"]].drop_duplicates()) > 1:
        raise ResultsError("runs of several data sets or models; judge them one at a time")
    metric = PRIMARY_METRIC[rows["task"].iloc[0]]
    wanted = rows[(rows["phase"] == "evaluate") & (rows["metric"] == metric) & (rows["layer"] == "")]
    settings = wanted["setting"].map(_options)
    lottery = wanted["method"] == "lottery"
    table = wanted.assign(
        arm=np.where(lottery, settings.map(lambda found: found.get("arm", "ticket")), "dense"),
        round=np.where(lottery, settings.map(lambda found: found.get("round", 0)), 0).astype(int),
    )
    dense = (wanted["method"] == "none") & ~wanted["finetuned"]
    return table.loc[lottery | dense, ["arm", "round", "sparsity", "seed", "value"]]


def _options(setting: str) -> dict[str, object]:
    """Return the options of a run's method."""
    values = json.loads(setting) if setting else {}
    found: dict[str, object] = values.get("config", values.get("settings")) or {}
    return found


def _judged(number: int, part: pd.DataFrame, dense: pd.Series, margin: float, alpha: float) -> dict[str, object]:
    arms = {arm: group.set_index("seed")["value"] for arm, group in part.groupby("arm")} | {"dense": dense}
    missing = [arm for arm in _ARMS if arm not in arms]
    if missing:
        raise ResultsError(f"round {number}: no finished runs of {', '.join(missing)}; run 'gnncompress lottery' again")
    paired = pd.DataFrame(arms).dropna()
    ticket = paired["ticket"]
    gains = {arm: (ticket - paired[arm]).to_numpy() for arm in ("dense", "reinit", "random")}
    p = max(_p_above(gains["dense"], -margin), _p_above(gains["reinit"], 0.0), _p_above(gains["random"], 0.0))
    against = {
        "below the dense model": _p_above(-gains["dense"], margin),
        f"reinit within {margin:g}": _p_above(-gains["reinit"], -margin),
        f"random within {margin:g}": _p_above(-gains["random"], -margin),
    }
    shown = _holm(against, alpha)
    line: dict[str, object] = {"round": number, "sparsity": part["sparsity"].iloc[0], "seeds": len(paired)}
    for arm in _ARMS:
        line |= {f"{arm}_mean": paired[arm].mean(), f"{arm}_std": paired[arm].std(ddof=1)}
    if p < alpha or not shown:
        return line | {"p": p, "verdict": "yes" if p < alpha else "undecided", "because": ""}
    return line | {"p": min(shown.values()), "verdict": "no", "because": "; ".join(shown)}


def _holm(p_values: dict[str, float], alpha: float) -> dict[str, float]:
    """Return the claims that hold together at ``alpha``, with adjusted p-values: the k-th smallest of n times n - k.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    shown: dict[str, float] = {}
    adjusted = 0.0
    for rank, (claim, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        adjusted = max(adjusted, min(1.0, p * (len(p_values) - rank)))
        if adjusted >= alpha:
            break
        shown[claim] = adjusted
    return shown


def _p_above(values: np.ndarray, bound: float) -> float:
    """Return the p-value of the one-sided t-test that the mean of ``values`` is above ``bound``; 1 for under three."""
    if len(values) < 3:
        return 1.0
    if np.ptp(values) < 1e-12:  # no spread, no t: the sign decides
        return 0.0 if values[0] > bound + 1e-12 else 1.0
    return float(stats.ttest_1samp(values, bound, alternative="greater").pvalue)
