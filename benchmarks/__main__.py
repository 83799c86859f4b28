"""`python -m benchmarks [NAME …] [--quick | --full]`: measure; write `results/` and `docs/performance.md`; `make bench`: all.

In: names of benchmarks. Out: JSON files and the page made of them; 1 when a benchmark failed or a goal of the SDK is missed.
Called by: people.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import results
from benchmarks.rounds import PLANS, Plan


class Benchmark(NamedTuple):
    """Where a benchmark stands, and the name of its file of results."""

    module: str
    function: str
    result: str


BENCHMARKS = {
    "p01": Benchmark("p01_ingest", "bench_p01_ingest", "p01_ingest"),
    "p02": Benchmark("p02_beside", "bench_p02_beside", "p02_beside"),
    "p03": Benchmark("p02_beside", "bench_p03_cpu", "p03_cpu"),
    "p05": Benchmark("p05_small", "bench_p05_small", "p05_small"),
    "p06": Benchmark("p06_lag", "bench_p06_lag", "p06_lag"),
    "p07": Benchmark("p07_overload", "bench_p07_overload", "p07_overload"),
    "p08": Benchmark("p08_at_rest", "bench_p08_at_rest", "p08_at_rest"),
    "p09": Benchmark("p09_search", "bench_p09_search", "p09_search"),
    "p10": Benchmark("p10_rollups", "bench_p10_rollups", "p10_rollups"),
    "e4": Benchmark("e4_bands", "bench_e4_bands", "e4_bands"),
    "e5": Benchmark("e5_evaluator", "bench_e5_evaluator", "e5_evaluator"),
    "e1": Benchmark("e1_alerts", "bench_e1_alerts", "e1_alerts"),
    "lanes": Benchmark("lanes", "bench_lanes", "lanes"),
    "visibility": Benchmark("visibility", "bench_visibility", "visibility"),
    "instrumentation": Benchmark("instrumentation", "bench_instrumentation", "instrumentation"),
}


def main() -> int:
    """Run the named benchmarks, or all; one that fails does not stop the others."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME", help=", ".join(BENCHMARKS))
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_const", dest="mode", const="quick", help="about a minute each, rough")
    length.add_argument("--full", action="store_const", dest="mode", const="full", help="20 M rows, ten minutes of overload")
    parser.add_argument("--rows", type=int, metavar="N", help="p01: so many rows in the open partition instead")
    parser.add_argument("--spans", type=int, metavar="N", help="p09: so many spans in thirty days instead")
    parser.add_argument("--overload-s", type=float, metavar="S", help="p07: overload of that length instead")
    parser.add_argument("--page", action="store_true", help="measure nothing, only write the page from the results")
    parser.add_argument("--dry", action="store_true", help="print the figures and write nothing")
    options = parser.parse_args()
    plan = PLANS[options.mode or "normal"]
    plan = plan._replace(
        preload_rows=options.rows or plan.preload_rows,
        overload_s=options.overload_s or plan.overload_s,
        search_spans=options.spans or plan.search_spans,
    )
    chosen = [] if options.page else options.names or BENCHMARKS
    failed = [name for name in chosen if not attempt(name, plan, dry=options.dry)]
    if not options.dry:
        from benchmarks import page

        page.write()
    if failed:
        print(f"failed, or missed a goal: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def attempt(name: str, plan: Plan, *, dry: bool) -> bool:
    """Run one benchmark and keep its figures; a failure is told and leaves the figures of last time alone."""
    chosen = BENCHMARKS[name]
    print(f"{name}: measuring ({plan.mode})", flush=True)
    began_s = time.monotonic()
    before = results.machine()
    try:
        bench: Callable[[Plan], dict[str, Any]] = getattr(
            importlib.import_module(f"benchmarks.{chosen.module}"), chosen.function
        )
        figures = {"mode": plan.mode, "machine": before} | bench(plan)
    except (Exception, SystemExit):  # noqa: BLE001 - the other benchmarks go on
        traceback.print_exc()
        return False
    figures["took_s"] = round(time.monotonic() - began_s)
    shown = figures if dry else {key: value for key, value in figures.items() if not isinstance(value, dict | list)}
    print(json.dumps(shown, indent=1, ensure_ascii=False))
    if not dry:
        print(f"{name}: written to {results.save(chosen.result, figures)}", flush=True)
    return not figures.get("missed")


if __name__ == "__main__":
    sys.exit(main())
