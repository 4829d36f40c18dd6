"""Reading rows back: all runs of a folder as one table."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from gnncompress.errors import ResultsError
from gnncompress.measurements import COLUMNS
from gnncompress.reporting.copies import each_run_once

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
    files = [runs] if runs.is_file() else [path for path in [runs / "results.csv"] if path.is_file()]
    files = files or sorted(file for file in runs.glob("*/results.csv") if not file.parent.name.startswith("."))
    if only is not None:
        files = [file for file in files if file.parent.name in only]
    if not files:
        raise ResultsError(f"{runs}: no finished runs; run 'gnncompress prune' first, or name the folder of runs")
    return each_run_once(pd.concat([_read(file) for file in files], ignore_index=True))


def _read(file: Path) -> pd.DataFrame:
    try:
        rows = pd.read_csv(file, encoding="utf-8", dtype=str, keep_default_na=False)
        missing = [column for column in COLUMNS if column not in rows.columns]
        if missing:
            raise ResultsError(
                f"{file}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing; "
                "restore the file, or delete the run's folder and run it again"
            )
        rows["value"] = pd.to_numeric(rows["value"].replace("", None))
        rows["finetuned"] = rows["finetuned"].map({"true": "True"}).fillna("")
        rows = rows.astype(_TYPES)
    except (OSError, ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ResultsError(
            f"{file}: cannot be read as results ({' '.join(str(error).split())}); "
            "restore the file, or delete the run's folder and run it again"
        ) from error
    rows["file"] = str(file)
    rows["setting"] = _setting(file.with_name("spec.json"))
    return rows


def _setting(file: Path) -> str:
    if not file.is_file():
        return ""
    try:
        spec: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        seed = spec.pop("seed", None)
        split = spec.get("split")
        if isinstance(split, dict) and split.get("seed") == seed:
            split["seed"] = "each its own"  # every seed draws its split, as long as nobody fixes one
        return json.dumps(spec, sort_keys=True)
    except (OSError, ValueError, AttributeError) as error:
        raise ResultsError(f"{file}: cannot be read as a spec ({error}); delete the run's folder") from error
