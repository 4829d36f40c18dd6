"""Reading rows back: all runs of a folder as one table."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection
from pathlib import Path

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
    ``setting``, the run's spec without its seed, as sorted JSON, or empty where there is no spec beside the rows. Of a
    run that is there more than once, such as in a copied folder, the rows are returned once (see ``each_run_once``).

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
    return each_run_once(pd.concat([_read(file) for file in files], ignore_index=True))


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
    return rows


def _setting(file: Path) -> str:
    if not _there(file):
        return ""
    try:
        spec = read_json(file)
        seed = spec.pop("seed", None)
        split = spec.get("split")
        if isinstance(split, dict) and split.get("seed") == seed:
            split["seed"] = "each its own"  # every seed draws its split, as long as nobody fixes one
        return json.dumps(spec, sort_keys=True)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{file}: cannot be read as a spec ({why(error)}); delete the run's folder") from error
