"""What tests of the command line ask of the runs that it prints, and of the folders that it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnncompress.experiments.stages import Chain


def chain_of(run: Mapping[str, Any]) -> Chain:
    """Return the chain of a run as ``--json`` prints it."""
    return Chain.load(run["spec"])


def chains_in(folder: Path) -> dict[str, Chain]:
    """Return the chains of all finished stages of a folder of runs, by their ids; those of runs measure."""
    found = {}
    for place in sorted(folder.iterdir()):
        if (place / "costs.csv").is_file() or (place / "results.csv").is_file():
            found[place.name] = Chain.load(json.loads((place / "spec.json").read_text()))
    return found


def models_in(folder: Path) -> dict[str, int]:
    """Return which stages that make a model are in a folder of runs, each with the inode of its costs.csv.

    What is made again is another file.
    """
    return {file.parent.name: file.stat().st_mtime_ns for file in sorted(folder.glob("*/costs.csv"))}
