"""How soon is a job seen? `wafer demo --once` several times: start and end until the read API shows them, in ms.

In: a plan; WAFER_BENCH_STDF, an STDF file instead of a made-up lot. Out: median and range of both. Called by:
`python -m benchmarks visibility`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.rounds import Plan

PASSES = {"quick": 1, "normal": 5, "full": 9}
FIGURES = ("start_visible_ms", "end_visible_ms")


def bench_visibility(plan: Plan) -> dict[str, Any]:
    """Run the demo again and again, each time with a store of its own; every pass must be true in the store."""
    passes = PASSES[plan.mode]
    stdf = os.environ.get("WAFER_BENCH_STDF")
    command = [sys.executable, "-m", "wafermonitor.instrumentation.cli", "demo", "--once", "--json"]
    command += ["--stdf", stdf] if stdf else []
    summaries = [
        json.loads(subprocess.run(command, check=True, capture_output=True, timeout=180).stdout) for _ in range(passes)
    ]
    report: dict[str, Any] = {"title": "Visibility", "passes": passes, "dies": summaries[0]["attributes"]["wafer.param.dies"]}
    for name in FIGURES:
        values = [summary[name] for summary in summaries]
        report[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return report
