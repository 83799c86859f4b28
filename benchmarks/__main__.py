"""`python -m benchmarks [NAME] [--json]`: measure and print; `make bench` runs all.

In: a benchmark's name. Out: a table, or JSON. Called by: people. Figures that are published stand in `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import visibility

HERE = Path(__file__).resolve().parent


def machine() -> dict[str, Any]:
    """What a figure is worth nothing without."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "system": f"{platform.system()} {platform.release()}"}


def main() -> None:
    """Run the named benchmark, or all."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=main.__doc__)
    parser.add_argument("name", nargs="?", choices=["visibility", "instrumentation"])
    parser.add_argument("--stdf", help="visibility: an STDF file instead of a made-up lot")
    parser.add_argument("--passes", type=int, default=5, help="visibility: how often (%(default)s)")
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    if options.name in (None, "visibility"):
        report = machine() | visibility.measure(options.passes, options.stdf)
        print(json.dumps(report) if options.as_json else "\n".join(f"{name:18} {value}" for name, value in report.items()))
    if options.name in (None, "instrumentation"):
        flags = ["--json"] if options.as_json else []
        subprocess.run([sys.executable, str(HERE / "instrumentation.py"), *flags], check=True)


if __name__ == "__main__":
    main()
