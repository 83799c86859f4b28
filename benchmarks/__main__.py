"""`python -m benchmarks [NAME] [--json]`: measure and print; `make bench` runs all.

In: a benchmark's name. Out: a table, or JSON. Called by: people. Figures that are published stand in `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from typing import Any

from benchmarks import instrumentation, visibility
from wafermonitor.deploy.demo import collector_in_use


def machine() -> dict[str, Any]:
    """What a figure is worth nothing without."""
    return {
        "cores": os.cpu_count(),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def main() -> int:
    """Run the named benchmark, or all; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=main.__doc__)
    parser.add_argument("name", nargs="?", choices=["visibility", "instrumentation"])
    parser.add_argument("--stdf", help="visibility: an STDF file instead of a made-up lot")
    parser.add_argument("--passes", type=int, default=5, help="visibility: how often (%(default)s)")
    parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON object for each benchmark")
    options = parser.parse_args()
    reports, missed = [], False
    if options.name in (None, "visibility"):
        reports.append(machine() | visibility.measure(options.passes, options.stdf))
    if options.name in (None, "instrumentation"):
        figures = instrumentation.measure(str(collector_in_use().path))
        reports.append(machine() | {figure.name: figure.shown() for figure in figures})
        missed = any(figure.missed for figure in figures)
    for report in reports:
        print(json.dumps(report, ensure_ascii=False) if options.as_json else table(report))
    return int(missed)


def table(report: dict[str, Any]) -> str:
    """A line for each figure."""
    return "\n".join(f"{name:<42}{value}" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
