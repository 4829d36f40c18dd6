"""Reading rows back: all runs of a folder as one table."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gnncompress.errors import ResultsError
from gnncompress.files import read_bytes, read_json, why
from gnncompress.measurements import COLUMNS
from gnncompress.reporting.copies import each_run_once
from gnncompress.texts import one_line

_RESULTS = "results.csv"
_TYPES = {"run_id": str, "scheme": str, "layer": str, "seed": int, "sparsity": float, "finetuned": bool}


def read_results(runs: str | Path = "runs", only: Collection[str] | None = None) -> pd.DataFrame:
    """Return the rows of every finished run under ``runs``, or of those whose run_id is in ``only``.

    ``runs`` may also be one run's folder or one results.csv. Columns are added: ``file``, where a row was read, and
    ``setting``, what the run was without its seed, as sorted JSON, or empty where there is no spec beside the rows;
    ``repetition``, how often the same was measured before. Of a run that is there more than once, such as in a copied
    folder, the rows are returned once (see ``each_run_once``); of one that was measured again, the latest.

    Raises:
        ResultsError: naming the folder without runs, the file that cannot be read or lacks columns, or the files that
            say different things of one run.
    """
    runs = Path(runs)
    if not runs.exists():
        raise ResultsError(f"{runs}: no such folder; run 'gnncompress prune' first, or name the folder of runs")
    files = _files(runs, only)
    if not files:
        raise ResultsError(f"{runs}: no finished runs; run 'gnncompress prune' first, or name the folder of runs")
    return latest(each_run_once(pd.concat([_read(file) for file in files], ignore_index=True)))


def _files(runs: Path, only: Collection[str] | None) -> list[Path]:
    """Return the results.csv of each run, also those that will turn out to be no files: none is passed over."""
    try:
        if not runs.is_dir():
            found = [runs]
        elif _there(runs / _RESULTS):
            found = [runs / _RESULTS]
        else:
            found = sorted(place / _RESULTS for place in runs.iterdir() if not place.name.startswith("."))
        return [file for file in found if (only is None or file.parent.name in only) and _there(file)]
    except OSError as error:
        raise ResultsError(f"{error.filename or runs}: cannot be read ({why(error)}); name another folder") from error


def _there(file: Path) -> bool:
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _read(file: Path) -> pd.DataFrame:
    try:
        rows = pd.read_csv(io.BytesIO(read_bytes(file)), encoding="utf-8", dtype=str, keep_default_na=False)
        missing = [column for column in COLUMNS if column not in rows.columns]
        if missing:
            raise ResultsError(
                f"{file}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing; "
                "restore the file, or delete the run's folder and run it again"
            )
        rows["value"] = pd.to_numeric(rows["value"].replace("", None))
        rows["finetuned"] = rows["finetuned"].map({"true": "True"}).fillna("")
        rows = rows.astype(_TYPES)
    except (OSError, ValueError, OverflowError) as error:  # pandas' own errors are values'
        raise ResultsError(
            f"{file}: cannot be read as results ({one_line(why(error))}); "
            "restore the file, or delete the run's folder and run it again"
        ) from error
    rows["file"] = str(file)
    rows["setting"] = _setting(file.with_name("spec.json"))
    rows["repetition"] = _repetition(file.with_name("spec.json"))
    return rows


def _setting(file: Path) -> str:
    if not _there(file):
        return ""
    try:
        spec = read_json(file)
        return json.dumps(setting_of(spec) if "stages" in spec else _of_an_earlier_version(spec), sort_keys=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{file}: cannot be read as a spec ({why(error)}); delete the run's folder") from error


def setting_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run was, without its seed and repetition: the workload, how it was measured, and what was done.

    ``config`` are the options of the last method, ``finetune`` how the model was trained on after it, ``before`` the
    stages that came before that one, by number and name.
    """
    setting = {**_without_seed(spec["workload"]), "format": spec["format"]}
    *stages, last = [dict(stage) for stage in spec["stages"]]
    for name, value in last.items():
        if name not in ("stage", "repetition"):
            setting[_MEASURED.get(str(name), str(name))] = value
    done = stages.pop() if stages and stages[-1]["stage"] in _DOING else {}
    setting |= {name: value for name, value in done.items() if name not in ("stage", "method")}
    setting["before"] = {f"{number}.{_named(one)}": one for number, one in enumerate(stages)}
    return setting


def _named(stage: dict[str, Any]) -> str:
    kind = stage.pop("stage")
    return str(stage.pop("method", kind))


# Stages that do something with a model.
_DOING = ("compress", "train-on")
# Fields of measuring that a workload has, too, or that say little by themselves.
_MEASURED = {"threads": "inference_threads", "batch": "inference_batch"}


def _of_an_earlier_version(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**_without_seed(spec), "format": spec.get("version")}


def _without_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    setting = dict(values)
    seed = setting.pop("seed", None)
    split = setting.get("split")
    if isinstance(split, dict) and split.get("seed") == seed:
        setting["split"] = {**split, "seed": "each its own"}  # every seed draws its split, unless somebody fixes one
    return setting


def latest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the latest repetition of every run that was measured more than once."""
    runs = rows.drop_duplicates(["run_id"])
    labels = ["dataset", "task", "model", "method", "scheme", "sparsity", "finetuned", "seed", "setting"]
    known = runs[runs["setting"] != ""]
    last = known.groupby(labels, dropna=False)["repetition"].transform("max")
    gone = known.loc[known["repetition"] < last, "run_id"]
    return rows[~rows["run_id"].isin(gone)].reset_index(drop=True)


def _repetition(file: Path) -> int:
    try:
        last = read_json(file)["stages"][-1]
        return int(last.get("repetition", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return 0  # one without a spec, or of an earlier version, has none
