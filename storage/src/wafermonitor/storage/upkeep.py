"""`wafer storage convert`: what an operator does to a store once, or now and then. Part of the group in `command`.

In: flags and the environment. Out: one line, or one JSON object with `--json`; how far it is, on stderr. Called by: people.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from wafermonitor.instrumentation.settings import options
from wafermonitor.storage.answers import Reporter, address, as_json_option, say
from wafermonitor.storage.config import Config

if TYPE_CHECKING:
    from wafermonitor.storage.timescale.convert import Plan, Progress


@click.command()
@options(Config)
@click.option("--dry-run", is_flag=True, help="Say what would be moved, and do nothing.")
@click.option(
    "--batch-pages", type=click.IntRange(1), default=1000, show_default=True, help="Pages of 8 KiB moved in one transaction."
)
@as_json_option
def convert(*, dry_run: bool, batch_pages: int, as_json: bool, **flags: Any) -> None:
    """Turn the tables by day into hypertables, after CREATE EXTENSION timescaledb.

    Receivers and readers go on meanwhile. It may be killed at any point: called again, it goes on where it stopped.
    """
    asyncio.run(_convert(Config.load(**flags), dry_run=dry_run, batch_pages=batch_pages, as_json=as_json))


async def _convert(config: Config, *, dry_run: bool, batch_pages: int, as_json: bool) -> None:
    from wafermonitor.storage.timescale import convert as work
    from wafermonitor.storage.timescale.session import open_session

    reporter = Reporter()

    def report(progress: Progress) -> None:
        reporter(f"{progress.part.table} of {progress.part.day}: {progress.total} rows moved so far")

    async with address(config) as dsn, open_session(dsn) as connection:
        if dry_run:
            plan = await work.plan(connection)
            say({"tables": plan.tables, "days": [part._asdict() for part in plan.parts]}, _planned(plan), as_json=as_json)
            return
        done = await work.convert(connection, report, batch_pages=batch_pages)
    text = f"made hypertables: {', '.join(done.tables)}; " if done.tables else ""
    say(done._asdict(), f"{text}{done.rows} rows of {done.days} days moved", as_json=as_json)


def _planned(plan: Plan) -> str:
    days = [f"  {part.table} of {part.day}: about {part.rows} rows, {part.bytes / 1e6:.0f} MB" for part in plan.parts]
    tables = ", ".join(plan.tables) or "none"
    return "\n".join([f"tables to be made hypertables: {tables}; days to be moved: {len(days)}", *days])
