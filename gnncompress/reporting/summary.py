"""From rows to a table: a line for each method and sparsity, over seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gnncompress.errors import ResultsError
from gnncompress.measurements import OWN_METRIC, PRIMARY_METRIC
from gnncompress.reporting.copies import each_run_once

LABELS = ["dataset", "task", "model", "method", "scheme", "sparsity", "finetuned"]
# Column of the table <- (phase, metric); quality and energy are treated on their own below.
_FIGURES = {
    "achieved_sparsity": ("compress", "sparsity"),
    "parameters": ("compress", "parameters"),
    "nonzero_parameters": ("compress", "nonzero_parameters"),
    "collapsed_layers": ("compress", "collapsed_layers"),
    "bits_weights": ("compress", "bits_average_weights"),
    "bits_activations": ("compress", "bits_average_activations"),
    "size_bytes": ("checkpoint", "checkpoint_size"),
    "size_ratio": ("checkpoint", "size_ratio"),
    "latency_s": ("inference", "latency_median"),
    "cpu_percent": ("inference", "cpu"),
    "memory_bytes": ("inference", "memory_peak"),
}
_BASE = "none"
_FORMAT = "format"
# What a method brings; settings and sparsity are those of versions before stages.
_OF_METHOD = ("method", "scheme", "settings", "sparsity", "finetune", "config", "code", "version", "before", "execute")


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each data set, model, method, scheme, sparsity, fine-tuning and setting.

    Quality is the mean over seeds, with its sample standard deviation (divisor n - 1, empty for one seed), beside
    the mean of the best constant answer; every other figure is a mean. Energy is averaged within one source only: a
    group with several sources has a row for each. Runs whose specs differ in more than the seed are never averaged:
    the column ``setting`` then says what differs. ``constant_runs`` and ``diverged_runs`` count the seeds whose model
    predicts one class only, and whose training diverged. Runs that only look at a model are left out; a run counts
    once, however many copies of its rows there are.

    Raises:
        ResultsError: if no run is left, copies of a run disagree, or nothing says in what runs of one seed differ.
    """
    rows = each_run_once(rows)
    whole = rows[rows["layer"] == ""]
    groups = whole.groupby([*LABELS, "setting"], sort=True, dropna=False)
    scored = [(labels, group) for labels, group in groups if (group["metric"] == _primary(labels, group)).any()]
    if not scored:  # such as those of layer sensitivity
        raise ResultsError("no run here has a model of its own to report; run 'gnncompress prune' first")
    table = pd.DataFrame([line for labels, group in scored for line in _lines(labels, group)])
    table["setting"] = _differences(table)
    # Base models first, then method by method, levels ascending.
    order = table.assign(base=table["method"] != _BASE, scheme=table["scheme"].map(_by_number))
    keys = ["dataset", "task", "model", "base", "method", "scheme", "finetuned", "sparsity", "setting"]
    return table.loc[order.sort_values(keys, kind="stable").index].reset_index(drop=True)


def _by_number(scheme: str) -> str:
    """Return a scheme in a form in which rate=1e-05 comes before rate=0.1."""
    return re.sub(r"=([-+.\de]+)(?=\s|$)", lambda found: f"={float(found[1]):026.12f}", scheme)


def _lines(labels: tuple[Any, ...], group: pd.DataFrame) -> list[dict[str, Any]]:
    _insist_on_one_run_a_seed(group)
    line: dict[str, Any] = dict(zip([*LABELS, "setting"], labels, strict=True))
    metric = _primary(labels, group)
    quality = _values(group, "evaluate", metric)
    line |= {
        "seeds": group["seed"].nunique(),
        "metric": metric,
        "quality_mean": quality.mean(),
        "quality_std": quality.std(ddof=1),
        "constant_mean": _values(group, "evaluate", f"constant_{metric}").mean(),
    }
    line |= {column: _values(group, *where).mean() for column, where in _FIGURES.items()}
    line["constant_runs"] = int((_values(group, "evaluate", "predicted_classes") == 1).sum())
    line["diverged_runs"] = int((group[group["metric"] == "diverged"].groupby("run_id")["value"].max() > 0).sum())
    energy = group[(group["phase"] == "inference") & (group["metric"] == "energy")]
    return [
        line | {"energy_j": part["value"].mean(), "energy_source": source} for source, part in energy.groupby("source")
    ] or [line | {"energy_j": float("nan"), "energy_source": "unavailable"}]


def _insist_on_one_run_a_seed(group: pd.DataFrame) -> None:
    for seed, part in group.groupby("seed"):
        runs = part.drop_duplicates("run_id")
        if len(runs) > 1:
            (one, first), (other, second) = zip(runs["run_id"][:2], runs["file"][:2], strict=True)
            raise ResultsError(
                f"runs {one} ({first}) and {other} ({second}) have the same method, sparsity and seed, {seed}, and no "
                "spec.json beside them says in what they differ; restore it, or report them one at a time"
            )


def _primary(labels: tuple[Any, ...], group: pd.DataFrame) -> str:
    """Return the figure that a group is judged by: a metric of the user's own, or the task's."""
    if ((group["phase"] == "evaluate") & (group["metric"] == OWN_METRIC)).any():
        return OWN_METRIC
    return PRIMARY_METRIC.get(labels[LABELS.index("task")], "accuracy")


def _values(group: pd.DataFrame, phase: str, metric: str) -> pd.Series:
    return group.loc[(group["phase"] == phase) & (group["metric"] == metric), "value"]


def _differences(table: pd.DataFrame) -> pd.Series:
    """Say for each row in what its setting differs from the others that a reader would compare it with.

    What a method brings itself differs from method to method; it is compared among rows with the same labels, all
    else among the rows of a data set and model.
    """
    settings = {row: _flat(json.loads(text)) if text else {} for row, text in table["setting"].items()}
    differing: dict[Any, set[str]] = {row: set() for row in settings}
    for labels, of_method in ((["dataset", "task", "model"], False), (LABELS, True)):
        for rows in table.groupby(labels, sort=False).groups.values():
            keys = {key for row in rows for key in settings[row] if key.startswith(_OF_METHOD) == of_method}
            # Specs of earlier versions have other fields: nothing but that is said of them.
            keys = keys if len({settings[row].get(_FORMAT) for row in rows}) == 1 else {_FORMAT}
            keys = {key for key in keys if len({str(settings[row].get(key)) for row in rows}) > 1}
            for row in rows:
                differing[row] |= keys
    said = {row: ", ".join(f"{key}={settings[row].get(key)}" for key in sorted(differing[row])) for row in settings}
    return pd.Series(said).reindex(table.index)


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
