"""The demo: everything on one machine with real jobs; once as a proof in JSON, or on and on for people to look at.

In: an optional STDF file, settings. Out: one JSON object and an exit code, or a URL and running jobs until Ctrl-C.
Called by: `wafer demo`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from wafermonitor.collector import fragments
from wafermonitor.collector.binary import Binary, find
from wafermonitor.collector.config import Config as CollectorConfig
from wafermonitor.deploy import sweeper
from wafermonitor.deploy.addresses import Addresses, free_addresses
from wafermonitor.deploy.config import Config
from wafermonitor.deploy.errors import DeployUnavailable
from wafermonitor.deploy.jobs import Job, broken_job, job_environment, shell_job, yield_job
from wafermonitor.deploy.stack import Stack
from wafermonitor.instrumentation.tether import tethered
from wafermonitor.query.client import AsyncClient
from wafermonitor.query.models import PageModel, RunDetail, RunModel
from wafermonitor.semconv import events

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=BaseModel)
SITE = "demo"
POLL_S = 0.02
ONCE_LOT_S = 4.0
LOT_S = 45.0
FAIL_EVERY = 4
VISIBLE_WITHIN_S = 30.0
JOB_WITHIN_S = 600.0
SWEEP_S = 20.0


@asynccontextmanager
async def demo_stack(config: Config, show: Callable[[str, str], None]) -> AsyncIterator[tuple[Stack, Path]]:
    """Everything started on free loopback ports with its data in a folder of its own, which is gone afterwards."""
    with work_folder() as (work, held):
        environment = {
            "WAFER_STORAGE_DATA_DIR": str(work / "store"),
            "WAFER_COLLECTOR_QUEUE_DIR": str(work / "queue"),
            "WAFER_SPOOL_DIR": str(work / "spool"),
            "WAFER_SITE_ID": SITE,
            # Whatever this host is set up for: a demo's days are nobody's archive.
            "WAFER_ARCHIVE_ENABLED": "false",
            "WAFER_ARCHIVE_FOLDER": str(work / "archive"),
        }
        addresses = free_addresses()
        async with Stack(addresses, config, environment=environment, collector=True, show=show, held=(held,)) as stack:
            yield stack, work


@contextmanager
def work_folder(prefix: str = "wafer-demo-") -> Iterator[tuple[Path, int]]:
    """A temporary folder of one's own, and a file descriptor: the folder goes when the last process that holds it has ended.

    Others may pass through the folder, because a root's PostgreSQL runs as another user.
    """
    work = Path(tempfile.mkdtemp(prefix=prefix))
    work.chmod(0o711)
    watched, held = os.pipe()
    command = [sys.executable, "-I", "-S", sweeper.__file__, str(work)]
    sweeping = subprocess.Popen(command, stdin=watched, start_new_session=True)
    os.close(watched)
    try:
        yield work, held
    finally:
        os.close(held)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on without us
            sweeping.wait(SWEEP_S)


async def once(config: Config, *, stdf: Path | None, show: Callable[[str, str], None]) -> tuple[dict[str, Any], list[str]]:
    """Run the yield job once. Returns the summary, and what is not as it should be (empty: all is true in the store)."""
    async with demo_stack(config, show) as (stack, work), AsyncClient(f"http://{stack.addresses.query}") as client:
        environment = job_environment(stack.addresses.collector_http, work, SITE)
        job = yield_job(environment, work, stdf=stdf, lot_s=ONCE_LOT_S)
        process = await start(job)
        try:
            seen = await wait_for_run(client, job.run_id)
            seen_at = time.time()
            saw_running = seen.state == "running"
            await wait_for_job(process)
            ended = await wait_for_end(client, seen.run)
            ended_at = time.time()
        finally:
            await end(process)
        summary = await summarise(client, stack.addresses, ended)
        summary["saw_running_before_end"] = saw_running
        summary["start_visible_ms"] = since_ms(ended.start, seen_at)
        summary["end_visible_ms"] = since_ms(ended.end, ended_at)
        return summary, complaints(summary)


async def forever(config: Config, *, stdf: Path | None, show: Callable[[str, str], None], ready: Callable[[str], None]) -> None:
    """Run the example jobs again and again until cancelled: one going on, one failing now and then."""
    async with demo_stack(config, show) as (stack, work):
        environment = job_environment(stack.addresses.collector_http, work, SITE)
        ready(f"http://{stack.addresses.ui}/")
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(repeat_lots(environment, work, stdf))
            jobs.create_task(repeat_shell(environment))


async def repeat_lots(environment: dict[str, str], work: Path, stdf: Path | None) -> None:
    """Lot after lot; every fourth file is broken."""
    for number in itertools.count(1):
        if number % FAIL_EVERY == 0:
            await run(broken_job(environment, work))
        await run(yield_job(environment, work, stdf=stdf, seed=number, lot_s=LOT_S))


async def repeat_shell(environment: dict[str, str]) -> None:
    """A short shell job with pauses."""
    while True:
        await run(shell_job(environment))
        await asyncio.sleep(LOT_S / 3)


async def run(job: Job) -> None:
    """Run one job to its end; end it when we are."""
    process = await start(job)
    try:
        await process.wait()
    finally:
        await end(process)


async def start(job: Job) -> asyncio.subprocess.Process:
    """Start a job, which ends with us; what it prints is not ours to show."""
    return await asyncio.create_subprocess_exec(
        *tethered(job.command),
        env=os.environ | dict(job.environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )


async def end(process: asyncio.subprocess.Process, grace_s: float = 5.0) -> None:
    """End a job that is still running: SIGTERM first, so that it reports its cancellation."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), grace_s)
    except TimeoutError:
        process.kill()
        await process.wait()


