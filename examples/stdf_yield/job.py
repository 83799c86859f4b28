"""The yield of a wafer-sort lot: one job, a subjob per wafer, and a second step in Perl that joins the same tree.

In: an STDF V4 file (plain or .gz), or a seed for a made-up lot. Out: `tests.parquet`, `wafers.png`, `summary.json` and
`disposition.txt` in a folder, and a run `lot_yield` on the screen. Called by: `python -m stdf_yield`.

The five lines that make it visible are those that name `wafer`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import wafermonitor.instrumentation as wafer

from .analysis import bin_pareto, outliers, statistics_of_tests, yield_ratio
from .lot import Lot, StdfInvalid, Wafer, read_header, read_lot
from .synthetic import write_lot
from .wafer_map import draw_maps

YIELD_LIMIT = 0.85
WAFER = Path(sys.executable).with_name("wafer")
DISPOSITION = Path(__file__).with_name("disposition.pl")


def main(arguments: list[str] | None = None) -> int:
    """Run the job; 0 when it worked, 1 when the file is no good (said in one line), 2 for wrong usage."""
    options = parse(arguments)
    try:
        if options.stdf is not None:
            return analyse(options.stdf, options)
        with tempfile.TemporaryDirectory() as folder:
            made_up = Path(folder) / f"lot-{options.seed}.stdf"
            write_lot(made_up, seed=options.seed, wafers=options.wafers)
            return analyse(made_up, options)
    except StdfInvalid as error:
        sys.stderr.write(f"stdf_yield: {error}\n")
        return 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="stdf_yield", description="Yield of a wafer-sort lot from an STDF V4 file.")
    parser.add_argument("stdf", nargs="?", type=Path, help="an STDF V4 file, plain or .gz; without one a lot is made up")
    parser.add_argument("--out", type=Path, default=Path("stdf_yield_result"), help="folder for the results (%(default)s)")
    parser.add_argument("--run-id", help="label of this run; its span id where none is given")
    parser.add_argument("--seed", type=int, default=1, help="of the made-up lot (%(default)s)")
    parser.add_argument("--wafers", type=int, default=5, help="of the made-up lot (%(default)s)")
    parser.add_argument("--lot-seconds", type=float, default=0.0, help="replay the lot at a tester's pace, in about so long")
    return parser.parse_args(arguments)


def analyse(stdf: Path, options: argparse.Namespace) -> int:
    """One lot, as one run. StdfInvalid ends it as failure with that error type."""
    header = read_header(stdf)
    with wafer.job(
        "lot_yield",
        run_id=options.run_id,
        expected_duration_s=max(120.0, 3 * options.lot_seconds),
        lot_ids=[header.lot_id] if header.lot_id else None,
        equipment_id=header.equipment or None,
        recipe_name=header.recipe or None,
        product_id=header.product or None,
        params=header.details,
    ) as job:
        lot = read_lot(stdf)
        done = 0
        for one in lot.wafers:
            with job.subjob("wafer_yield", lot_ids=[lot.lot_id], substrate_ids=[one.id], equipment_id=lot.equipment) as sub:
                for _ in measure(one, sub):
                    done += 1
                    job.progress(done, lot.dies, unit="die", stage=one.id)
                    time.sleep(options.lot_seconds / lot.dies)
        job.set("wafer.param.dies", lot.dies)
        job.set("wafer.param.yield", lot_yield(lot))
        job.set("wafer.param.tests", len(lot.tests))
        job.set("wafer.param.wafers", len(lot.wafers))
        options.out.mkdir(parents=True, exist_ok=True)
        summary = write_results(lot, options.out)
        step = [str(WAFER), "run", "--job", "lot_disposition", "--lot", lot.lot_id, "--", "perl", str(DISPOSITION)]
        subprocess.run([*step, str(summary), str(YIELD_LIMIT)], env=job.env(), check=True)
    return 0


def measure(one: Wafer, sub: wafer.Job) -> Iterator[int]:
    """Go through a wafer die by die, as a tester does, and report; yields each die's number."""
    far = outliers(one.results).any(axis=1)
    suspicious = 0
    for die in sub.track(range(one.dies), unit="die"):
        suspicious += bool(far[die] and one.passed[die])
        yield die
    sub.set("wafer.param.dies", one.dies)
    sub.set("wafer.param.yield", yield_ratio(one.passed))
    sub.set("wafer.param.good_outliers", suspicious)


def lot_yield(lot: Lot) -> float:
    """Good dies ÷ tested dies over all wafers."""
    return yield_ratio(np.concatenate([one.passed for one in lot.wafers]))


def write_results(lot: Lot, folder: Path) -> Path:
    """Statistics as Parquet, maps as PNG, and the summary the second step reads; returns the summary's path."""
    pq.write_table(statistics_of_tests(lot), folder / "tests.parquet", compression="zstd")
    draw_maps(folder / "wafers.png", lot.wafers)
    summary = {
        "lot": lot.lot_id,
        "yield": lot_yield(lot),
        "dies": lot.dies,
        "bins": bin_pareto(lot.wafers),
        "wafers": [{"id": one.id, "dies": one.dies, "yield": yield_ratio(one.passed)} for one in lot.wafers],
    }
    path = folder / "summary.json"
    path.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    return path
