"""The example jobs as the demo runs them: a paced lot analysis, now and then a broken file, a shell step.

In: where the Collector listens, a work folder, a seed. Out: child processes. Called by: `demo`.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wafermonitor.deploy.errors import DeployRejected
from wafermonitor.deploy.service import WAFER

DEMO_HEARTBEAT_S = "1"
CHECKOUT_LEVELS = 4
CUT_STDF = bytes.fromhex("0200000a0204") + bytes.fromhex("6400010a") + bytes(10)
"""A whole FAR record, then an MIR record of 100 bytes that stops after 10."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command to run once, with the run id under which it will be found."""

    run_id: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def examples_folder() -> Path:
    """The examples: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "examples", here.parents[CHECKOUT_LEVELS] / "examples"):
        if (folder / "stdf_yield").is_dir():
            return folder
    raise DeployRejected("the example jobs are not installed; run the demo from a checkout")


def job_environment(collector_http: str, work: Path, site: str) -> dict[str, str]:
    """What a job needs to be monitored through the demo's Collector."""
    paths = [str(examples_folder()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "SIDECAR_URL": f"http://{collector_http}",
        "WAFER_MODE": "sidecar",
        "WAFER_SITE_ID": site,
        "WAFER_SPOOL_DIR": str(work / "spool"),
        "WAFER_INSTRUMENTATION_HEARTBEAT_S": DEMO_HEARTBEAT_S,
        "PYTHONPATH": os.pathsep.join(paths),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }


def yield_job(environment: Mapping[str, str], work: Path, *, stdf: Path | None, seed: int = 1, lot_s: float) -> Job:
    """The STDF analysis, paced so that a lot takes about `lot_s` seconds (0: as fast as it can)."""
    run_id = f"demo-{uuid.uuid4().hex[:12]}"
    command = [sys.executable, "-m", "stdf_yield", "--run-id", run_id, "--out", str(work / "results" / run_id)]
    command += [str(stdf)] if stdf is not None else ["--seed", str(seed)]
    return Job(run_id, (*command, "--lot-seconds", f"{lot_s:g}"), environment)


def broken_job(environment: Mapping[str, str], work: Path) -> Job:
    """The same analysis on a file that stops in the middle: it ends as failure with a clear error type."""
    cut = work / "cut.stdf"
    cut.write_bytes(CUT_STDF)
    return yield_job(environment, work, stdf=cut, lot_s=0)


def shell_job(environment: Mapping[str, str]) -> Job:
    """A plain shell command that knows nothing of telemetry, wrapped."""
    run_id = f"demo-{uuid.uuid4().hex[:12]}"
    wrapper = (
        "run",
        "--job",
        "spc_check",
        "--run-id",
        run_id,
        "--equipment",
        "CDSEM-03",
        "--heartbeat",
        f"{DEMO_HEARTBEAT_S}s",
    )
    script = 'for n in 1 2 3 4 5 6 7 8; do echo "$n/8 chart $n" >&"$WAFER_PROGRESS_FD"; sleep 1; done'
    return Job(run_id, (*WAFER, *wrapper, "--", "sh", "-c", script), environment)
