from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gnncompress.errors import ResultsError
from gnncompress.reporting.lottery import lottery_scores, verdicts


def rows(dense: list[float], ticket: list[float], reinit: list[float], random: list[float]) -> pd.DataFrame:
    lines = []
    for arm, values in (("dense", dense), ("ticket", ticket), ("reinit", reinit), ("random", random)):
        settings = {"round": 2} | ({} if arm == "ticket" else {"arm": arm})
        lines += [
            {
                "run_id": f"{arm}-{seed}",
                "file": "results.csv",
                "dataset": "cora",
                "task": "node-classification",
                "model": "gcn",
                "method": "none" if arm == "dense" else "lottery",
                "sparsity": 0.0 if arm == "dense" else 0.36,
                "finetuned": False,
                "seed": seed,
                "phase": "evaluate",
                "layer": "",
                "metric": "accuracy",
                "value": value,
                "unit": "fraction",
                "setting": json.dumps({"settings": {} if arm == "dense" else settings}),
            }
            for seed, value in enumerate(values)
        ]
    return pd.DataFrame(lines)


def judged(table: pd.DataFrame) -> pd.DataFrame:
    return verdicts(lottery_scores(table))


DENSE = [0.80, 0.82, 0.81, 0.79, 0.83]


def test_a_winning_ticket_and_its_p_value() -> None:
    ticket = [0.81, 0.82, 0.815, 0.80, 0.835]
    reinit, random = [0.75, 0.77, 0.77, 0.74, 0.79], [0.70, 0.74, 0.73, 0.69, 0.75]
    line = judged(rows(DENSE, ticket, reinit, random)).iloc[0]
    p = [
        stats.ttest_rel(np.array(ticket) + 0.01, DENSE, alternative="greater").pvalue,
        stats.ttest_rel(ticket, reinit, alternative="greater").pvalue,
        stats.ttest_rel(ticket, random, alternative="greater").pvalue,
    ]
    assert line["p"] == pytest.approx(max(p))
    assert line["verdict"] == "yes"
    assert line["ticket_mean"] == pytest.approx(np.mean(ticket))
    assert line["ticket_std"] == pytest.approx(np.std(ticket, ddof=1))


@pytest.mark.parametrize(
    ("ticket", "reinit", "verdict", "because"),
    [
        ([0.70, 0.73, 0.71, 0.69, 0.72], [0.5, 0.52, 0.51, 0.5, 0.5], "no", "below the dense model"),
        (DENSE, [value + 0.001 * (-1) ** i for i, value in enumerate(DENSE)], "no", "reinit within 0.01"),
        (DENSE, [0.83, 0.77, 0.83, 0.75, 0.82], "undecided", ""),
    ],
)
def test_other_verdicts(ticket: list[float], reinit: list[float], verdict: str, because: str) -> None:
    line = judged(rows(DENSE, ticket, reinit, [0.4, 0.41, 0.42, 0.4, 0.4])).iloc[0]
    assert (line["verdict"], line["because"]) == (verdict, because)


def test_pairs_without_spread_and_single_seeds() -> None:
    lower = [value - 0.1 for value in DENSE]
    assert judged(rows(DENSE, DENSE, lower, lower)).iloc[0]["p"] == 0
    for few in (1, 2):
        line = judged(rows([0.8] * few, [0.8] * few, [0.5] * few, [0.5] * few)).iloc[0]
        assert (line["verdict"], line["p"]) == ("undecided", 1.0)


def test_seeds_are_paired_by_number_and_not_by_order() -> None:
    table = rows(DENSE, [value + 0.02 for value in DENSE], [0.5] * 5, [0.5] * 5)
    assert judged(table.sample(frac=1, random_state=1)).equals(judged(table))


def test_bad_rows() -> None:
    table = rows(DENSE, DENSE, DENSE, DENSE)
    with pytest.raises(ResultsError, match="no lottery runs; run 'gnncompress lottery' first"):
        judged(table[table["method"] == "none"])
    with pytest.raises(ResultsError, match="round 2: no finished runs of reinit"):
        judged(table[~table["setting"].str.contains("reinit")])
    with pytest.raises(ResultsError, match="several data sets or models"):
        judged(pd.concat([table, table.assign(model="gat", run_id=table["run_id"] + "gat")]))


def test_a_dense_model_that_was_trained_on_is_not_the_dense_model() -> None:
    table = rows(DENSE, DENSE, DENSE, DENSE)
    trained_on = rows([value + 0.1 for value in DENSE], [], [], []).assign(finetuned=True)
    trained_on["run_id"] = "on-" + trained_on["run_id"]
    pd.testing.assert_frame_equal(judged(pd.concat([trained_on, table, trained_on])), judged(table))


def test_three_chances_to_lose_are_corrected_for() -> None:
    ticket = np.array(DENSE)
    reinit = ticket - 0.01 + np.array([0.012, 0.001, 0.013, -0.001, 0.012])
    alone = stats.ttest_rel(reinit, ticket - 0.01, alternative="greater").pvalue
    assert 0.05 / 3 < alone < 0.05
    line = judged(rows(DENSE, list(ticket), list(reinit), [0.4, 0.41, 0.42, 0.4, 0.4])).iloc[0]
    assert line["verdict"] == "undecided"


def test_the_p_value_of_a_no_is_that_of_the_no() -> None:
    ticket = [0.70, 0.73, 0.71, 0.69, 0.72]
    low = [0.5, 0.52, 0.51, 0.5, 0.5]
    line = judged(rows(DENSE, ticket, low, low)).iloc[0]
    alone = stats.ttest_rel(DENSE, np.array(ticket) + 0.01, alternative="greater").pvalue
    assert line["p"] == pytest.approx(3 * alone)
