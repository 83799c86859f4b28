"""`wafer storage convert|check|tune|ddl|backup|restore`: what an operator does to a store now and then.

In: flags and the environment. Out: lines, or one JSON object with `--json`; how far it is, on stderr. Called by: people.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wafermonitor.instrumentation.settings import options
from wafermonitor.storage.answers import Reporter, address, as_json_option, say
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import clickhouse_extra
from wafermonitor.storage.errors import StorageRejected

if TYPE_CHECKING:
    from wafermonitor.storage.timescale.convert import Plan, Progress
    from wafermonitor.storage.timescale.tuning import Host


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


@click.command()
@options(Config)
@as_json_option
def check(*, as_json: bool, **flags: Any) -> int:
    """Look whether the store is in order: schema, days ahead, indexes, settings, disk. Exit code 1 if it is not."""
    return asyncio.run(_check(Config.load(**flags), as_json=as_json))


async def _check(config: Config, *, as_json: bool) -> int:
    from wafermonitor.storage.timescale import inspection
    from wafermonitor.storage.timescale.session import open_session

    data = config.data_dir if config.dsn is None else None
    async with address(config) as dsn, open_session(dsn, command_timeout_s=config.command_timeout_s) as connection:
        found = await inspection.inspect(connection, data)
    failed = any(finding.level is inspection.Level.FAIL for finding in found)
    lines = [f"{finding.level:<5}{finding.name}: {finding.text}" for finding in found]
    say({"ok": not failed, "findings": [finding._asdict() for finding in found]}, "\n".join(lines), as_json=as_json)
    return 1 if failed else 0


@click.command()
@options(Config)
@click.option("--memory-gib", type=click.FloatRange(0.25), help="Of the server's host.  [default: this machine's]")
@click.option("--processors", type=click.IntRange(1), help="Of the server's host.  [default: this machine's]")
@click.option("--disk-gib", type=click.FloatRange(1), help="Of the server's data.  [default: that of the data folder]")
@click.option("--timescaledb/--no-timescaledb", default=False, help="With the lines that TimescaleDB needs.")
@as_json_option
def tune(
    *,
    memory_gib: float | None,
    processors: int | None,
    disk_gib: float | None,
    timescaledb: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Print settings for a PostgreSQL that has its host to itself, each with its reason, for postgresql.conf."""
    from wafermonitor.storage.timescale import tuning

    host = _host(Config.load(**flags), memory_gib, processors, disk_gib)
    lines = tuning.settings(host, timescaledb=timescaledb)
    facts = {"host": host._asdict(), "settings": [line._asdict() for line in lines]}
    say(facts, tuning.conf(lines).rstrip(), as_json=as_json)


def _host(config: Config, memory_gib: float | None, processors: int | None, disk_gib: float | None) -> Host:
    from wafermonitor.storage.timescale import tuning

    here = tuning.host(config.data_dir)
    return tuning.Host(
        here.memory_bytes if memory_gib is None else int(memory_gib * 1024**3),
        here.processors if processors is None else processors,
        here.disk_bytes if disk_gib is None else int(disk_gib * 1024**3),
    )


@click.command()
@options(Config)
@click.argument("part", type=click.Choice(["schema", "enhancements", "configuration"]), default="schema")
@click.option("--cluster", help="Print it for ClickHouse instead: for the cluster of this name in its remote_servers.")
@click.option("--database", default="wafer", show_default=True, help="With --cluster: the database to make.")
def ddl(*, part: str, cluster: str | None, database: str, **flags: Any) -> None:
    """Print the schema as a file for psql: `schema`, then `enhancements` (hypertables), then `configuration` (settings)."""
    config = Config.load(**flags)
    if cluster is not None:
        with clickhouse_extra():
            from wafermonitor.storage.clickhouse import operating
        click.echo(operating.ddl(cluster, database, config), nl=False)
        return
    from wafermonitor.storage.timescale import ddl as files

    if part == "configuration":
        text = files.configuration(_host(config, None, None, None))
    else:
        text = {"schema": files.schema, "enhancements": files.enhancements}[part](config.hot_days)
    click.echo(text, nl=False)


@click.command()
@options(Config)
@click.argument("target", type=click.Path(path_type=Path))
@as_json_option
def backup(*, target: Path, as_json: bool, **flags: Any) -> None:
    """Copy the embedded server's data to a new folder TARGET, and read the copy back. The server may run meanwhile."""
    asyncio.run(_backup(Config.load(**flags), target, as_json=as_json))


async def _backup(config: Config, target: Path, *, as_json: bool) -> None:
    from wafermonitor.storage.timescale import backup as work
    from wafermonitor.storage.timescale import embedded

    _embedded_only(config)
    server = await embedded.start(config.data_dir, pg_bin=config.pg_bin, timeout_s=config.start_timeout_s)
    try:
        made = await work.take(config.data_dir, server.port, target, config.pg_bin, Reporter())
    finally:
        await server.stop()
    say(made._asdict(), f"{made.size_bytes / 1e6:.0f} MB in {made.path}, read back and found whole", as_json=as_json)


@click.command()
@options(Config)
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False))
@as_json_option
def restore(*, source: Path, as_json: bool, **flags: Any) -> None:
    """Make a new data home (--data-dir) from the backup SOURCE, start it once, and look whether it can be used."""
    asyncio.run(_restore(Config.load(**flags), source, as_json=as_json))


async def _restore(config: Config, source: Path, *, as_json: bool) -> None:
    from wafermonitor.storage.timescale import backup as work
    from wafermonitor.storage.timescale import embedded, migrate
    from wafermonitor.storage.timescale.session import open_session

    _embedded_only(config)
    known = await work.restore(source, config.data_dir, config.pg_bin, Reporter())
    server = await embedded.start(config.data_dir, pg_bin=config.pg_bin, timeout_s=config.start_timeout_s)
    try:
        async with open_session(server.dsn) as connection:
            now = await migrate.status(connection)
    finally:
        await server.stop()
    facts = {
        "data_dir": str(config.data_dir),
        "taken": known.taken.isoformat(),
        "release": known.release,
        "current": now.current,
    }
    upgrade = "" if now.current else "; the next start upgrades its schema"
    say(facts, f"{config.data_dir} holds the store of {known.taken:%Y-%m-%d %H:%M} UTC and starts{upgrade}", as_json=as_json)


def _embedded_only(config: Config) -> None:
    if config.dsn is not None:
        raise StorageRejected(
            "WAFER_STORAGE_DSN names a server of yours: back it up with pg_basebackup or pgBackRest, as docs/storage.md says"
        )
