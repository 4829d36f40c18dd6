"""Where a number was measured: versions, processor, threads, device, commit."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = (
    "gnncompress",
    "torch",
    "torch-geometric",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "zstandard",
)


def machine() -> str:
    """Return what kind of machine this is: system, processor and cores, which measured numbers depend on."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count()
    return f"{platform.system()} {platform.machine()}, {_processor() or 'unknown processor'}, {cores} cores"


def environment(device: str, threads: int) -> dict[str, Any]:
    """Return the environment of a run as plain JSON values; what cannot be known is null."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "device": device,
        "threads": threads,
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str | None:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _git_commit() -> str | None:
    """Return the commit of the working folder, the code an experiment is run from."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
