"""A run is counted once, by its run_id, however many copies of its rows there are."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import pandas as pd

from gnncompress.errors import ResultsError

_KEY = ["phase", "layer", "metric"]
_NAMED = ["dataset", "task", "model", "method", "sparsity", "seed"]
# What a run's spec determines, so that copies must agree in it; all else is measured and differs from time to time.
_FIXED = ("evaluate", "compress", "checkpoint")


def each_run_once(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``rows`` without second copies of a run, in the same order.

    A copy is whatever has the same run_id: a copied folder, a folder read twice, a store that was merged into another.
    Copies must agree in what the run's spec determines: quality, sparsity, sizes. Where costs differ (time, energy,
    memory), since the run was made twice, the first copy counts and a warning names both files.

    Raises:
        ResultsError: naming the run and both files, if copies disagree in what its spec determines.
    """
    copy = rows.groupby(["run_id", "file", *_KEY], sort=False).cumcount()
    if not copy.any() and rows.drop_duplicates(["run_id", "file"])["run_id"].is_unique:
        return rows
    rows = rows.assign(copy=copy).reset_index(drop=True)
    without = []
    for run_id, part in rows.groupby("run_id", sort=False):
        copies = [one for _, one in part.groupby(["file", "copy"], sort=False)]
        copies.sort(key=lambda one: one["setting"].iloc[0] == "")  # one without a spec tells less
        for other in copies[1:]:
            _insist_on_agreement(str(run_id), copies[0], other)
            without += list(other.index)
    return rows.drop(index=without, columns="copy").reset_index(drop=True)


def _insist_on_agreement(run_id: str, first: pd.DataFrame, other: pd.DataFrame) -> None:
    files = list(dict.fromkeys([first["file"].iloc[0], other["file"].iloc[0]]))
    where = " and ".join(files) if len(files) > 1 else f"{files[0]} twice"
    named = (first[_NAMED].iloc[0] == other[_NAMED].iloc[0]).all()
    if not named or other["setting"].iloc[0] not in ("", first["setting"].iloc[0]):
        raise ResultsError(f"run {run_id} is in {where}, with different specs; delete what is not that run")
    how: Literal["outer", "inner"] = "outer" if len(files) > 1 else "inner"  # of a file, lines may be doubled alone
    both = first.merge(other, on=_KEY, how=how, suffixes=("", "_other"), indicator=True)
    same = np.isclose(both["value"], both["value_other"], rtol=1e-6, atol=1e-12, equal_nan=True)
    differing = both[~same | (both["_merge"] != "both")]
    if differing.empty:
        return
    fixed = differing[differing["phase"].isin(_FIXED) & (differing["unit"].fillna(differing["unit_other"]) != "s")]
    if fixed.empty:
        warnings.warn(
            f"run {run_id} is in {where}, measured more than once; it is counted once, as in {files[0]}", stacklevel=4
        )
        return
    line = fixed.iloc[0]
    metric = ".".join(str(line[name]) for name in ("phase", "layer", "metric") if line[name])
    raise ResultsError(
        f"run {run_id} is in {where}, with different rows: {metric} is {_value(line['value'])} and "
        f"{_value(line['value_other'])}; delete the one that is not to count"
    )


def _value(value: float) -> str:
    return "missing" if np.isnan(value) else f"{value:.10g}"
