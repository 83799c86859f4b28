"""`wafer maintain`: keep the store in order, do it once, say what comes, say whether it is done.

In: flags, the environment (`WAFER_STORAGE_*`, `WAFER_ARCHIVE_*`, `WAFER_MAINTAIN_*`). Out: lines, or JSON with `--json`.
Called by: people, cron, `wafer up` (`run`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from wafermonitor.instrumentation.service import configure_logging, stop_event
from wafermonitor.instrumentation.settings import options
from wafermonitor.storage.answers import as_json_option, refuse_others, say
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.maintain.config import Config

if TYPE_CHECKING:
    from wafermonitor.storage.maintain.keeper import Outcome, Told
    from wafermonitor.storage.maintain.outlook import Outlook
    from wafermonitor.storage.timescale.store import Storage

SERVICE = "wafer-maintain"
_SHOWN_TABLES = 12


@click.group()
def maintain() -> None:
    """Keep the store in order: days ahead, rollups, compression, archive, retention, statistics."""


@maintain.command()
@options(StorageConfig)
@as_json_option
def run(*, as_json: bool, **flags: Any) -> None:
    """Do every step when it is due, until SIGTERM or SIGINT. Any number may run: one works, the others wait."""
    configure_logging(SERVICE)
    asyncio.run(_run(StorageConfig.load(**flags), as_json=as_json))


@maintain.command()
@options(StorageConfig)
@click.option("--step", "names", multiple=True, help="Only this step; may be given more than once.")
@as_json_option
def once(*, names: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Do every step now, due or not. Exit code 1 when one failed, or another process is at it."""
    return asyncio.run(_once(StorageConfig.load(**flags), names, as_json=as_json))


@maintain.command()
@options(StorageConfig)
@as_json_option
def plan(*, as_json: bool, **flags: Any) -> None:
    """Say what will be archived and dropped next, and how much disk the store takes in 90 days."""
    asyncio.run(_plan(StorageConfig.load(**flags), as_json=as_json))


@maintain.command()
@options(StorageConfig)
@as_json_option
def status(*, as_json: bool, **flags: Any) -> int:
    """Say of each step when it last succeeded. Exit code 1 when one fails, is late or never ran."""
    return asyncio.run(_status(StorageConfig.load(**flags), as_json=as_json))


async def _run(config: StorageConfig, *, as_json: bool) -> None:
    from wafermonitor.storage.maintain import keeper

    stop = stop_event()
    opened = await connect(config)  # a store of any engine: one that needs nothing done is only waited for
    try:
        say({"ready": "maintain", "pid": os.getpid()}, "ready: the store is maintained", as_json=as_json)
        await keeper.keep(opened, stop, long=True, told=_told())
    finally:
        await opened.close()


async def _once(config: StorageConfig, names: Sequence[str], *, as_json: bool) -> int:
    from wafermonitor.storage.maintain import keeper
    from wafermonitor.storage.maintain.steps import STEPS

    known = [step.name for step in STEPS]
    if unknown := sorted(set(names) - set(known)):
        raise click.BadParameter(f"no step {', '.join(unknown)}; there are {', '.join(known)}", param_hint="--step")
    done: list[Outcome] = []
    busy = False
    async with _opened(config) as store:
        for long in (False, True):
            steps = [step for step in STEPS if step.long is long and (not names or step.name in names)]
            if steps:
                round_ = await keeper.run_round(store, steps, now_ns=time.time_ns(), force=True, told=_told())
                busy = busy or round_ is None
                done += round_ or []
    lines = [
        f"{one.step}: {one.report or 'nothing to do' if one.outcome != 'failed' else f'FAILED: {one.report}'}" for one in done
    ]
    lines += ["another process is doing it"] if busy else []
    say({"busy": busy, "steps": [one._asdict() for one in done]}, "\n".join(lines), as_json=as_json)
    return 1 if busy or any(one.outcome == "failed" for one in done) else 0


async def _plan(config: StorageConfig, *, as_json: bool) -> None:
    from wafermonitor.storage.maintain.outlook import outlook

    async with _opened(config) as store:
        found = await outlook(store, Config.load(), ArchiveConfig.load(), time.time_ns())
    facts = found._asdict() | {"rooms": [room._asdict() for room in found.rooms]}
    say(facts, "\n".join(_outlook_lines(found)), as_json=as_json)


async def _status(config: StorageConfig, *, as_json: bool) -> int:
    from wafermonitor.storage.maintain.outlook import standings

    async with _opened(config) as store:
        found = await standings(store, ArchiveConfig.load(), time.time_ns())
    lines = [f"{one.standing:<8}{one.step:<12}{one.last_success or '-':<27}{one.report or one.does}" for one in found]
    bad = [one.step for one in found if one.standing != "good"]
    lines.append(f"look at: {', '.join(bad)}" if bad else "maintenance is in order")
    say({"good": not bad, "steps": [one._asdict() for one in found]}, "\n".join(lines), as_json=as_json)
    return 1 if bad else 0


@asynccontextmanager
async def _opened(config: StorageConfig) -> AsyncIterator[Storage]:
    refuse_others(config)
    opened: Any = await connect(config)
    try:
        yield opened
    finally:
        await opened.close()


def _told() -> Told:
    """Rounds and steps as runs of jobs, where this process was told to send telemetry."""
    from wafermonitor.storage.maintain.keeper import silent

    if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return silent
    from wafermonitor.instrumentation import job

    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE)

    def told(name: str) -> AbstractContextManager[object]:
        return job(name if name == "maintain" else f"maintain.{name}")

    return told


def _outlook_lines(found: Outlook) -> list[str]:
    lines = [found.keeps]
    lines += (
        [f"next to be archived: {', '.join(f'{day} ({rows} rows)' for day, rows in found.archive[:_SHOWN_TABLES])}"]
        if found.archive
        else []
    )
    lines += [f"next to be dropped: {', '.join(found.drop[:_SHOWN_TABLES])}"] if found.drop else []
    lines += [f"next to be merged: files of {found.merge} archived days"] if found.merge else []
    lines.append(f"{'table':<18}{'now':>12}{'a day':>12}{'in 90 days':>12}")
    lines += [
        f"{room.table:<18}{_megabytes(room.bytes):>12}{_megabytes(room.daily_bytes):>12}{_megabytes(room.later_bytes):>12}"
        for room in found.rooms[:_SHOWN_TABLES]
    ]
    lines.append(f"{'all':<18}{_megabytes(found.bytes):>12}{'':>12}{_megabytes(found.later_bytes):>12}")
    if found.archive_daily_bytes:
        lines.append(f"archive: {_megabytes(found.archive_daily_bytes)} a day")
    if found.free_bytes is not None:
        end = f"full in {found.full_in_days} days" if found.full_in_days else "enough for 90 days"
        lines.append(f"free on this disk: {_megabytes(found.free_bytes)}, {end}")
    return lines


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
