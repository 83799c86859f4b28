"""How soon is a job seen? `wafer demo --once` several times: start and end until the read API shows them, in ms.

In: the number of passes and an STDF file. Out: median and range of both. Called by: `python -m benchmarks visibility`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

FIGURES = ("start_visible_ms", "end_visible_ms")


def measure(passes: int = 5, stdf: str | None = None) -> dict[str, Any]:
    """Run the demo `passes` times, each with a store of its own; every pass must be true in the store."""
    command = [sys.executable, "-m", "wafermonitor.instrumentation.cli", "demo", "--once", "--json"]
    command += ["--stdf", stdf] if stdf else []
    summaries = [
        json.loads(subprocess.run(command, check=True, capture_output=True, timeout=180).stdout) for _ in range(passes)
    ]
    report: dict[str, Any] = {"passes": passes, "dies": summaries[0]["attributes"]["wafer.param.dies"]}
    for name in FIGURES:
        values = [summary[name] for summary in summaries]
        report[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return report