async def wait_for_job(process: asyncio.subprocess.Process, within_s: float = JOB_WITHIN_S) -> None:
    """The job's end; DeployUnavailable when it takes longer than any file should."""
    try:
        await asyncio.wait_for(process.wait(), within_s)
    except TimeoutError:
        raise DeployUnavailable(f"the job has not ended within {within_s:g} s") from None


async def wait_for_run(client: AsyncClient, run_id: str) -> RunModel:
    """The run as soon as the API shows it."""
    deadline = time.monotonic() + VISIBLE_WITHIN_S
    while time.monotonic() < deadline:
        page = await client.jobs(run_id=run_id)
        if page.items:
            return page.items[0]
        await asyncio.sleep(POLL_S)
    raise DeployUnavailable(f"the run {run_id} did not appear within {VISIBLE_WITHIN_S:g} s")


async def wait_for_end(client: AsyncClient, run: str) -> RunDetail:
    """The run once it is ended and complete."""
    deadline = time.monotonic() + VISIBLE_WITHIN_S
    detail = await client.run(run)
    while time.monotonic() < deadline:
        if detail.state == "ended" and detail.completeness is not None and detail.completeness.verdict != "waiting":
            return detail
        await asyncio.sleep(POLL_S)
        detail = await client.run(run)
    raise DeployUnavailable(f"the run {run} is {detail.state}, not ended, after {VISIBLE_WITHIN_S:g} s")


async def summarise(client: AsyncClient, addresses: Addresses, run: RunDetail) -> dict[str, Any]:
    """What the store knows of the run, counted through the API."""
    logs = await whole(lambda cursor: client.logs(run.run, scope="below", cursor=cursor))
    names = [log.event_name for log in logs]
    spans = await whole(lambda cursor: client.spans(run.run, cursor=cursor))
    health = await client.ready()
    collector = await asyncio.to_thread(collector_in_use)
    return {
        "run": run.run,
        "run_id": run.run_id,
        "job": run.job,
        "site": run.site,
        "state": run.state,
        "result": run.result,
        "attributes": run.attributes,
        "subjobs": sum(1 for span in spans if span.job is not None and span.span_id != run.span_id),
        "spans": len(spans),
        "logs": len(logs),
        "progress_events": names.count(events.WAFER_JOB_PROGRESS),
        "heartbeats": names.count(events.WAFER_JOB_HEARTBEAT),
        "collector": {"version": collector.version, "path": str(collector.path)},
        "store": {"engine": health.engine, "version": health.version},
        "url": f"http://{addresses.ui}/run?run={run.run}",
    }


async def whole(fetch: Callable[[str | None], Awaitable[PageModel[M]]]) -> list[M]:
    """Every item of every page."""
    items: list[M] = []
    cursor: str | None = None
    while True:
        page = await fetch(cursor)
        items += page.items
        cursor = page.cursor
        if cursor is None:
            return items


def collector_in_use() -> Binary:
    """The Collector that `wafer collector run` picks."""
    config = CollectorConfig.load()
    return find(config, fragments.choose(config))


def since_ms(instant: str | None, now_s: float) -> int | None:
    """Milliseconds from an API time to a clock reading of this machine."""
    return None if instant is None else round((now_s - datetime.fromisoformat(instant).timestamp()) * 1000)


def complaints(summary: dict[str, Any]) -> list[str]:
    """What is not as a working system must have it."""
    wanted = {
        "the run has ended": summary["state"] == "ended",
        "its result is success": summary["result"] == "success",
        "the API showed it while it ran": summary["saw_running_before_end"],
        "it has subjobs": summary["subjobs"] > 0,
        "every subjob and the run itself is a span": summary["spans"] > summary["subjobs"],
        "it reported progress": summary["progress_events"] > 0,
        "it sent heartbeats": summary["heartbeats"] > 0,
        "its dies are counted": summary["attributes"].get("wafer.param.dies", 0) > 0,
    }
    return [f"not true: {promise}" for promise, kept in wanted.items() if not kept]
